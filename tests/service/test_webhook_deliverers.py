"""Who delivers: any number of processes, each delivery by one of them, and none held up by a receiver that hangs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from ledger import acceptance, db, deliveries, transitions, webhook_secrets
from ledger.callers import Caller, Scope
from ledger.models import events, webhook_deliveries, webhook_tries
from tasks.retention import Purge
from tasks.webhooks import sending
from tests import life, receiver, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.receiver import Receiver
from tests.service.posting import ENDS, broken, deliver, let_pass, only, told
from tests.service.test_retention import over as ended
from workers.webhooks import BOUNDS, Deliverer


@contextmanager
def delivering(deliverers: Sequence[Deliverer]) -> Iterator[None]:
    """Some of the processes that deliver, each in a thread."""
    with ThreadPoolExecutor(len(deliverers)) as hands:
        running = [hands.submit(each.run) for each in deliverers]
        try:
            yield
        finally:
            for each in deliverers:
                each.over.set()
                each.woken.set()
            for future in running:
                future.result()


def test_two_that_deliver_at_once_deliver_each_once(hook: Receiver) -> None:
    for _ in range(30):
        life.work(told(hook))
    with delivering([Deliverer(), Deliverer(), Deliverer()]):
        eventually(lambda: deliveries.waiting()[0] == 0)
    assert len(hook.ids) == len(set(hook.ids)) == 30
    assert broken() == []


def test_many_that_take_at_once_take_each_once(hook: Receiver) -> None:
    for _ in range(20):
        transitions.stop(told(hook), remark="by a test")
    [lane] = deliveries.due_lanes()
    with ThreadPoolExecutor(8) as hands:
        taken = [each for some in hands.map(lambda _: deliveries.take(lane, 3), range(24)) for each in some]
    assert len({each.seq for each in taken}) == len(taken) == 20


def test_receivers_that_hang_keep_nobody_else_waiting(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty of them, each in a lane of its own: more than there are hands."""
    monkeypatch.setattr(sending, "TRY_SECONDS", 30.0)
    with receiver.receiving() as hanging:
        hanging.usual = receiver.hang(hanging)
        for number in range(1, 41):
            url = f"http://127.0.0.1:{hanging.port}/"
            owner = Caller(f"owner-{number}", frozenset({Scope.WRITE}))
            webhook_secrets.make(overlap_seconds=1, caller=owner)
            task = life.new(webhook={"url": url, "events": ENDS})
            acceptance.accept([task], caller=owner)
            transitions.stop(task.task_id, remark="by a test")
        with delivering([deliverer := Deliverer()]):
            eventually(lambda: len(hanging.got) >= BOUNDS[None].of_kind)
            deliverer.lanes.answered[f" {hook.url.removesuffix('/hook')}"] = True
            well = told(hook)
            life.work(well)
            eventually(lambda: only(well).row.outcome == "delivered")
            assert len(hanging.got) == BOUNDS[None].of_kind
            hanging.over.set()


def die_delivering() -> None:
    deliver()


def test_a_deliverer_that_dies_after_sending_delivers_again_under_the_same_id(
    hook: Receiver, secret: str, configured: Callable[..., None], tmp_path: Path
) -> None:
    configured(SLUICE_FAILPOINT_DIR=tmp_path)
    (tmp_path / "f23").write_text("kill")
    task_id = told(hook)
    life.work(task_id)
    with life.child(die_delivering) as pid:
        assert life.end_of(pid) == -9
    assert (len(hook.got), deliver()) == (1, 0), "its lease has yet to run out"
    let_pass(deliveries.LEASE_SECONDS)
    assert deliver() == 1
    assert len(hook.ids) == 2
    assert len(set(hook.ids)) == 1
    assert [each.verified(secret)["data"]["task_id"] for each in hook.got] == [task_id, task_id]
    one = only(task_id)
    assert (one.row.outcome, [each.status for each in one.tries]) == ("delivered", [None, 204])


def test_a_try_that_lost_its_lease_settles_nothing(hook: Receiver) -> None:
    task_id = told(hook)
    life.work(task_id)
    [lane] = deliveries.due_lanes()
    [slow] = deliveries.take(lane, 1)
    let_pass(deliveries.LEASE_SECONDS)
    [fast] = deliveries.take(lane, 1)
    failed = deliveries.Tried(1, error="too late")
    assert deliveries.message(slow) is None
    assert not deliveries.given_up(slow, failed)
    assert not deliveries.delivered(slow, deliveries.Tried(1, 200))
    assert deliveries.delivered(fast, deliveries.Tried(1, 200))
    assert [each.status for each in only(task_id).tries] == [None, 200]


def test_a_deliverer_outlives_an_absent_ledger(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    look, looks = deliveries.due_lanes, list[int]()

    def away_at_first() -> list[str]:
        looks.append(1)
        if len(looks) < 3:
            raise db.Unavailable("a test has cut the line")
        return look()

    monkeypatch.setattr(deliveries, "due_lanes", away_at_first)
    task_id = told(hook)
    life.work(task_id)
    with delivering([Deliverer()]):
        eventually(lambda: only(task_id).row.outcome == "delivered")


# --- the books -------------------------------------------------------------------------------------------------------


def test_deliveries_go_with_their_task_and_not_before_they_are_over(
    hook: Receiver, configured: Callable[..., None]
) -> None:
    configured(SLUICE_KEEP_DAYS="30")
    task_id = ended(31)
    life.put(task_id, webhook={"url": hook.url, "events": ["task.succeeded"]})
    with db.transaction() as connection:
        seq = connection.execute(
            select(events.c.seq).where(events.c.task_id == task_id, events.c.event == "finished")
        ).scalar_one()
        row = {"seq": seq, "task_id": task_id, "lane": "x", "next_at": db.NOW, "tries_left": 1}
        connection.execute(webhook_deliveries.insert().values(row))
    assert Purge().go_on() == 0
    deliver()
    assert len(hook.got) == 1
    assert Purge().go_on() == 1
    with db.reading() as connection:
        assert connection.execute(select(webhook_deliveries)).all() == []
        assert connection.execute(select(webhook_tries)).all() == []


def test_a_forgotten_delivery_is_found(hook: Receiver) -> None:
    life.work(told(hook))
    with db.transaction() as connection:
        connection.execute(delete(webhook_deliveries))
    assert ["webhooks" in words for words in broken()] == [True]


def test_a_delivery_of_nothing_is_found(hook: Receiver) -> None:
    life.work(told(hook))
    with db.transaction() as connection:
        connection.execute(update(webhook_deliveries).values(seq=webhook_deliveries.c.seq + 1_000))
    assert sum("none of it" in words for words in broken()) == 1
