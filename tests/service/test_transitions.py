"""The ledger's verbs against a real database: each wins from the states of its move, for its own attempt, once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from ledger import acceptance, db, dispatches, queries, transitions
from ledger.models import tasks
from ledger.states import FINAL, MOVES, WAITING, State
from ledger.tickets import Ticket
from tests import life, task_types  # noqa: F401  registers the types

ERROR = {"type": "ValueError", "message": "no", "permanent": False, "at": None}

Verb = Callable[[str, int], bool]
VERBS: dict[str, Verb] = {
    "decided": lambda task_id, attempt: transitions.decide(task_id, attempt, databases=["data"], result={}),
    "finished": lambda task_id, attempt: transitions.finish(task_id, attempt, result={"a": 1}),
    "retried": lambda task_id, attempt: transitions.retry(
        task_id, attempt, after_seconds=1, error=ERROR, remark="again"
    ),
    "given_up": lambda task_id, attempt: transitions.give_up(task_id, attempt, error=ERROR, remark="no more"),
    "handed_back": lambda task_id, attempt: transitions.hand_back(task_id, attempt, remark="leaving"),
    "rolled_back": lambda task_id, attempt: transitions.rolled_back(
        task_id, attempt, undone={"rows_undone": 5, "rows_remaining": 0}
    ),
    "claimed": lambda task_id, attempt: (
        transitions.claim(task_id, attempt + 1, worker=life.WORKER, lease_seconds=60) is not None
    ),
}


def in_state(state: State, attempt: int = 2) -> str:
    task_id = life.accept()
    life.put(task_id, state=state, attempt=attempt, participants=[])
    return task_id


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_wins_only_from_its_states(name: str) -> None:
    for state in State:
        task_id = in_state(state)
        won = VERBS[name](task_id, 2)
        assert won == (state in MOVES[name].leaves), state
        assert life.state(task_id) is (MOVES[name].enters if won else state)


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("attempt", [1, 3])
def test_an_attempt_that_is_not_the_current_one_changes_nothing(name: str, attempt: int) -> None:
    for state in sorted(MOVES[name].leaves):
        task_id = in_state(state)
        before = life.everything()
        assert not VERBS[name](task_id, attempt)
        assert not transitions.renew(task_id, attempt, lease_seconds=60, done=1, total=2)
        assert life.everything() == before


@pytest.mark.parametrize("name", ["retried", "given_up"])
@pytest.mark.parametrize(("databases", "may_fail"), [(["data"], False), ([], True)])
def test_only_a_decision_without_databases_can_still_fail(
    name: str, databases: list[str], may_fail: bool
) -> None:
    task_id = life.accept()
    life.claim(task_id)
    assert transitions.decide(task_id, 1, databases=databases, result={})
    assert VERBS[name](task_id, 1) == may_fail
    assert (life.state(task_id) is State.COMMITTING) == (not may_fail)


def test_every_move_writes_one_event_and_a_loss_none() -> None:
    task_id = life.accept()
    life.claim(task_id)
    assert transitions.decide(task_id, 1, databases=["data"], result={"a": 1})
    assert not transitions.decide(task_id, 1, databases=["data"], result={"a": 2})
    assert transitions.finish(task_id, 1, keep_result=True)
    assert not transitions.finish(task_id, 1)
    assert life.names_of_events(task_id) == ["accepted", "claimed", "decided", "finished"]
    assert life.task(task_id).result == {"a": 1}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    walk=st.lists(
        st.tuples(st.sampled_from([*VERBS, "stop", "due"]), st.sampled_from([0, 0, 0, 1])), max_size=14
    )
)
def test_any_sequence_of_verbs_follows_the_table(walk: list[tuple[str, int]]) -> None:
    task_id = life.accept(delay_seconds=0.001 * (len(walk) % 2))
    state, attempt = State(life.task(task_id).state), 0
    for name, stale in walk:
        if name == "stop":
            expected = (
                State.REVOKED if state in WAITING else State.REVOKING if state is State.RUNNING else state
            )
            assert life.stopped(task_id) == (state, expected, attempt)
            state = expected
        elif name == "due":
            life.let_pass(100)
            dispatches.release_due()
            state = State.QUEUED if state in MOVES["due"].leaves else state
        else:
            decided = state is State.COMMITTING and name in ("retried", "given_up")
            legal = state in MOVES[name].leaves and not stale and not decided
            assert VERBS[name](task_id, attempt - stale) == legal, (name, state)
            state = MOVES[name].enters if legal else state
            attempt += legal and name == "claimed"
    row, told = life.task(task_id), queries.history(task_id)
    assert (row.state, row.attempt) == (state, attempt)
    assert (told[-1].state, told[-1].attempt) == (state, attempt), "the audit trail tells the same"
    assert sum(State(each.state) in FINAL for each in told) == (state in FINAL)
    assert (row.finished_at is not None) == (state in FINAL)


def test_of_many_claims_of_one_ticket_one_wins() -> None:
    task_id = life.accept()
    with ThreadPoolExecutor(8) as workers:
        claims = list(
            workers.map(
                lambda n: transitions.claim(task_id, 1, worker=f"data@{n}", lease_seconds=60), range(16)
            )
        )
    [won] = [claim for claim in claims if claim]
    assert (won.task_id, won.attempt) == (task_id, 1)
    assert life.names_of_events(task_id) == ["accepted", "claimed"]


def test_of_a_stop_and_a_decision_exactly_one_wins() -> None:
    winners = set()
    with ThreadPoolExecutor(2) as racers:
        for _ in range(30):
            task_id = life.accept()
            life.claim(task_id)
            deciding = racers.submit(transitions.decide, task_id, 1, databases=["data"], result=None)
            stopping = racers.submit(transitions.stop, task_id, remark="")
            decided, stopped = deciding.result(), stopping.result()
            assert stopped is not None
            assert decided != (stopped.before is State.RUNNING)
            assert life.state(task_id) is (State.COMMITTING if decided else State.REVOKING)
            winners.add(decided)
    assert winners, "the race was run"


def test_many_tasks_are_accepted_all_or_none() -> None:
    first = life.new()
    with pytest.raises(IntegrityError):
        acceptance.accept([life.new(), first, life.new(), first])
    assert life.everything() == ([], [], 0)
    acceptance.accept([life.new() for _ in range(100)])
    assert queries.counts()["queued"] == 100


def test_a_delayed_task_is_due_by_the_databases_clock() -> None:
    task_id = life.accept(delay_seconds=60)
    assert dispatches.release_due() == []
    life.let_pass(59)
    assert dispatches.release_due() == []
    life.let_pass(2)
    assert dispatches.release_due() == [Ticket(task_id, 1, "test_quick", "data.normal", 600)]
    assert dispatches.release_due() == []
    assert life.names_of_events(task_id) == ["accepted", "due"]


def test_run_at_is_kept_to_the_microsecond() -> None:
    run_at = datetime.now(UTC) + timedelta(days=400)
    task_id = life.accept(run_at=run_at)
    assert life.aware(life.task(task_id).due_at) == run_at
    assert life.state(task_id) is State.SCHEDULED
    past = life.accept(run_at=datetime(2001, 1, 1, tzinfo=UTC))
    assert [ticket.task_id for ticket in dispatches.release_due()] == [past]


def test_two_monitors_release_each_due_task_once() -> None:
    acceptance.accept([life.new(delay_seconds=1) for _ in range(60)])
    life.let_pass(2)
    with ThreadPoolExecutor(3) as monitors:
        parts = list(monitors.map(lambda _: dispatches.release_due(20), range(40)))
    found = [ticket for part in parts for ticket in part]
    assert len(found) == len({ticket.task_id for ticket in found}) == 60


def test_a_retry_waits_and_then_makes_a_new_attempt() -> None:
    task_id = life.accept()
    life.claim(task_id)
    assert transitions.retry(task_id, 1, after_seconds=30, error=ERROR, remark="again")
    row = life.task(task_id)
    assert (row.retries, row.lease_until, row.worker, row.dispatched_at) == (1, None, None, None)
    assert dispatches.release_due() == []
    life.let_pass(31)
    assert [ticket.attempt for ticket in dispatches.release_due()] == [2]
    assert life.claim(task_id, 2).retries == 1


def test_a_hand_back_uses_up_no_retry() -> None:
    task_id = life.accept()
    life.claim(task_id)
    assert transitions.hand_back(task_id, 1, remark="leaving")
    assert [ticket.attempt for ticket in queries.undispatched(-1)] == [2]
    assert life.claim(task_id, 2).retries == 0


@pytest.mark.parametrize("verb", [transitions.retry, transitions.give_up])
def test_who_acts_for_a_silent_attempt_waits_for_its_lease(verb: Callable[..., bool]) -> None:
    task_id = life.accept()
    life.claim(task_id, lease_seconds=30)
    arguments = {"error": ERROR, "remark": "silent", "expired_only": True}
    arguments |= {"after_seconds": 1} if verb is transitions.retry else {}
    assert not verb(task_id, 1, **arguments)
    life.let_pass(31)
    assert verb(task_id, 1, **arguments)


def test_renewing_keeps_the_lease_and_tells_the_progress() -> None:
    task_id = life.accept()
    life.claim(task_id, lease_seconds=1)
    life.let_pass(5)
    assert [row.task_id for row in queries.expired_leases()] == [task_id]
    assert transitions.renew(task_id, 1, lease_seconds=30, done=7, total=9)
    assert queries.expired_leases() == []
    assert (life.task(task_id).progress_done, life.task(task_id).progress_total) == (7, 9)


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_only_the_attempt_that_holds_the_row_renews_or_joins(attempt: int) -> None:
    for state in State:
        task_id = in_state(state)
        before = life.everything()
        renewed = transitions.renew(task_id, attempt, lease_seconds=60)
        joined = transitions.join(task_id, attempt, "data")
        assert renewed == (attempt == 2 and state in (State.RUNNING, State.COMMITTING)), state
        assert joined == (attempt == 2 and state is State.RUNNING), state
        assert (life.everything() == before) == (not renewed)


def test_every_database_that_an_attempt_joins_is_noted_once() -> None:
    task_id = life.accept()
    life.claim(task_id)
    for name in ("data", "archive", "data"):
        assert transitions.join(task_id, 1, name)
    assert life.task(task_id).participants == ["archive", "data"]


@pytest.mark.parametrize("state", sorted(State))
def test_a_stop_answers_what_it_found_and_made(state: State) -> None:
    task_id = in_state(state)
    after = {**dict.fromkeys(WAITING, State.REVOKED), State.RUNNING: State.REVOKING}.get(state, state)
    assert life.stopped(task_id) == (state, after, 2)
    assert life.state(task_id) is after
    assert transitions.was_stopped(task_id, 2) == (after in (State.REVOKING, State.REVOKED))
    assert not transitions.was_stopped(task_id, 1)


def test_a_stop_of_nothing_answers_none() -> None:
    assert transitions.stop("019aa5c0-0000-7000-8000-000000000001", remark="") is None


def test_a_confirmed_ticket_is_marked_unless_its_task_moved_on() -> None:
    waiting, claimed, stopped = life.accept(), life.accept(), life.accept()
    tickets = [life.ticket(task_id) for task_id in (waiting, claimed, stopped)]
    life.claim(claimed)
    transitions.stop(stopped, remark="")
    dispatches.mark_dispatched(tickets)
    with db.reading() as connection:
        marked = (
            connection.execute(select(tasks.c.id).where(tasks.c.dispatched_at.is_not(None))).scalars().all()
        )
    assert marked == [waiting]
    assert queries.undispatched(-1) == []


def test_an_old_ticket_marks_no_new_attempt() -> None:
    task_id = life.accept()
    first = life.ticket(task_id)
    life.claim(task_id)
    transitions.hand_back(task_id, 1, remark="")
    dispatches.mark_dispatched([first])
    assert [ticket.attempt for ticket in queries.undispatched(-1)] == [2]


def test_starting_before_a_better_task_counts_as_an_inversion() -> None:
    better, task_id = life.accept(priority="high"), life.accept(priority="low")
    assert not life.overtakes(task_id, ["data.high"]), "its ticket was not there yet"
    dispatches.mark_dispatched([life.ticket(better)])
    assert not life.overtakes(task_id, ["data.high"]), "it has only just come"
    life.let_pass(1)
    assert not life.overtakes(task_id, ["email.high"])
    assert not life.overtakes(task_id, [])
    assert life.overtakes(task_id, ["data.high"])
    assert queries.totals() == {"inversions": 1}
    assert better in life.remarks(task_id)


def take(connection: Connection, task_id: str) -> None:
    connection.execute(update(tasks).where(tasks.c.id == task_id).values(state=State.RUNNING, attempt=1))


def test_a_better_task_whose_claim_is_under_way_is_not_overtaken() -> None:
    first, second = life.accept(priority="high"), life.accept(priority="high")
    task_id = life.accept(priority="low")
    dispatches.mark_dispatched([life.ticket(first), life.ticket(second)])
    life.let_pass(1)
    with db.ledger().begin() as sibling:
        take(sibling, first)
        assert life.overtakes(task_id, ["data.high"]), "nobody claims the second"
        assert second in life.remarks(task_id)
        take(sibling, second)
        assert not life.overtakes(task_id, ["data.high"])


def test_a_claim_looks_for_more_urgent_tasks() -> None:
    better, task_id = life.accept(priority="high"), life.accept(priority="low")
    dispatches.mark_dispatched([life.ticket(better)])
    life.let_pass(1)
    assert transitions.claim(task_id, 1, worker=life.WORKER, lease_seconds=60, better_queues=["data.high"])
    assert life.names_of_events(task_id) == ["accepted", "claimed", "inverted"]


def test_a_remark_moves_nothing() -> None:
    task_id = life.accept()
    transitions.remark(task_id, "redispatched", "its ticket was lost", detail={"queue": "data.normal"})
    assert life.state(task_id) is State.QUEUED
    told = queries.history(task_id)[-1]
    assert (told.event, told.state, told.attempt, told.remark) == (
        "redispatched",
        "queued",
        0,
        "its ticket was lost",
    )
    assert told.detail == {"queue": "data.normal"}


def test_running_totals_add_up_under_a_crowd() -> None:
    with ThreadPoolExecutor(4) as crowd:
        list(crowd.map(lambda _: transitions.count("redispatched", 2), range(20)))
    assert queries.totals() == {"redispatched": 40}


def test_a_silent_transaction_gives_its_row_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a process freezes between two statements."""
    monkeypatch.setattr(db, "SILENCE_SECONDS", 1)
    db.be_patient(10)
    task_id = in_state(State.RUNNING)
    with pytest.raises(db.Unavailable), db.transaction() as silent:
        silent.execute(update(tasks).where(tasks.c.id == task_id).values(progress_done=7))
        assert VERBS["retried"](task_id, 2)
        silent.execute(select(tasks.c.id))
    db.be_patient(10)
    row = life.task(task_id)
    assert (row.state, row.progress_done) == (State.RETRYING, None)
