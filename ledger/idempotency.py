"""Keys under which a client may submit again without submitting twice (draft-ietf-httpapi-idempotency-key-header).

The key's row is written in the transaction that accepts the tasks, as its first statement: of two that come at the same
time the second waits for the first, and then learns that it lost. A submission without a key costs nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from ledger import db
from ledger.db import earlier
from ledger.models import events, idempotency_keys
from ledger.states import State

#: How long a key is kept.
KEPT_SECONDS = 86_400.0
#: Keys that one purge removes, so that it holds no lock for long.
PURGED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Once:
    """A submission that is to be accepted once: whose it is, its key, and the SHA-256 of what was asked for."""

    owner: str
    key: str
    fingerprint: str


class AlreadyTaken(Exception):
    """The key was used before; `replayed` tells for what."""


class KeyReused(Exception):
    """The Idempotency-Key was used before, for a different request; take a new key for a new request."""


def take(connection: Connection, once: Once, task_ids: Sequence[str]) -> None:
    """Note the key for these tasks. Raises AlreadyTaken; then the transaction must not go on."""
    try:
        connection.execute(
            insert(idempotency_keys).values(
                owner=once.owner,
                idempotency_key=once.key.encode(),
                fingerprint=once.fingerprint,
                task_ids=list(task_ids),
                created_at=db.NOW,
            )
        )
    except IntegrityError as error:
        if db.error_code(error) == db.DUPLICATE:
            raise AlreadyTaken from error
        raise


def replayed(once: Once) -> list[tuple[str, State]] | None:
    """The tasks that the key was used for, in their order, with the state in which each was accepted.

    None when the key is not there any more. Raises KeyReused when it was used for something else.
    """
    with db.reading() as connection:
        row = connection.execute(
            select(idempotency_keys.c.fingerprint, idempotency_keys.c.task_ids).where(
                idempotency_keys.c.owner == once.owner,
                idempotency_keys.c.idempotency_key == once.key.encode(),
            )
        ).first()
        if row is None:
            return None
        if row.fingerprint != once.fingerprint:
            raise KeyReused
        accepted = connection.execute(
            select(events.c.task_id, events.c.state).where(
                events.c.task_id.in_(row.task_ids), events.c.event == "accepted"
            )
        )
        states = {each.task_id: State(each.state) for each in accepted}
    return [(task_id, states.get(task_id, State.QUEUED)) for task_id in row.task_ids]


def purge(older_than_seconds: float = KEPT_SECONDS) -> int:
    """Forget keys that have been kept long enough; answers how many."""
    with db.transaction() as connection:
        result = connection.execute(
            delete(idempotency_keys)
            .where(idempotency_keys.c.created_at < earlier(older_than_seconds))
            .with_dialect_options(mysql_limit=PURGED_AT_ONCE)
        )
    return result.rowcount
