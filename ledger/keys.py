"""API keys: made, looked up and revoked. The ledger has the SHA-256 of a key's secret, and never the secret.

A key reads `sluice_<id>_<secret>`. The id names its row and may be shown and logged. The secret has 256 random bits, so
that a plain hash of it is as good as a slow one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, and_, exists, insert, or_, select, update

from ledger import db
from ledger.callers import Caller, Scope
from ledger.models import api_keys

NOW = db.NOW

#: Seconds by which the time of a key's last use may be behind: it is no row to write for each request.
LAST_USE_SECONDS = 300

#: What a key may do unless something else is asked for.
USUAL_SCOPES = (Scope.READ, Scope.WRITE, Scope.STOP)

_FORM = re.compile(r"sluice_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")
_OWNER = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
OWNERS = "an owner is one lower-case word of up to 32 letters, digits, dots, dashes and underscores"
_LETTERS = string.ascii_lowercase + string.digits
_SECRET_BYTES = 32


class BadKey(Exception):
    """A key cannot be made so; the message says why."""


@dataclass(frozen=True)
class Secret:
    """A whole key, as its owner holds it."""

    key_id: str
    words: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.words.encode()).hexdigest()


@dataclass(frozen=True)
class Key:
    """A key's row, as it stood when it was looked up."""

    caller: Caller
    digest: str
    is_revoked: bool
    is_expired: bool

    def is_of(self, secret: Secret) -> bool:
        return hmac.compare_digest(self.digest, secret.digest)

    def opens_for(self, secret: Secret) -> bool:
        return self.is_of(secret) and not (self.is_revoked or self.is_expired)


def is_owner(word: str) -> bool:
    """Whether somebody may be called so."""
    return _OWNER.fullmatch(word) is not None


def make() -> Secret:
    """A new key, not yet known to anybody."""
    key_id = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return Secret(key_id, f"sluice_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}")


def parse(words: str) -> Secret | None:
    """The key that these words are, if they have the form of one."""
    found = _FORM.fullmatch(words)
    return Secret(found[1], words) if found else None


def add(
    secret: Secret,
    *,
    owner: str,
    scopes: Collection[Scope],
    expires_in_seconds: float | None = None,
    requests_per_minute: int | None = None,
    most_open_tasks: int | None = None,
    mails_per_day: int | None = None,
    note: str = "",
) -> None:
    """Let a key in from now on."""
    if not is_owner(owner):
        raise BadKey(OWNERS)
    if not scopes:
        raise BadKey(f"a key without a scope opens nothing; there are {', '.join(Scope)}")
    with db.transaction() as connection:
        connection.execute(
            insert(api_keys).values(
                id=secret.key_id,
                digest=secret.digest,
                owner=owner,
                scopes=",".join(sorted(scopes)),
                created_at=NOW,
                expires_at=None if expires_in_seconds is None else db.later(expires_in_seconds),
                requests_per_minute=requests_per_minute,
                most_open_tasks=most_open_tasks,
                mails_per_day=mails_per_day,
                note=note,
            )
        )


def find(key_id: str) -> Key | None:
    """A key by its id. Notes now and then that it was used."""
    with db.reading() as connection:
        row = connection.execute(_FIND.where(api_keys.c.id == key_id)).first()
    if row is None:
        return None
    if row.is_unnoted and not (row.is_revoked or row.is_expired):
        _note_use(key_id)
    return _key_of(row)


_FIND = select(
    api_keys,
    api_keys.c.revoked_at.is_not(None).label("is_revoked"),
    and_(api_keys.c.expires_at.is_not(None), api_keys.c.expires_at <= NOW).label("is_expired"),
    or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < db.earlier(LAST_USE_SECONDS)).label(
        "is_unnoted"
    ),
)


def _key_of(row: Row[Any]) -> Key:
    caller = Caller(
        owner=row.owner,
        scopes=frozenset(Scope(word) for word in row.scopes.split(",")),
        key_id=row.id,
        requests_per_minute=row.requests_per_minute,
        most_open_tasks=row.most_open_tasks,
        mails_per_day=row.mails_per_day,
    )
    return Key(caller, row.digest, bool(row.is_revoked), bool(row.is_expired))


def _note_use(key_id: str) -> None:
    with db.transaction() as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=NOW))


def scopes_of(owner: str) -> frozenset[Scope]:
    """What an owner may do with the keys that open something now, all of them together."""
    statement = select(api_keys.c.scopes).where(
        api_keys.c.owner == owner,
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > NOW),
    )
    with db.reading() as connection:
        words = connection.execute(statement).scalars().all()
    return frozenset(Scope(word) for each in words for word in each.split(","))


def are_there() -> bool:
    """Whether anybody can get in at all."""
    with db.reading() as connection:
        return bool(connection.execute(select(exists().where(api_keys.c.revoked_at.is_(None)))).scalar())


def listed() -> Sequence[Row[Any]]:
    """Every key, the oldest first, without its digest."""
    columns = [column for column in api_keys.c if column.name != "digest"]
    with db.reading() as connection:
        return connection.execute(select(*columns).order_by(api_keys.c.created_at, api_keys.c.id)).all()


def revoke(key_id: str) -> bool:
    """Keep a key out, for good. False: there is none of that id, or it was revoked before."""
    with db.transaction() as connection:
        done = connection.execute(
            update(api_keys)
            .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
            .values(revoked_at=NOW)
        )
    return done.rowcount == 1

