"""Two-phase commit on business databases: one branch per database, decided by the ledger's row alone.

    claim ── XA START, marker ── chunks ── XA END, XA PREPARE ── ledger: running -> committing ── XA COMMIT ── succeeded
                                                                 ^ the decision

A branch is named (gtrid = task id, bqual = attempt.database, our own formatID). Until PREPARE the server forgets it as
soon as its connection ends. From PREPARE on it outlives everything, and only the ledger says what becomes of it: the
attempt itself, or the resolver here for an attempt that died.

When things fail
  - XA START fails: fatal for the attempt, because later statements would be committed one by one.
  - A deadlock inside leaves the branch ROLLBACK ONLY: XA END raises, XA ROLLBACK works.
  - The outcome of the decision is unknown: the connection is dropped (`abandon`), never rolled back, because the
    decision may have been taken. SQLAlchemy's own two-phase close() would roll back, hence raw statements here.
  - MariaDB answers XAER_NOTA to a foreign COMMIT while the owner's session lives, and also when the branch is long
    settled: the answer proves nothing, `XA RECOVER` and the marker row do.
  - The named lock `sluice:<task id>:<database>` is held by the branch's connection. The server frees it only after the
    rollback is physically over. It tells whom to KILL, and that nothing is being undone any more; safety does not rest
    on it.

The shape follows the presumed-abort protocol of C. Mohan et al., "Transaction Management in the R* Distributed
Database Management System", ACM TODS 1986: no decision on record means rollback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event, insert, select, text, update
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError

import failpoints
from ledger import db
from ledger.models import marker

log = logging.getLogger(__name__)

#: "SLUI". A branch with another formatID is not ours and is never touched.
FORMAT_ID = 0x534C5549

#: XAER_NOTA: no such branch, or (MariaDB) one that its owner still holds.
XAER_NOTA = 1397
#: XAER_RMERR, which MySQL says to XA RECOVER when it means that a privilege is missing.
XAER_RMERR = 1401

#: Seconds that a new attempt waits for an older one to end before it ends its connection, as a monitor has done as a
#: rule; and seconds until the branch is physically gone after that.
GRACE_SECONDS, LOCK_WAIT_SECONDS = 1, 9
#: Seconds that a statement waits for a row or a table that somebody else holds.
ROW_WAIT_SECONDS = 5
#: Seconds of silence after which the server drops a branch's connection by itself.
IDLE_SECONDS = 600
#: Seconds a single statement of a task may take before its socket gives up.
STATEMENT_SECONDS = 300.0
#: Seconds that settling a branch from outside may take.
RESOLVER_SECONDS = 5.0


#: How statements begin whose rows count.
_CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLAC"})


class MissingPrivilege(Exception):
    """MySQL does not let this user see prepared branches, without which none could be settled."""

    def __init__(self, database: str, user: str) -> None:
        super().__init__(
            f"database {database!r}: user {user!r} may not see prepared branches; "
            f"GRANT XA_RECOVER_ADMIN ON *.* TO {user!r}@..."
        )


#: What may keep a branch out of reach for now: its server, the operator's list of databases, a privilege.
OUT_OF_REACH = (db.Unavailable, db.UnknownDatabase, MissingPrivilege, DBAPIError)


class StillHeld(Exception):
    """An older attempt's branch is still being undone; try again later."""


@dataclass(frozen=True)
class BranchId:
    task_id: str
    attempt: int
    database: str

    @property
    def parameters(self) -> tuple[str, str, int]:
        return (self.task_id, f"{self.attempt}.{self.database}", FORMAT_ID)


def lock_name(task_id: str, database: str) -> str:
    """Locks belong to a whole server, where several of our databases may lie. At most 64 characters."""
    return f"sluice:{task_id}:{database}"


class Branch:
    """One database's part of a task's transaction. A participant: prepare, then commit or rollback."""

    def __init__(self, branch_id: BranchId) -> None:
        self.id = branch_id
        self.state = "new"
        #: Rows that the task inserted, changed or deleted here so far.
        self.rows = 0
        self._connected: Any = None
        self.connection = db.lone_engine(
            db.data_url(branch_id.database), patience_seconds=STATEMENT_SECONDS
        ).connect()
        self.connection_id = int(self.connection.execute(text("SELECT CONNECTION_ID()")).scalar_one())

    def start(self, *, is_current: Callable[[], bool] = lambda: False) -> Connection:
        """Open the branch and write its marker; returns the connection that the task works on.

        `is_current` tells whether its attempt holds the task: every earlier one is over then, also one that is frozen
        with its branch open. Raises StillHeld.
        """
        self._configure()
        if not self._lock(GRACE_SECONDS):
            kill_holder(self.id.task_id, self.id.database, is_over=is_current)
            if not self._lock(LOCK_WAIT_SECONDS):
                raise StillHeld(f"an earlier attempt of {self.id.task_id} is still being undone")
        self._connected = self.connection.connection.dbapi_connection
        event.listen(self.connection, "before_cursor_execute", self._stay_inside)
        self._say("START")
        self.state = "active"
        self.connection.execute(
            insert(marker).values(task_id=self.id.task_id, attempt=self.id.attempt, at=db.NOW)
        )
        event.listen(self.connection, "after_cursor_execute", self._count)
        failpoints.reach("f7")
        return self.connection

    def _lock(self, wait_seconds: int) -> bool:
        lock = {"name": lock_name(self.id.task_id, self.id.database), "wait": wait_seconds}
        return bool(self.connection.execute(text("SELECT GET_LOCK(:name, :wait)"), lock).scalar())

    def _stay_inside(self, connection: Connection, cursor: Any, *_: Any) -> None:
        """After a rollback SQLAlchemy connects anew when the connection was lost. What is said there is outside of the
        branch, and would be committed at once."""
        if connection.connection.dbapi_connection is not self._connected:
            raise db.Unavailable(f"the connection of the branch on {self.id.database!r} was lost, and all that it held")

    def _count(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:6].upper() in _CHANGES:
            self.rows += max(0, cursor.rowcount)

    def prepare(self) -> None:
        """Note in the marker how many rows the branch changes, and make it outlive its connection."""
        # The note is no row of the task's.
        event.remove(self.connection, "after_cursor_execute", self._count)
        note = update(marker).where(marker.c.task_id == self.id.task_id)
        self.connection.execute(note.values(changed_rows=self.rows))
        self._say("END")
        self.state = "idle"
        failpoints.reach("f9")
        self._say("PREPARE")
        self.state = "prepared"

    def commit(self) -> None:
        """Only after the ledger said so. A branch that the resolver committed first is committed."""
        try:
            self._say("COMMIT")
        except (OperationalError, InternalError) as error:
            if db.error_code(error) != XAER_NOTA or not self._is_committed():
                raise
        self.state = "done"

    def rollback(self) -> None:
        """Undo the branch; only its owner calls this, and only when the ledger can no longer say commit."""
        if self.state == "active":
            try:
                self._say("END")
            except DBAPIError:
                log.debug("branch was rollback-only", extra={"task_id": self.id.task_id})
        try:
            self._say("ROLLBACK")
        except DBAPIError as error:
            if db.error_code(error) != XAER_NOTA:
                raise
        self.state = "done"

    def kill(self) -> None:
        """End the branch's own connection from beside it, when a long statement keeps its owner from doing so."""
        with _resolver(self.id.database).connect() as beside:
            holder = beside.execute(
                text("SELECT IS_USED_LOCK(:name)"), {"name": lock_name(self.id.task_id, self.id.database)}
            ).scalar()
            # Connection ids are used again after a server's restart; the lock tells whether it is still us.
            if holder == self.connection_id:
                beside.exec_driver_sql(f"KILL CONNECTION {self.connection_id}")

    def close(self) -> None:
        """Let go of the connection. What is not settled by now is dropped hard: an unprepared branch dies with it, a
        prepared one stays for the resolver."""
        if self.connection.closed:
            return
        if self.state != "done":
            self.connection.invalidate()
        try:
            self.connection.close()
        except DBAPIError as error:
            # Killed from beside after its last word; the driver's goodbye found nobody there.
            log.debug("connection was gone before its close: %s", db.error_code(error))
            self.connection.close()

    def _say(self, verb: str) -> None:
        self.connection.exec_driver_sql(f"XA {verb} %s,%s,%s", self.id.parameters)

    def _configure(self) -> None:
        self.connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self.connection.exec_driver_sql(
            f"SET SESSION innodb_lock_wait_timeout={ROW_WAIT_SECONDS}, lock_wait_timeout={2 * ROW_WAIT_SECONDS}, "
            f"wait_timeout={IDLE_SECONDS}"
        )

    def _is_committed(self) -> bool:
        return marked_attempt(self.id.task_id, self.id.database) == self.id.attempt


def recover(database: str) -> list[BranchId]:
    """Our prepared branches on a database, whoever left them."""
    with db.translated(), _resolver(database).connect() as connection:
        return prepared(connection, database)


def prepared(connection: Connection, database: str) -> list[BranchId]:
    """The same, asked through somebody's connection."""
    found = []
    mariadb = connection.dialect.is_mariadb  # type: ignore[attr-defined]
    # MySQL's plain form sends binary names as text, which breaks the driver; MariaDB has no CONVERT XID.
    try:
        rows = connection.exec_driver_sql("XA RECOVER" if mariadb else "XA RECOVER CONVERT XID").all()
    except (OperationalError, InternalError) as error:
        if db.error_code(error) != XAER_RMERR:
            raise
        raise MissingPrivilege(database, connection.engine.url.username or "") from error
    for format_id, gtrid_length, _, name in rows:
        if format_id != FORMAT_ID:
            continue
        raw = _as_bytes(name)
        gtrid, bqual = raw[:gtrid_length].decode("ascii", "replace"), raw[gtrid_length:].decode("ascii", "replace")
        attempt, _, named = bqual.partition(".")
        if named == database and attempt.isdecimal():
            found.append(BranchId(gtrid, int(attempt), named))
    return found


def _as_bytes(name: str | bytes) -> bytes:
    if isinstance(name, bytes):
        return name
    return bytes.fromhex(name[2:]) if name.startswith("0x") else name.encode()


def settle(branch_id: BranchId, *, commit: bool) -> bool:
    """Commit or roll back a prepared branch from outside; False when its owner still holds it.

    Callers have won the task's row first, or read in it a decision that cannot change any more.
    """
    verb = "COMMIT" if commit else "ROLLBACK"
    with db.translated(), _resolver(branch_id.database).connect() as connection:
        try:
            connection.exec_driver_sql(f"XA {verb} %s,%s,%s", branch_id.parameters)
        except (OperationalError, InternalError) as error:
            if db.error_code(error) != XAER_NOTA:
                raise
            return branch_id not in prepared(connection, branch_id.database)
    return True


def kill_holder(task_id: str, database: str, *, is_over: Callable[[], bool]) -> bool:
    """End the connection that holds the task's lock; the server then undoes what is not prepared.

    `is_over` is asked once the holder is known: whether every attempt that can have the lock by then is over. Whoever
    froze since he looked at the row would otherwise end the connection of a later attempt. KILL CONNECTION, because
    KILL QUERY between two statements hits nothing. True when there was one.
    """
    with db.translated(), _resolver(database).connect() as connection:
        holder = connection.execute(text("SELECT IS_USED_LOCK(:name)"), {"name": lock_name(task_id, database)}).scalar()
        if holder is None or not is_over():
            return False
        try:
            # Ids of connections are used again after a server's restart, which this connection would not outlive.
            connection.exec_driver_sql(f"KILL CONNECTION {int(holder)}")
        except (OperationalError, InternalError) as error:
            log.info("connection was gone before its KILL: %s", db.error_code(error), extra={"task_id": task_id})
    return True


def is_undone(task_id: str, database: str) -> bool:
    """Whether nothing of the task is being written or undone on this database, and no branch of it is prepared."""
    with db.translated(), _resolver(database).connect() as connection:
        free = connection.execute(text("SELECT IS_FREE_LOCK(:name)"), {"name": lock_name(task_id, database)}).scalar()
        return bool(free) and all(branch.task_id != task_id for branch in prepared(connection, database))


def marked_attempt(task_id: str, database: str) -> int | None:
    """The attempt that was committed on this database, if one was."""
    with db.reading(db.data(database)) as connection:
        return connection.execute(select(marker.c.attempt).where(marker.c.task_id == task_id)).scalar()


def remaining_rows(task_id: str, database: str) -> int:
    """Rows that a task has there now: those that its visible marker speaks of, so 0 without a marker."""
    with db.reading(db.data(database)) as connection:
        rows = connection.execute(select(marker.c.changed_rows).where(marker.c.task_id == task_id)).scalar()
    return int(rows or 0)


def _resolver(database: str) -> Engine:
    """Autocommit, as MariaDB wants it for settling foreign branches; the tasks' own user, so that KILL is allowed."""
    return db.lone_engine(db.data_url(database), patience_seconds=RESOLVER_SECONDS)
