"""Two monitors: one goes round, and the other one takes over when it is killed, frozen or told to end."""

from __future__ import annotations

from cli.stack import Stack
from tests.system.books import Books
from tests.system.conftest import SECOND_MONITOR
from tests.system.patience import until
from tests.system.processes import away, frozen, present
from tests.system.service import Service


def test_another_monitor_takes_over_from_a_frozen_one(service: Service, stack: Stack, books: Books) -> None:
    with present(stack, SECOND_MONITOR):
        with frozen(stack.pid("monitor")):
            frozen_out = service.post("bulk_insert", {"rows": 10}, delay=0.5)
            service.succeeded(frozen_out, within=40)
        # It has thawed, and finds that another one leads.
        service.succeeded(service.post("bulk_insert", {"rows": 10}, delay=0.5), within=40)
        told = books.history(frozen_out)
        assert [line.split()[1] for line in told].count("due") == 1, told
        assert leader_of(service) == stack.pid(SECOND_MONITOR)
        with away(stack, SECOND_MONITOR):
            until(lambda: leader_of(service) == stack.pid("monitor"), "the first one leads", within=20)
            service.succeeded(service.post("bulk_insert", {"rows": 10}, delay=0.5), within=40)


def leader_of(service: Service) -> int:
    """The pid of the monitor that leads, 0 for none."""
    for line in service.ask("GET", "/metrics").text.splitlines():
        if line.startswith("sluice_leader{") and line.endswith(" 1.0"):
            return int(line.partition('"} ')[0].rpartition(":")[2])
    return 0
