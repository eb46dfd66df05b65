"""The secrets that an owner's webhooks are signed with: made, replaced, and shown to nobody a second time.

A secret is `whsec_` and 32 random bytes in base64, as Standard Webhooks has it. When another one takes its place it
goes on signing for a while beside it, so that receivers may change over without missing anything.
"""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, func, insert, or_, select, update

from ledger import db
from ledger.callers import Caller
from ledger.models import webhook_secrets

NOW = db.NOW

#: How long a secret goes on signing beside the one that took its place, unless something else is asked for.
USUAL_OVERLAP_SECONDS = 86_400
#: Secrets that sign at a time; the eldest of more ends at once.
MOST_AT_ONCE = 3

_BYTES = 32
_LETTERS = string.ascii_lowercase + string.digits


class NoSecret(Exception):
    """The owner has no secret that its webhooks could be signed with."""


@dataclass(frozen=True)
class Secret:
    secret_id: str
    words: str = field(repr=False)


def make(*, overlap_seconds: float, caller: Caller) -> Secret:
    """A new secret of the caller's owner, which signs from now on. Those before it go on for so many seconds."""
    raw = secrets.token_bytes(_BYTES)
    made = Secret("".join(secrets.choice(_LETTERS) for _ in range(8)), f"whsec_{base64.b64encode(raw).decode()}")

    def work(connection: Connection) -> None:
        mine = webhook_secrets.c.owner == caller.owner
        connection.execute(delete(webhook_secrets).where(mine, webhook_secrets.c.expires_at <= NOW))
        held = select(webhook_secrets.c.id).where(mine, _signs()).order_by(webhook_secrets.c.created_at.desc())
        before = connection.execute(held.with_for_update()).scalars().all()
        keep, end = before[: MOST_AT_ONCE - 1], before[MOST_AT_ONCE - 1 :]
        _end(connection, keep, db.later(overlap_seconds))
        _end(connection, end, NOW)
        connection.execute(
            insert(webhook_secrets).values(id=made.secret_id, owner=caller.owner, secret=raw, created_at=NOW)
        )

    db.transact(work)
    return made


def _end(connection: Connection, ids: Collection[str], at: Any) -> None:
    """Those that end sooner anyway stay so."""
    ends = func.least(func.coalesce(webhook_secrets.c.expires_at, at), at)
    connection.execute(update(webhook_secrets).where(webhook_secrets.c.id.in_(ids)).values(expires_at=ends))


def listed(*, caller: Caller) -> Sequence[Row[Any]]:
    """The secrets of the caller's owner that still sign, the newest first, without themselves."""
    columns: list[ColumnElement[Any]] = [column for column in webhook_secrets.c if column.name != "secret"]
    with db.reading() as connection:
        return connection.execute(
            select(*columns)
            .where(webhook_secrets.c.owner == caller.owner, _signs())
            .order_by(webhook_secrets.c.created_at.desc())
        ).all()


def revoke(secret_id: str, *, caller: Caller) -> bool:
    """Let a secret sign no more, from now on. False: the owner has none of that id."""
    with db.transaction() as connection:
        done = connection.execute(
            delete(webhook_secrets).where(
                webhook_secrets.c.id == secret_id, webhook_secrets.c.owner == caller.owner, _signs()
            )
        )
    return done.rowcount == 1


def are_there(connection: Connection, owner: str) -> bool:
    """Whether a delivery of this owner would be signed at all."""
    found = exists().where(webhook_secrets.c.owner == owner, _signs())
    return bool(connection.execute(select(found)).scalar())


def signing(connection: Connection, owner: str) -> list[bytes]:
    """What a delivery of this owner is signed with, the newest first."""
    found = connection.execute(
        select(webhook_secrets.c.secret)
        .where(webhook_secrets.c.owner == owner, _signs())
        .order_by(webhook_secrets.c.created_at.desc())
    )
    return [bytes(secret) for secret in found.scalars()]


def _signs() -> ColumnElement[bool]:
    return or_(webhook_secrets.c.expires_at.is_(None), webhook_secrets.c.expires_at > NOW)
