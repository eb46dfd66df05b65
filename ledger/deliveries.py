"""What becomes of a delivery: taken by one deliverer at a time, tried, and settled.

    due ── take ──> tried, under a lease ──┬─ 2xx ────────────────────> delivered
     ^                                     ├─ 410 ────────────────────> gone: this URL is told nothing any more
     ├── after a wait, longer each time ───┼─ anything else, nothing ─> given_up, after the last try
     └── the deliverer died: when its lease runs out

A delivery arrives at least once, with the same id each time: who dies between the request and `_settle` has delivered
and nobody knows it. The number of the try is the fence, as a task's attempt is: a deliverer that was frozen for longer
than its lease settles nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, literal_column, or_, select, update
from sqlalchemy.dialects.mysql import insert as upsert

from ledger import db, moving, outbox, webhook_secrets
from ledger.callers import EVERYBODY, Caller, owned
from ledger.models import events, tasks, webhook_deliveries, webhook_tries, webhooks_gone
from ledger.states import State

NOW = db.NOW

#: Seconds after which a try counts as dead: longer than any try takes, its look-up of the name included.
LEASE_SECONDS = 60.0
#: For so long nothing is sent to a URL that answered 410 Gone.
GONE_SECONDS = 30 * 86_400.0
#: Characters of an error that are kept.
MOST_WORDS = 200


class Outcome(StrEnum):
    DELIVERED = "delivered"
    #: The last try failed.
    GIVEN_UP = "given_up"
    #: The receiver says that nobody wants to know there any more.
    GONE = "gone"


class Gone(Exception):
    """A webhook answered 410 Gone to its owner's deliveries."""


@dataclass(frozen=True)
class Delivery:
    """One try, which holds the row until it settles it or its lease runs out."""

    seq: int
    task_id: str
    number: int


@dataclass(frozen=True)
class Message:
    """What is to be told, and to whom. All of it stays the same from one try to the next but the time and secrets."""

    message_id: str
    url: str = field(repr=False)
    state: State
    event: str
    attempt: int
    at: Any
    detail: Any
    task_id: str
    task_type: str
    created_at: Any
    result: Any
    tries_left: int
    #: Seconds since 1970, by the database's clock.
    now: int
    secrets: list[bytes] = field(repr=False)
    is_gone: bool


@dataclass(frozen=True)
class Tried:
    """How a try went: the answer's status, or why there is none."""

    milliseconds: int
    status: int | None = None
    error: str | None = None


# --- accepted -------------------------------------------------------------------------------------------------------


def check(connection: Connection, urls: Collection[str], *, caller: Caller) -> None:
    """Before tasks with webhooks are accepted. Raises webhook_secrets.NoSecret and Gone."""
    if not webhook_secrets.are_there(connection, caller.owner):
        raise webhook_secrets.NoSecret(webhook_secrets.NoSecret.__doc__)
    digests = {_digest(url): url for url in urls}
    gone = connection.execute(
        select(webhooks_gone.c.digest).where(
            webhooks_gone.c.owner == caller.owner, webhooks_gone.c.digest.in_(sorted(digests)), _is_gone()
        )
    ).scalars()
    for digest in gone:
        raise Gone(f"{digests[digest]} answered 410 Gone and is told nothing any more")


# --- taken ----------------------------------------------------------------------------------------------------------


def due_lanes() -> list[str]:
    """The lanes in which something is due. One step of the index for each lane, however much waits in it."""
    d, found, lane = webhook_deliveries.c, list[str](), ""
    with db.reading() as connection:
        while row := connection.execute(
            select(d.lane, (d.next_at <= NOW).label("is_due"))
            .where(d.lane > lane)
            .order_by(d.lane, d.next_at)
            .limit(1)
        ).first():
            lane = row.lane
            found += [lane] if row.is_due else []
    return found


def take(lane: str, limit: int) -> list[Delivery]:
    """Begin tries of what is due in a lane, the longest due first. What another is just taking is passed over."""
    d = webhook_deliveries.c

    def work(connection: Connection) -> list[Delivery]:
        rows = connection.execute(
            select(d.seq, d.task_id, (d.tries + 1).label("number"))
            .where(d.lane == lane, d.next_at <= NOW)
            .order_by(d.next_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        if rows:
            connection.execute(
                update(webhook_deliveries)
                .where(d.seq.in_([row.seq for row in rows]))
                .values(tries=d.tries + 1, trying_since=NOW, next_at=db.later(LEASE_SECONDS))
            )
            begun = [{"seq": row.seq, "number": row.number} for row in rows]
            connection.execute(insert(webhook_tries).values(at=NOW), begun)
        return [Delivery(*row) for row in rows]

    return db.transact(work)


def message(delivery: Delivery) -> Message | None:
    """What to send. None when the try is somebody else's by now."""
    with db.reading() as connection:
        row = connection.execute(
            select(
                tasks.c.owner,
                tasks.c.task_type,
                tasks.c.created_at,
                tasks.c.webhook,
                tasks.c.result,
                events.c.state,
                events.c.event,
                events.c.attempt,
                events.c.at,
                events.c.detail,
                webhook_deliveries.c.tries_left,
                webhook_deliveries.c.by_hand,
                func.unix_timestamp().label("now"),
            )
            .join(tasks, tasks.c.id == webhook_deliveries.c.task_id)
            .join(events, events.c.seq == webhook_deliveries.c.seq)
            .where(*_held(delivery))
        ).first()
        if row is None:
            return None
        url = row.webhook["url"]
        return Message(
            message_id=message_id(delivery.task_id, delivery.seq),
            url=url,
            state=State(row.state),
            event=row.event,
            attempt=row.attempt,
            at=row.at,
            detail=row.detail,
            task_id=delivery.task_id,
            task_type=row.task_type,
            created_at=row.created_at,
            # A success is never replayed, so that it stays. Of what has not succeeded there is none to tell.
            result=row.result if row.state == State.SUCCEEDED else None,
            tries_left=row.tries_left,
            now=int(row.now),
            secrets=webhook_secrets.signing(connection, row.owner),
            is_gone=not row.by_hand and _knows_gone(connection, row.owner, url),
        )


def message_id(task_id: str, seq: int) -> str:
    """The `webhook-id`: the same for every try, and nobody else's in the world."""
    return f"{task_id}_{seq}"


# --- settled --------------------------------------------------------------------------------------------------------


def delivered(delivery: Delivery, tried: Tried) -> bool:
    """It arrived. A loss, here and below, means that the try was taken for dead and another has begun."""

    def and_then(connection: Connection) -> None:
        moving.count(connection, "webhooks_delivered", 1)
        owner, digest = _whose(connection, delivery)
        # Whoever asked for it by hand knows better than an earlier 410.
        this = (webhooks_gone.c.owner == owner, webhooks_gone.c.digest == digest)
        connection.execute(delete(webhooks_gone).where(*this))

    return _settle(delivery, tried, _over(Outcome.DELIVERED), and_then)


def failed(delivery: Delivery, tried: Tried, *, after_seconds: float) -> bool:
    """It is to be tried again."""
    return _settle(
        delivery,
        tried,
        {"next_at": db.later(after_seconds), "tries_left": webhook_deliveries.c.tries_left - 1},
        lambda connection: moving.count(connection, "webhooks_failed", 1),
    )


def given_up(delivery: Delivery, tried: Tried) -> bool:
    """That was the last try."""

    def and_then(connection: Connection) -> None:
        moving.count(connection, "webhooks_failed", 1)
        moving.count(connection, "webhooks_given_up", 1)
        words = f"its webhook could not be told of event {delivery.seq}, after {delivery.number} tries: {_why(tried)}"
        moving.note(connection, delivery.task_id, "webhook_given_up", words)

    return _settle(delivery, tried, {**_over(Outcome.GIVEN_UP), "tries_left": 0}, and_then)


def gone(delivery: Delivery, tried: Tried) -> bool:
    """The receiver answered 410, now or before: its owner's deliveries there end."""

    def and_then(connection: Connection) -> None:
        moving.count(connection, "webhooks_gone", 1)
        if tried.status is not None:
            owner, digest = _whose(connection, delivery)
            known = upsert(webhooks_gone).values(owner=owner, digest=digest, gone_at=NOW)
            connection.execute(known.on_duplicate_key_update(gone_at=NOW))
        words = f"its webhook is not told of event {delivery.seq}: {_why(tried)}"
        moving.note(connection, delivery.task_id, "webhook_gone", words)

    return _settle(delivery, tried, {**_over(Outcome.GONE), "tries_left": 0}, and_then)


def _settle(
    delivery: Delivery, tried: Tried, values: dict[str, Any], and_then: Callable[[Connection], None]
) -> bool:
    def work(connection: Connection) -> bool:
        won = connection.execute(
            update(webhook_deliveries).where(*_held(delivery)).values(trying_since=None, by_hand=False, **values)
        )
        if won.rowcount != 1:
            return False
        connection.execute(
            update(webhook_tries)
            .where(webhook_tries.c.seq == delivery.seq, webhook_tries.c.number == delivery.number)
            .values(milliseconds=tried.milliseconds, status=tried.status, error=_kept(tried.error))
        )
        and_then(connection)
        return True

    return db.transact(work)


def _kept(words: str | None) -> str | None:
    return words[:MOST_WORDS] if words else None


def _over(outcome: Outcome) -> dict[str, Any]:
    return {"outcome": outcome, "lane": None, "next_at": None, "settled_at": NOW}


def _held(delivery: Delivery) -> list[Any]:
    d = webhook_deliveries.c
    return [d.seq == delivery.seq, d.tries == delivery.number, d.trying_since.is_not(None)]


def _why(tried: Tried) -> str:
    return tried.error or f"it answered {tried.status}"


def _whose(connection: Connection, delivery: Delivery) -> tuple[str, str]:
    row = connection.execute(select(tasks.c.owner, tasks.c.webhook).where(tasks.c.id == delivery.task_id)).one()
    return row.owner, _digest(row.webhook["url"])


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _is_gone() -> Any:
    return webhooks_gone.c.gone_at > db.earlier(GONE_SECONDS)


def _knows_gone(connection: Connection, owner: str, url: str) -> bool:
    known = exists().where(webhooks_gone.c.owner == owner, webhooks_gone.c.digest == _digest(url), _is_gone())
    return bool(connection.execute(select(known)).scalar())


# --- looked at, and asked for again ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A delivery with its tries, oldest first."""

    row: Row[Any]
    tries: Sequence[Row[Any]]


def of_task(task_id: str, *, caller: Caller = EVERYBODY) -> list[Told] | None:
    """The deliveries of a task, oldest first; None when there is no such task."""
    d = webhook_deliveries.c
    with db.reading() as connection:
        if connection.execute(select(tasks.c.id).where(tasks.c.id == task_id, owned(caller))).first() is None:
            return None
        rows = connection.execute(
            select(webhook_deliveries, events.c.state, events.c.at)
            .join(events, events.c.seq == d.seq)
            .where(d.task_id == task_id)
            .order_by(d.seq)
        ).all()
        tries: dict[int, list[Row[Any]]] = {row.seq: [] for row in rows}
        for each in connection.execute(
            select(webhook_tries).where(webhook_tries.c.seq.in_(list(tries))).order_by(webhook_tries.c.number)
        ):
            tries[each.seq].append(each)
    return [Told(row, tries[row.seq]) for row in rows]


class Again(StrEnum):
    """What became of the wish to deliver something again."""

    DUE = "due"
    UNDER_WAY = "under_way"
    UNKNOWN = "unknown"


def again(task_id: str, seq: int, *, by: str, caller: Caller = EVERYBODY) -> Again:
    """Make a delivery due now: one that is settled gets one more try, one that waits is tried sooner."""
    d = webhook_deliveries.c

    def work(connection: Connection) -> Again:
        row = connection.execute(
            select(
                d.seq,
                # A try whose lease is over is free to be taken too.
                or_(d.trying_since.is_(None), d.next_at <= NOW).label("is_free"),
                d.outcome,
                d.tries_left,
                outbox.lane().label("lane"),
            )
            .join(tasks, tasks.c.id == d.task_id)
            .where(d.seq == seq, d.task_id == task_id, owned(caller))
            .with_for_update()
        ).first()
        if row is None:
            return Again.UNKNOWN
        if not row.is_free:
            return Again.UNDER_WAY
        connection.execute(
            update(webhook_deliveries)
            .where(d.seq == seq)
            .values(
                lane=row.lane,
                next_at=NOW,
                by_hand=True,
                trying_since=None,
                tries_left=row.tries_left if row.outcome is None else 1,
                outcome=None,
                settled_at=None,
            )
        )
        moving.note(connection, task_id, "webhook_again", f"its webhook is to be told of event {seq} again, by {by}")
        return Again.DUE

    return db.transact(work)


# --- figures, and the end -------------------------------------------------------------------------------------------


def waiting() -> tuple[int, float]:
    """How many deliveries are not over, and for how many seconds the longest due one has been due."""
    d = webhook_deliveries.c
    late = func.timestampdiff(literal_column("MICROSECOND"), func.min(d.next_at), NOW)
    with db.reading() as connection:
        number, microseconds = connection.execute(select(func.count(), late).where(d.lane > "")).one()
    return number, max(0.0, (microseconds or 0) / 1_000_000)


def is_awaited() -> Any:
    """Tasks that their webhook has yet to be told something of."""
    d = webhook_deliveries.c
    return exists().where(d.task_id == tasks.c.id, d.lane.is_not(None))


def forget(connection: Connection, task_ids: Collection[str]) -> None:
    """Whatever is known of the deliveries of tasks that are purged."""
    d = webhook_deliveries.c
    seqs = connection.execute(select(d.seq).where(d.task_id.in_(task_ids))).scalars().all()
    if seqs:
        connection.execute(delete(webhook_tries).where(webhook_tries.c.seq.in_(seqs)))
        connection.execute(delete(webhook_deliveries).where(d.seq.in_(seqs)))
