"""The broker is a cluster of three nodes, and the one that leads is killed again and again under load: publishers and
workers go on at another, no ticket is lost, every task is done once."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import beside, cluster, effects, soak
from tests.system.books import Books
from tests.system.patience import until
from tests.system.processes import away

QUEUE = "data.normal"
KILLS, TASKS_PER_KILL = 20, 60
#: Seconds after a kill within which tasks are started again, on a machine that others use too. The next node answers at
#: once; the others agree on a new leader within some seconds.
AGAIN_SECONDS = 30.0

pytestmark = pytest.mark.long


# On a busy machine a node needs most of a minute to come back.
@pytest.mark.timeout(2400)
def test_nothing_is_lost_though_the_leading_node_is_killed_again_and_again(
    stack: Stack, books: Books, chance: random.Random, tmp_path: Path, tell: Tell
) -> None:
    with cluster.running(tmp_path / "cluster") as brokers, away(stack, "data", "monitor"):
        nodes = {"CELERY_BROKER_URL": brokers.url}
        with (
            beside.monitor(stack, **nodes),
            beside.worker(stack, "data", **nodes),
            beside.api(stack, **nodes) as service,
        ):
            service.succeeded(service.post("data_processing", {"data": [1]}), within=60)
            brokers.whole()
            clients = soak.Clients(service, bodies(chance))
            with clients.posting():
                silences = [seconds_of_silence(brokers, clients, books) for _ in range(KILLS)]
            everything = books.everybody()
            books.all_succeeded(everything, within=600)
            resent = books.total("redispatched")
    tell(f"{KILLS} kills of the node that leads {QUEUE}, {len(clients.accepted)} accepted, all done")
    tell(f"posts that were tried again: {dict(clients.refused)}; {resent} tickets sent again")
    tell(f"seconds until the next start: {', '.join(f'{each:.1f}' for each in sorted(silences))}")
    assert not clients.refused, "the door depends on the broker"
    assert not set(clients.accepted) - everything, "accepted, and not there"
    assert {row.attempt for row in books.tasks(everything)} == {1}, "done more than once"
    assert max(silences) < AGAIN_SECONDS
    books.at_rest()
    assert not list(effects.signed_otherwise(books))


def seconds_of_silence(brokers: cluster.Cluster, clients: soak.Clients, books: Books) -> float:
    """Kill the leader under load and bring it back; how long it was until a task was started that came after its death,
    which has to wait for those before it too."""
    leader = brokers.leader(QUEUE)
    clients.let(TASKS_PER_KILL // 2)
    until(lambda: books.running("data"), "work", within=60)
    leader.kill()
    killed_at = datetime.now(UTC).replace(tzinfo=None)
    clients.let(TASKS_PER_KILL // 2)
    started = until(
        lambda: starts_of_later(killed_at, books), "a start of what came later", within=120, every=0.2
    )
    leader.start()
    brokers.whole()
    return (min(started) - killed_at).total_seconds()


def starts_of_later(moment: datetime, books: Books) -> list[datetime]:
    later = [row for row in books.of_type("signed_insert") if row.created_at > moment]
    return [row.started_at for row in later if row.started_at]


def bodies(chance: random.Random) -> list[dict[str, object]]:
    return [
        {
            "task_type": "signed_insert",
            "parameters": {"rows": chance.randrange(20, 200), "seconds": round(chance.uniform(0.05, 0.3), 3)},
        }
        for _ in range(KILLS * TASKS_PER_KILL)
    ]
