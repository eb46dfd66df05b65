"""What a deliverer does, one step at a time and without waiting, and what is to be seen of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, text, update

from ledger import db, deliveries, verify
from ledger.models import webhook_deliveries
from tasks.webhooks import tries
from tests import life
from tests.receiver import Receiver

ENDS = ["task.succeeded", "task.failed", "task.revoked", "task.expired"]


def told(to: Receiver, task_type: str = "test_quick", events: list[str] = ENDS, **more: Any) -> str:
    """A task that tells a receiver of its ends, or of other events."""
    return life.accept(task_type, webhook={"url": to.url, "events": events}, **more)


def deliver() -> int:
    """Try everything that is due, one after the other."""
    found = [each for lane in deliveries.due_lanes() for each in deliveries.take(lane, 100)]
    for each in found:
        tries.run(each)
    return len(found)


def let_pass(seconds: float) -> None:
    d = webhook_deliveries.c.next_at
    shift = text(f"INTERVAL {round(seconds * 1_000_000)} MICROSECOND")
    with db.transaction() as connection:
        connection.execute(update(webhook_deliveries).values({d: d.op("-")(shift)}))


def only(task_id: str) -> deliveries.Told:
    found = deliveries.of_task(task_id)
    assert found is not None
    [one] = found
    return one


def seconds_until_due(task_id: str) -> float:
    with db.reading() as connection:
        late = text("TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), next_at) / 1e6")
        seconds = select(late).select_from(webhook_deliveries).where(webhook_deliveries.c.task_id == task_id)
        return float(connection.execute(seconds).scalar_one())


def broken() -> list[str]:
    rules = verify.rules(db.ledger(), {})
    return [f"{rule.name}: {each.words}" for rule in rules for each in verify.violations(rule)]
