"""One monitor leads, whatever is killed or frozen, and whoever leads no more writes nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from ledger import db, dispatches, leadership, queries, transitions
from ledger.leadership import Deposed, Term
from ledger.models import leadership as lease
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import CHECKOUT, eventually
from workers import leading as part

GAP_SECONDS = 10


@pytest.fixture(autouse=True)
def _nobody_leads(servers: object) -> None:
    let_the_lease_end()


def let_the_lease_end() -> None:
    with db.ledger().begin() as connection:
        connection.execute(update(lease).values(lease_until=db.NOW))


def begun(holder: str = "one") -> Term:
    term = leadership.claim(holder)
    assert term is not None
    return term


def test_only_one_leads_and_each_term_has_a_number_of_its_own() -> None:
    first = begun("one")
    assert leadership.claim("two") is None
    assert leadership.renew(first)
    let_the_lease_end()
    second = begun("two")
    assert second.number == first.number + 1
    assert not leadership.renew(first)
    assert leadership.renew(second)


def test_a_term_that_is_over_is_not_renewed_although_nobody_else_leads() -> None:
    term = begun()
    let_the_lease_end()
    assert not leadership.renew(term)


def test_a_released_lease_is_taken_at_once_and_only_its_holder_releases_it() -> None:
    first = begun("one")
    assert leadership.release(first)
    second = begun("two")
    assert not leadership.release(first)
    assert leadership.renew(second)


def test_whoever_leads_no_more_writes_nothing() -> None:
    due, queued = life.accept(delay_seconds=1), life.accept()
    term = begun("one")
    let_the_lease_end()
    life.let_pass(60)
    before = life.everything()
    for taken in (False, True):
        if taken:
            begun("two")
        with leadership.acting(term):
            for write in (
                dispatches.release_due,
                lambda: transitions.remark(queued, "redispatched", "words"),
                lambda: transitions.count("redispatched", 1),
                lambda: dispatches.mark_dispatched([life.ticket(queued)]),
                leadership.check,
            ):
                with pytest.raises(Deposed):
                    write()
    assert life.everything() == before
    assert life.state(due) == State.SCHEDULED
    assert queries.totals() == {}


def test_whoever_leads_writes() -> None:
    due = life.accept(delay_seconds=1)
    life.let_pass(60)
    with leadership.acting(begun()):
        leadership.check()
        assert [ticket.task_id for ticket in dispatches.release_due()] == [due]


def test_no_term_begins_in_the_middle_of_anothers_transaction() -> None:
    term = begun("one")
    with leadership.acting(term), db.transaction() as connection:
        # `claim` would wait here for as long as the transaction takes.
        with db.ledger().connect() as beside, pytest.raises(OperationalError, match=r"NOWAIT|Lock wait"):
            beside.execute(select(lease).with_for_update(nowait=True))
        connection.execute(select(func.count()).select_from(lease))


# --- real monitors -------------------------------------------------------------------------------------------------


@contextmanager
def monitors(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Monitors as processes, of which one leads."""
    command = [sys.executable, "-m", "workers.monitor"]
    running = [
        subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(number)
    ]
    try:
        eventually(lambda: leading() in {each.pid for each in running}, what="a leader")
        yield running
    finally:
        for each in running:
            with suppress(ProcessLookupError):
                each.send_signal(signal.SIGCONT)
            each.kill()
            each.wait()


def leading() -> int:
    """The pid of the monitor that leads now, 0 for none."""
    found = leadership.leader()
    return int(found.holder.rpartition(":")[2]) if found and found.seconds_left > 0 else 0


@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGKILL, GAP_SECONDS), (signal.SIGSTOP, GAP_SECONDS), (signal.SIGTERM, 3)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_another_monitor_leads_soon_after(number: signal.Signals, seconds: float) -> None:
    with monitors(2) as running:
        first = leading()
        other = next(each.pid for each in running if each.pid != first)
        os.kill(first, number)
        struck = time.monotonic()
        eventually(lambda: leading() == other, within=60, every=0.02, what="the other one leads")
        assert time.monotonic() - struck < seconds
        due = life.accept(delay_seconds=0.1)
        eventually(lambda: life.state(due) == State.QUEUED, what="the other one goes round")


def test_a_leader_that_thaws_finds_another_one_and_lets_it_lead() -> None:
    with monitors(2) as running:
        first = leading()
        other = next(each.pid for each in running if each.pid != first)
        os.kill(first, signal.SIGSTOP)
        eventually(lambda: leading() == other, within=60)
        found = leadership.leader()
        os.kill(first, signal.SIGCONT)
        due = life.accept(delay_seconds=2)
        eventually(lambda: life.state(due) == State.QUEUED)
        assert leading() == other
        assert found and leadership.leader().term == found.term  # type: ignore[union-attr]


def test_the_metrics_name_the_leader_and_its_term(door: FlaskClient) -> None:
    term = begun("host:1")
    told = door.get("/metrics").text
    assert 'sluice_leader{monitor="host:1"} 1.0' in told
    assert f"sluice_leader_term {float(term.number)}" in told
    let_the_lease_end()
    assert 'sluice_leader{monitor="host:1"} 0.0' in door.get("/metrics").text


def test_a_monitor_that_hangs_in_a_round_loses_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "HANGING_SECONDS", 0.1)
    monkeypatch.setattr(part, "RENEW_SECONDS", 0.05)
    lead = part.Lead()
    assert lead.claim() is not None
    assert leading() == os.getpid()
    eventually(lambda: leading() == 0, within=30, what="the lease runs out")
    eventually(lambda: lead.term is None)
    lead.end()
