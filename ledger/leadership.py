"""One monitor leads: a lease in the ledger with a term, taken and kept by compare-and-set on the database's clock.

    claim ── term n ── renew, renew, ... ── release           the next claim begins at once
                          └ killed, frozen, cut off: the lease runs out, and the next claim makes it term n + 1

A term that is over stays over: its holder has to claim anew. GET_LOCK would not do: a frozen holder keeps it.

While a monitor acts under its term (`acting`), every transaction that it writes in the ledger first reads that the term
is still held, and locks that row for itself: a holder that was frozen and wakes after its lease writes nothing, however
far it had come, and nobody else's term begins in the middle of what it writes. One that freezes inside a transaction is
ended by the server (`db.SILENCE_SECONDS`).

What remains, because it lies outside the ledger, and why it does no harm
  - A ticket that was just being sent. A ticket that arrives twice loses the claim.
  - A prepared branch that was just being settled. Its row has said what becomes of it and cannot change its mind, so
    that both of two monitors would do the same.
  - The KILL of a silent attempt's connection, and the copy of a result in Redis. Each is preceded by a look at the term
    (`check`), and the KILL by a look at the row once its connection is known: it never hits a later attempt. A dead
    letter is acknowledged only after the transaction that tells of it, and read again otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sqlalchemy import Connection, Select, func, literal_column, select, update

from ledger import db
from ledger.models import leadership

#: Seconds without a renewal after which others may take over.
LEASE_SECONDS = 5.0

_MONITOR = "monitor"


class Deposed(Exception):
    """The term is over: somebody else leads, or may at any moment."""


@dataclass(frozen=True)
class Term:
    number: int
    holder: str


@dataclass(frozen=True)
class Leader:
    """What the row says: who leads, or who did until so many seconds ago."""

    holder: str
    term: int
    #: Negative when nobody leads.
    seconds_left: float


_term: ContextVar[Term | None] = ContextVar("term", default=None)


def claim(holder: str) -> Term | None:
    """Begin a term, if nobody holds one."""

    def work(connection: Connection) -> Term | None:
        taken = connection.execute(
            update(leadership)
            .where(leadership.c.name == _MONITOR, leadership.c.lease_until <= db.NOW)
            .values(term=leadership.c.term + 1, holder=holder, lease_until=db.later(LEASE_SECONDS))
        )
        if taken.rowcount != 1:
            return None
        # The row is locked, so this is the term that was just begun.
        number = connection.execute(select(leadership.c.term).where(leadership.c.name == _MONITOR)).scalar_one()
        return Term(number, holder)

    return db.transact(work)


def renew(term: Term) -> bool:
    """Go on with a term; False when it is over."""
    return _set_lease(term, LEASE_SECONDS)


def release(term: Term) -> bool:
    """End a term, so that the next may begin at once."""
    return _set_lease(term, 0)


def _set_lease(term: Term, seconds: float) -> bool:
    with db.transaction() as connection:
        result = connection.execute(
            update(leadership)
            .where(
                leadership.c.name == _MONITOR,
                leadership.c.term == term.number,
                leadership.c.lease_until > db.NOW,
            )
            .values(lease_until=db.later(seconds))
        )
    return result.rowcount == 1


def leader() -> Leader | None:
    """Who leads, for those who only want to know. None before the first term."""
    left = func.timestampdiff(literal_column("MICROSECOND"), db.NOW, leadership.c.lease_until)
    with db.reading() as connection:
        row = connection.execute(
            select(leadership.c.holder, leadership.c.term, left.label("left")).where(leadership.c.term > 0)
        ).first()
    return Leader(row.holder, row.term, row.left / 1_000_000) if row else None


@contextmanager
def acting(term: Term) -> Iterator[None]:
    """Whatever is written in the ledger in here is written under this term, or raises Deposed."""
    token = _term.set(term)
    try:
        with db.on_condition(lambda connection: _hold(connection, term)):
            yield
    finally:
        _term.reset(token)


def check() -> None:
    """Before something that no transaction guards: raise Deposed when the term is over. Nothing to check for whoever
    acts under none."""
    term = _term.get()
    if term is not None:
        with db.reading() as connection:
            _insist(connection, _held(term))


def _hold(connection: Connection, term: Term) -> None:
    _insist(connection, _held(term).with_for_update(read=True))


def _insist(connection: Connection, held: Select[tuple[int]]) -> None:
    if connection.execute(held).first() is None:
        raise Deposed(Deposed.__doc__)


def _held(term: Term) -> Select[tuple[int]]:
    return select(leadership.c.term).where(
        leadership.c.name == _MONITOR,
        leadership.c.term == term.number,
        leadership.c.lease_until > db.NOW,
    )
