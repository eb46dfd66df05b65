"""What an owner may have: open tasks, and mails in a day. Checked in the transaction that accepts the tasks.

Both bounds are exact, because submissions of one owner wait for each other, by the owner's row, from the count to the
commit. Mails are counted in that row; open tasks in the index of `tasks`, up to the bound and no further. Owners
without a bound, and other owners, wait for nobody.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, literal, literal_column, select, text
from sqlalchemy.sql.elements import ColumnElement

from ledger.callers import Caller
from ledger.models import mail_quotas, tasks
from ledger.states import FINAL, State

_OPEN = sorted(set(State) - FINAL)


class OverQuota(Exception):
    """The owner has reached a bound; nothing was accepted. `wait_seconds` says when it may be otherwise."""

    def __init__(self, words: str, wait_seconds: int) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(words)


def take(connection: Connection, caller: Caller, *, number: int, mails: int) -> None:
    """Note that so many more are asked for. Raises OverQuota; then the transaction must not go on."""
    if caller.most_open_tasks is not None:
        _check_open(connection, caller, caller.most_open_tasks, number)
    if caller.mails_per_day is not None and mails:
        _take_mails(connection, caller, caller.mails_per_day, mails)


#: Locks the owner's row until the transaction ends.
_ONE_BY_ONE = text(
    "INSERT INTO mail_quotas (owner, day, mails) VALUES (:owner, UTC_DATE(), 0) ON DUPLICATE KEY UPDATE owner = :owner"
)


def _check_open(connection: Connection, caller: Caller, most: int, more: int) -> None:
    connection.execute(_ONE_BY_ONE, {"owner": caller.owner})
    some = (
        select(literal(1))
        .where(tasks.c.owner == caller.owner, tasks.c.state.in_(_OPEN))
        .limit(most + 1)
        .subquery()
    )
    found = connection.execute(select(func.count()).select_from(some)).scalar_one()
    if found + more > most:
        raise OverQuota(f"at most {most:,} tasks may be open at a time, and {found:,} are", wait_seconds=5)


_TAKE_MAILS = text(
    "INSERT INTO mail_quotas (owner, day, mails) VALUES (:owner, UTC_DATE(), :mails) "
    "ON DUPLICATE KEY UPDATE mails = IF(day = UTC_DATE(), mails, 0) + :mails, day = UTC_DATE()"
)
_UNTIL_TOMORROW: ColumnElement[int] = literal_column(
    "TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), UTC_DATE() + INTERVAL 1 DAY)"
)


def _take_mails(connection: Connection, caller: Caller, most: int, more: int) -> None:
    connection.execute(_TAKE_MAILS, {"owner": caller.owner, "mails": more})
    taken, wait = connection.execute(
        select(mail_quotas.c.mails, _UNTIL_TOMORROW).where(mail_quotas.c.owner == caller.owner)
    ).one()
    if taken > most:
        words = f"at most {most:,} mails may be asked for in a day, and {taken - more:,} were"
        raise OverQuota(words, wait_seconds=wait)
