"""What a business database shows of one task at this moment: a branch being written, one that waits, or nothing.

For those who only want to know, and cannot wait for a server that is away.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ledger import db, xa

#: Seconds that each answer may take.
PATIENCE_SECONDS = 0.6


class Sight(StrEnum):
    #: A connection holds the task's lock: its branch is being written, prepared by it, or rolled back.
    HELD = "held"
    #: Nobody holds it, and a branch is prepared: it waits to be committed or rolled back.
    PREPARED = "prepared"
    #: Nothing of the task is going on there.
    CLEAR = "clear"
    #: The database does not answer.
    AWAY = "away"
    #: It answers, and does not tell.
    UNKNOWN = "unknown"


def look(task_id: str, database: str) -> Sight:
    """What is to be seen of a task on a database."""
    try:
        engine = db.lone_engine(db.data_url(database), patience_seconds=PATIENCE_SECONDS)
        with db.translated(), engine.connect() as connection:
            lock = {"name": xa.lock_name(task_id, database)}
            if connection.execute(text("SELECT IS_USED_LOCK(:name)"), lock).scalar() is not None:
                return Sight.HELD
            branches = xa.prepared(connection, database)
    except db.Unavailable:
        return Sight.AWAY
    except (db.UnknownDatabase, xa.MissingPrivilege, DBAPIError):
        return Sight.UNKNOWN
    return Sight.PREPARED if any(branch.task_id == task_id for branch in branches) else Sight.CLEAR
