"""Every tick of every schedule becomes one task, whatever is done to the monitor that leads."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from datetime import timedelta

import pytest

from cli.stack import Stack
from tests.system import failpoint
from tests.system.books import Books
from tests.system.conftest import SECOND_MONITOR, Scale
from tests.system.patience import until
from tests.system.processes import frozen, is_alive, present
from tests.system.service import Service
from tests.system.test_monitors import leader_of

#: The whole tick is undone here, or it is whole and its ticket is missing.
IN_THE_TRANSACTION, AFTER_IT = "f2", "f18"
LEADS_WITHIN = 30


def test_no_tick_is_lost_or_doubled_by_leaders_that_die_or_freeze(
    service: Service,
    stack: Stack,
    books: Books,
    scale: Scale,
    chance: random.Random,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faults = [killed, dies_at(IN_THE_TRANSACTION), dies_at(AFTER_IT), freezes, freezes_at(IN_THE_TRANSACTION)]
    if scale.is_long:
        faults = [chance.choice(faults) for _ in range(60)]
    with present(stack, SECOND_MONITOR):
        ids = [each_second(service, number) for number in range(scale.of(3, 12))]
        for fault in faults:
            leads(service)
            before = books.total("ticks_fired")
            fault(service)
            until(lambda before=before: books.total("ticks_fired") > before, "ticks again", within=LEADS_WITHIN)  # type: ignore[misc]
            # Of leaders that all die before they are done, more than a hundred ticks would be left, and be passed over.
            until(lambda: books.late_ticks() == 0, "made up for", within=LEADS_WITHIN)
        until(lambda: books.total("ticks_fired") >= scale.of(1, 6_000), "as many ticks", within=900)
        for each in ids:
            assert service.ask("POST", f"/api/schedules/{each}/pause").status_code == 200
    books.at_rest(within=scale.of(60, 300))

    ticks = {each: books.ticks(each) for each in ids}
    for each, found in ticks.items():
        assert found == [found[0] + timedelta(seconds=number) for number in range(len(found))], each
    assert books.states() == {"succeeded": sum(map(len, ticks.values()))}
    assert books.total("ticks_passed_over") == 0
    with capsys.disabled():
        print(f"\n{sum(map(len, ticks.values())):,} ticks, {len(faults)} faults of the leader: one task each")


def each_second(service: Service, number: int) -> str:
    task = {"task_type": "data_processing", "parameters": {"data": [number]}}
    body = {"name": f"each-second-{number}", "cron": "* * * * * *", "task": task, "misfire_policy": "run_all"}
    answer = service.ask("POST", "/api/schedules", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["schedule_id"])


def leads(service: Service) -> int:
    """The pid of the monitor that leads, once one that lives does."""

    def living() -> int:
        pid = leader_of(service)
        return pid if pid and is_alive(pid) else 0

    return until(living, "a leader", within=LEADS_WITHIN)


Fault = Callable[[Service], None]


def killed(service: Service) -> None:
    os.kill(leads(service), signal.SIGKILL)


def dies_at(point: str) -> Fault:
    def fault(service: Service) -> None:
        failpoint.arm(point)
        failpoint.hit(point, within=LEADS_WITHIN)

    return fault


def freezes(service: Service) -> None:
    pid = leads(service)
    with frozen(pid):
        until(lambda: leader_of(service) not in (0, pid), "another leader", within=LEADS_WITHIN)


def freezes_at(point: str) -> Fault:
    """In the middle of a transaction, or right after it."""

    def fault(service: Service) -> None:
        failpoint.arm(point, "freeze")
        pid = failpoint.hit(point, within=LEADS_WITHIN)
        with frozen(pid):
            until(lambda: leader_of(service) not in (0, pid), "another leader", within=LEADS_WITHIN)

    return fault
