"""What docs/deploy/upgrade-and-backup.md promises of a snapshot of the server that is put back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.stack import Stack
from ledger import db, queries
from ledger.states import State
from tasks import resolve
from tests import life, task_types  # noqa: F401  registers the types
from tests.service.test_resolve import prepared


@pytest.fixture
def snapshot(
    servers: Stack, configured: Callable[..., None], tmp_path: Path
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Take one of the server that has all databases, and put it back."""
    if len({*servers.databases.values()}) > 1:
        pytest.skip("the databases are on several servers, of which no snapshot is one moment")
    server = servers.databases["ledger"]
    data, copy = servers.layout.server(server) / "data", tmp_path / "data"

    def while_it_rests(act: Callable[[], object]) -> None:
        servers.stop(server)
        act()
        servers.start(server)
        db.be_patient(10)

    def put_back() -> None:
        shutil.rmtree(data)
        shutil.copytree(copy, data)

    yield lambda: while_it_rests(lambda: shutil.copytree(data, copy)), lambda: while_it_rests(put_back)
    life.clear_up()


def test_branches_of_a_snapshot_are_settled_by_its_ledger(
    snapshot: tuple[Callable[[], None], Callable[[], None]],
) -> None:
    take, put_back = snapshot
    decided, running = life.accept("bulk_insert"), life.accept("bulk_insert")
    life.put(decided, state=State.COMMITTING, attempt=1, participants=["data"])
    life.put(running, state=State.RUNNING, attempt=1, participants=["data"], lease_until=db.earlier(1))
    prepared(decided)
    prepared(running)
    take()
    life.let_pass(10)
    resolve.settle_branches()
    later = life.accept("bulk_insert")
    put_back()

    assert {branch.task_id for branch in life.in_doubt()} == {decided, running}
    assert queries.task(later) is None, "accepted after the snapshot"
    life.let_pass(10)
    life.rounds_until(lambda: life.state(decided) is State.SUCCEEDED and not life.in_doubt())
    assert life.rows() == 1
    assert life.state(running) in (State.QUEUED, State.RETRYING)
