"""What has been over for long enough is forgotten, wherever it left something; nothing else is, no figure goes down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from uuid_utils import uuid7

from ledger import db, leadership, queries, replay, retention, tallies, transitions, verify, xa
from ledger.leadership import Deposed, Term
from ledger.models import events, marker, tasks
from ledger.states import FINAL, State
from settings import settings
from tasks import retention as policy
from tasks.retention import Purge
from tests import life, task_types  # noqa: F401  registers the types

DAY = 86_400
#: How a task that waited comes to an end.
ENDS = {State.REVOKED: "stopped", State.EXPIRED: "expired"}


@pytest.fixture(autouse=True)
def _kept(configured: Callable[..., None]) -> None:
    configured(SLUICE_KEEP_DAYS="30", SLUICE_KEEP_FAILED_DAYS="90")


def over(days: float, state: State = State.SUCCEEDED, *, accepted_days: float | None = None) -> str:
    """A task that ended so long ago."""
    task_id = life.accept("bulk_insert", {"rows": 3}) if state is State.SUCCEEDED else life.accept()
    if state is State.SUCCEEDED:
        life.work(task_id)
    elif state is State.FAILED:
        life.claim(task_id)
        error = {"type": "Error", "message": "words", "permanent": True, "at": None}
        transitions.give_up(task_id, 1, error=error, remark="words")
    else:
        transitions.stop(task_id, remark="by a test")
        life.put(task_id, state=state)
        with db.transaction() as connection:
            connection.execute(
                update(events).where(events.c.task_id == task_id, events.c.event == "stopped").values(
                    event=ENDS[state], state=state
                )
            )
    assert life.state(task_id) == state
    return age(task_id, days, accepted_days or days)


def age(task_id: str, days: float, accepted_days: float) -> str:
    """Make it older. Its id tells when it was accepted, so it gets another one everywhere."""
    older = str(uuid7(nanoseconds=int((_now() - accepted_days * DAY) * 1_000_000_000)))
    with db.ledger().begin() as connection:
        finished = db.earlier(days * DAY)
        connection.execute(update(tasks).where(tasks.c.id == task_id).values(id=older, finished_at=finished))
        connection.execute(update(events).where(events.c.task_id == task_id).values(task_id=older))
    with db.data().begin() as connection:
        connection.execute(update(marker).where(marker.c.task_id == task_id).values(task_id=older))
    return older


def _now() -> float:
    with db.reading() as connection:
        return float(connection.execute(select(func.unix_timestamp())).scalar_one())


def purge() -> int:
    return Purge().go_on()


def broken() -> list[str]:
    rules = verify.rules(db.ledger(), {name: db.data(name) for name in db.data_names()})
    return [each.words for rule in rules for each in verify.violations(rule)]


def markers(task_id: str) -> int:
    with db.reading(db.data()) as connection:
        return connection.execute(
            select(func.count()).select_from(marker).where(marker.c.task_id == task_id)
        ).scalar_one()


@pytest.mark.parametrize(
    ("state", "days"),
    [(State.SUCCEEDED, 30), (State.REVOKED, 30), (State.EXPIRED, 30), (State.FAILED, 90)],
)
def test_what_is_over_for_longer_than_it_is_kept_is_gone(state: State, days: int) -> None:
    kept, gone = over(days - 1, state), over(days + 1, state)
    assert purge() == 1
    assert queries.task(gone) is None
    assert queries.history(gone) == []
    assert markers(gone) == 0
    assert queries.task(kept) is not None
    assert queries.history(kept) != []
    assert markers(kept) == (state is State.SUCCEEDED)
    assert purge() == 0
    assert broken() == []


def test_age_is_counted_from_the_end_and_not_from_the_beginning() -> None:
    lately = over(5, accepted_days=100)
    assert purge() == 0
    assert queries.task(lately) is not None


def test_what_is_not_over_is_kept_however_old() -> None:
    waiting = age(life.accept(), 400, 400)
    life.put(waiting, finished_at=None)
    assert purge() == 0
    assert life.state(waiting) == State.QUEUED


def test_nothing_is_purged_when_it_is_kept_for_ever(configured: Callable[..., None]) -> None:
    configured(SLUICE_KEEP_DAYS="0", SLUICE_KEEP_FAILED_DAYS="0")
    for state in FINAL:
        over(1_000, state)
    assert purge() == 0


@pytest.fixture
def _cleared() -> Iterator[None]:
    yield
    life.clear_up()


@pytest.mark.usefixtures("_cleared")
def test_a_task_with_a_branch_in_doubt_is_kept_until_that_is_settled() -> None:
    other, task_id = over(31), over(31)
    branch = xa.Branch(xa.BranchId(task_id, 7, "archive"))
    branch.start()
    branch.prepare()
    branch.close()
    assert purge() == 1
    assert queries.task(other) is None
    assert (queries.task(task_id) is not None, markers(task_id)) == (True, 1)
    life.clear_up()
    assert purge() == 1


def test_nothing_is_purged_while_a_database_is_away(database_away: str) -> None:
    task_id = over(31)
    with db.transaction() as connection:
        connection.execute(update(tasks).values(participants=["data", database_away]))
    assert purge() == 0
    assert queries.task(task_id) is not None
    assert markers(task_id) == 1


@pytest.mark.parametrize("step", ["note", "forget_markers", "purge"])
def test_the_books_are_true_after_a_death_at_any_step(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = over(31)

    def die(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(retention, step, die)
        with pytest.raises(KeyboardInterrupt):
            purge()
    assert broken() == []
    assert purge() == 1
    assert (queries.task(task_id), markers(task_id), broken()) == (None, 0, [])


def test_a_task_that_is_replayed_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = over(91, State.FAILED)
    forget = retention.forget_markers

    def replay_first(*arguments: object) -> None:
        replay.replay(task_id, by="a test")
        forget(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(retention, "forget_markers", replay_first)
    assert purge() == 0
    assert life.state(task_id) == State.QUEUED
    assert broken() == []


def output_of(task_id: str) -> Path:
    made = Path(settings().storage_dir, "out", f"{task_id}-people.csv.gz")
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_bytes(b"made")
    return made


def test_what_a_task_made_goes_with_it_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, replayed = over(91, State.FAILED), over(91, State.FAILED)
    made = [output_of(gone), output_of(replayed)]
    forget = retention.forget_markers

    def replay_first(*arguments: object) -> None:
        replay.replay(replayed, by="a test")
        forget(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(retention, "forget_markers", replay_first)
        assert purge() == 1
    assert [each.exists() for each in made] == [False, True]
    made[1].unlink()


def test_the_figures_of_ends_never_go_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "GAP_SECONDS", 0)
    for state in sorted(FINAL):
        over(100, state)
    failed = over(1, State.FAILED)
    tallies.add_up()
    before = ends()
    assert before == {"expired": 1, "failed": 2, "revoked": 1, "succeeded": 1}
    assert purge() == len(FINAL)
    replay.replay(failed, by="a test")
    tallies.add_up()
    assert ends() == before


def ends() -> dict[str, int]:
    return {key.what: tally.number for key, tally in tallies.read().items() if key.what in set(FINAL)}


def test_batches_go_on_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "BATCH", 2)
    for _ in range(3):
        over(31, State.REVOKED)
        over(5, State.REVOKED, accepted_days=40)
    passes = Purge()
    assert sum(passes.go_on() for _ in range(5)) == 3
    assert passes.go_on() == 0, "it rests after a pass"


def test_who_leads_no_more_purges_nothing() -> None:
    task_id = over(31)
    with leadership.acting(Term(0, "nobody")), pytest.raises(Deposed):
        purge()
    assert (queries.task(task_id) is not None, markers(task_id), broken()) == (True, 1, [])


def test_what_a_forgotten_task_made_goes_with_it(configured: Callable[..., None], tmp_path: Path) -> None:
    configured(SLUICE_STORAGE_DIR=tmp_path, SLUICE_KEEP_DAYS="30", SLUICE_KEEP_FAILED_DAYS="90")
    young, old = over(10), over(40)
    made = {task_id: tmp_path / "out" / f"{task_id}-people.csv.gz" for task_id in (young, old)}
    uploaded = tmp_path / "in" / "people.csv"
    for path in (*made.values(), uploaded):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"made")
    assert purge() == 1
    assert (made[young].exists(), made[old].exists(), uploaded.exists()) == (True, False, True)
