"""Packs: many first attempts that one child claims, does and settles together, each of them a task like any other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import select, update

from ledger import db, dispatches, moving, packs, pauses, queries, transitions
from ledger.limits import Limit, Subject, Whose, put
from ledger.models import events, tasks, webhook_deliveries
from ledger.states import State
from ledger.tickets import Terms, Ticket
from tasks import heartbeat, pack, parent, results
from tests import life, task_types
from tests.conftest import eventually

WHOLE = ["accepted", "claimed", "finished"]


@pytest.fixture(autouse=True)
def _brisk(configured: Callable[..., None]) -> Iterator[None]:
    configured(SLUICE_STOP_GRACE_SECONDS=0.1)
    task_types.told.clear()
    yield
    life.clear_up()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not break a pack up."""
    monkeypatch.setattr(pack, "PATIENCE_SECONDS", 20)
    monkeypatch.setattr(heartbeat, "PULSE_SECONDS", 20)


def accept(number: int, task_type: str = "test_quick", **more: object) -> list[Ticket]:
    return [life.ticket(life.accept(task_type, **more)) for _ in range(number)]  # type: ignore[arg-type]


def run(tickets: Sequence[Ticket]) -> list[str | None]:
    """What a worker's child does with them, in this process."""
    before = signal.getsignal(heartbeat.SIGNAL)
    heartbeat.install()
    try:
        return pack.run(tickets, worker=life.WORKER)[0]
    finally:
        signal.signal(heartbeat.SIGNAL, before)


def states(tickets: Sequence[Ticket]) -> list[str]:
    return [life.task(ticket.task_id).state for ticket in tickets]


def claim(tickets: Sequence[Ticket]) -> list[transitions.Claim]:
    terms = {ticket.task_id: Terms(ticket.queue, ticket.timeout_seconds) for ticket in tickets}
    return packs.claim(terms, worker=life.WORKER, lease_seconds=60)


# --- in one piece ----------------------------------------------------------------------------------------------------


def test_each_task_of_a_pack_has_a_life_of_its_own() -> None:
    tickets = accept(5)
    assert run(tickets) == ["succeeded"] * 5
    for ticket in tickets:
        row = life.task(ticket.task_id)
        assert (row.state, row.result, row.worker, row.attempt) == ("succeeded", {"answer": 42}, life.WORKER, 1)
        assert (row.participants, row.error, row.lease_until) == ([], None, None)
        assert life.names_of_events(ticket.task_id) == WHOLE
        assert results.fetch(ticket.task_id, 1) == (True, {"answer": 42})


@pytest.mark.usefixtures("secret")
def test_the_webhook_of_one_is_told_of_its_begin_and_its_end() -> None:
    webhook = {"url": "https://example.com/", "events": ["task.running", "task.succeeded"]}
    tickets = [*accept(2), *accept(1, webhook=webhook), *accept(2)]
    run(tickets)
    assert told() == [(tickets[2].task_id, "claimed"), (tickets[2].task_id, "finished")]


def told() -> list[tuple[str, str]]:
    """The events that webhooks are to be told of, with their tasks."""
    of = select(events.c.task_id, events.c.event).join(webhook_deliveries, webhook_deliveries.c.seq == events.c.seq)
    with db.reading() as connection:
        return [(row.task_id, row.event) for row in connection.execute(of.order_by(events.c.seq))]


def test_what_a_pack_writes_of_a_task_is_what_is_written_of_one_alone() -> None:
    [together], alone = accept(1), life.accept()
    run([together])
    life.work(alone)
    told, ours = life.task(alone)._asdict(), life.task(together.task_id)._asdict()
    its_own = {"id", "created_at", "updated_at", "started_at", "finished_at", "dispatched_at", "dispatches"}
    assert {name: ours[name] for name in ours.keys() - its_own} == {name: told[name] for name in told.keys() - its_own}
    for one, other in zip(queries.history(alone), queries.history(together.task_id), strict=True):
        assert one[3:] == other[3:]


def test_a_limit_that_is_set_while_a_pack_is_claimed_holds_for_the_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets, alone = accept(3), life.accept()
    many = moving.many

    def many_after_a_limit(*moved: Any, **named: Any) -> None:
        monkeypatch.setattr(moving, "many", many)
        put(Limit(Whose(Subject.TYPE, "test_quick"), 1, None))
        life.claim(alone)
        many(*moved, **named)

    monkeypatch.setattr(moving, "many", many_after_a_limit)
    assert claim(tickets) == []
    assert states(tickets) == ["queued"] * 3
    assert life.state(alone) is State.RUNNING


def test_a_pack_that_overtakes_a_more_urgent_task_counts_as_one_inversion() -> None:
    better = life.accept(priority="high")
    dispatches.mark_dispatched([life.ticket(better)])
    life.let_pass(1)
    run(accept(3))
    assert queries.totals() == {"inversions": 1}


def test_a_result_is_its_own_tasks() -> None:
    tickets = [life.ticket(life.accept("data_processing", {"data": [number]})) for number in (1, 2, 3)]
    run(tickets)
    for number, ticket in enumerate(tickets, 1):
        assert life.task(ticket.task_id).result["data"]["sum"] == number


def test_a_failure_is_its_own_tasks() -> None:
    first, last = accept(2)
    [failing], [hopeless] = accept(1, "test_failing"), accept(1, "test_hopeless")
    assert run([first, failing, hopeless, last]) == ["succeeded", "retrying", "failed", "succeeded"]
    assert life.task(failing.task_id).retries == 1


def test_a_task_that_has_branches_or_tells_its_progress_is_settled_alone() -> None:
    [quick], insert = accept(1), life.ticket(life.accept("bulk_insert", {"rows": 100}))
    assert run([insert, quick]) == ["succeeded", "succeeded"]
    assert life.names_of_events(insert.task_id) == ["accepted", "claimed", "decided", "finished"]
    assert (life.rows(), life.in_doubt()) == (100, [])


# --- what stands in the way ------------------------------------------------------------------------------------------


def test_a_ticket_that_comes_twice_changes_nothing() -> None:
    tickets = accept(3)
    run(tickets)
    before = life.everything()
    run(tickets)
    assert life.everything() == before


def test_only_tasks_that_wait_for_this_very_ticket_are_claimed() -> None:
    good, stopped, claimed, elsewhere, longer, late = accept(6)
    transitions.stop(stopped.task_id, remark="a test")
    life.claim(claimed.task_id)
    with db.transaction() as connection:
        for ticket, values in (
            (elsewhere, {"queue": "data.low"}),
            (longer, {"timeout_seconds": 9}),
            (late, {"expires_at": db.earlier(1)}),
        ):
            connection.execute(update(tasks).where(tasks.c.id == ticket.task_id).values(**values))
    tickets = [good, stopped, claimed, elsewhere, longer, late]
    assert [each.task_id for each in claim(tickets)] == [good.task_id]


def test_a_paused_queue_gives_nothing_to_a_pack() -> None:
    tickets = accept(2)
    pauses.pause(["data.normal"], reason=None)
    assert claim(tickets) == []
    assert run(tickets) == [None, None]
    assert states(tickets) == ["queued", "queued"]


def test_a_row_that_somebody_holds_is_not_waited_for() -> None:
    held, free = accept(2)
    with db.transaction() as connection:
        connection.execute(tasks.select().where(tasks.c.id == held.task_id).with_for_update())
        assert [each.task_id for each in claim([held, free])] == [free.task_id]


def test_a_limit_holds_for_what_comes_in_packs() -> None:
    put(Limit(Whose(Subject.TYPE, "test_quick"), most_running=1))
    tickets = accept(3)
    assert claim(tickets) == []
    run(tickets)
    assert all(names == WHOLE for names in map(life.names_of_events, [each.task_id for each in tickets]))


# --- stops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_stop_takes_its_own_task_out_of_a_pack(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = accept(3)
    finish = packs.finish

    def after_a_stop(outcomes: dict[str, object]) -> set[str]:
        transitions.stop(tickets[which].task_id, remark="a test")
        return finish(outcomes)

    monkeypatch.setattr(packs, "finish", after_a_stop)
    expected = ["succeeded"] * 3
    expected[which] = "revoked"
    assert run(tickets) == expected
    assert states(tickets) == expected
    assert life.task(tickets[which].task_id).result is None


# --- time ------------------------------------------------------------------------------------------------------------


def test_what_a_pack_has_no_time_for_is_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "PATIENCE_SECONDS", -1)
    tickets = accept(3)
    assert run(tickets) == [None] * 3
    assert states(tickets) == ["queued"] * 3
    row = life.task(tickets[0].task_id)
    assert (row.attempt, row.retries, row.worker, row.lease_until, row.dispatched_at) == (1, 0, None, None, None)
    assert claim(tickets) == [], "they go alone from now on"


def test_what_nobody_asked_for_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "PATIENCE_SECONDS", -1)
    [ticket] = accept(1)
    life.claim(ticket.task_id)
    assert run([ticket]) == [pack.UNASKED]


def test_a_task_that_takes_long_lets_go_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before, [slow], after = accept(2), accept(1, "test_busy"), accept(2)
    tickets = [*before, slow, *after]
    monkeypatch.setattr(heartbeat, "PULSE_SECONDS", 0.2)

    def stop() -> None:
        eventually(lambda: states([*before, *after]) == ["succeeded", "succeeded", "queued", "queued"])
        transitions.stop(slow.task_id, remark="a test")

    thread = threading.Thread(target=stop)
    thread.start()
    assert run(tickets) == ["succeeded", "succeeded", "revoked", None, None]
    thread.join()


# --- when things fail ------------------------------------------------------------------------------------------------


def test_a_ledger_that_does_not_answer_at_the_end_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets, finish = accept(2), packs.finish

    def answer_lost(outcomes: dict[str, object]) -> set[str]:
        finish({tickets[0].task_id: outcomes[tickets[0].task_id]})
        raise db.Unavailable("the answer was lost")

    monkeypatch.setattr(packs, "finish", answer_lost)
    assert run(tickets) == ["succeeded", "succeeded"]
    assert [life.names_of_events(ticket.task_id) for ticket in tickets] == [WHOLE, WHOLE]
    assert [results.fetch(ticket.task_id, 1)[0] for ticket in tickets] == [True, True]


def test_a_ledger_that_does_not_answer_a_claim_is_asked_for_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*tickets: object, **more: object) -> list[transitions.Claim]:
        raise db.Unavailable("not there")

    monkeypatch.setattr(packs, "claim", away)
    assert run(accept(2)) == ["succeeded", "succeeded"]


@pytest.mark.parametrize("patience", [20, 0])
def test_a_claim_of_a_pack_of_which_nobody_heard_uses_up_no_retry(
    patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = accept(3, max_retries=0)
    claim = packs.claim

    def unheard(*pack: Any, **named: Any) -> None:
        assert len(claim(*pack, **named)) == 3
        raise db.Unavailable("its answer was lost")

    monkeypatch.setattr(packs, "claim", unheard)
    # When the ledger is back, the time of the pack is over.
    monkeypatch.setattr(pack, "PATIENCE_SECONDS", patience)
    run(tickets)
    assert states(tickets) == ["queued"] * 3


def test_tasks_of_a_pack_whose_child_died_are_tried_again_alone() -> None:
    tickets = accept(3)

    def die() -> None:
        claim(tickets)
        os.kill(os.getpid(), signal.SIGKILL)

    with life.child(die) as pid:
        os.waitpid(pid, 0)
        for ticket in tickets:
            parent.worker_lost(ticket.task_id, 1, "a test")
    assert states(tickets) == ["retrying"] * 3
    assert claim([life.ticket(ticket.task_id) for ticket in tickets]) == []


def test_a_pack_cannot_finish_what_another_attempt_has() -> None:
    [ticket] = accept(1)
    claim([ticket])
    transitions.hand_back(ticket.task_id, 1, remark="")
    life.claim(ticket.task_id, 2)
    assert packs.finish({ticket.task_id: {"answer": "stale"}}) == set()
    row = life.task(ticket.task_id)
    assert (row.state, row.attempt, row.result) == ("running", 2, None)


def test_two_packs_never_have_the_same_task() -> None:
    tickets = accept(30)
    found: list[str] = []

    def take(some: Sequence[Ticket]) -> None:
        found.extend(each.task_id for each in claim(some))

    threads = [threading.Thread(target=take, args=(some,)) for some in (tickets, tickets[::-1], tickets[10:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found))
    assert len(found) >= 10
    assert {life.task(task_id).state for task_id in found} == {State.RUNNING}
