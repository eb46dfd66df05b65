"""Connections to the ledger's database and to the business databases.

Engines are made on first use and forgotten in a forked child, so that no two processes ever share a socket. Every
socket has a deadline: a frozen server must not freeze us.
"""

from __future__ import annotations

import math
import os
import re
import select
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, TypeVar

from pymysql.err import MySQLError
from sqlalchemy import Connection, Engine, create_engine, event, literal_column, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.sql.elements import ColumnElement, TextClause

from settings import DATA as DATA  # noqa: PLC0414  the name belongs beside these functions
from settings import settings

T = TypeVar("T")

#: The only clock that decides anything.
NOW: TextClause = text("UTC_TIMESTAMP(6)")


@lru_cache
def later(seconds: float) -> ColumnElement[Any]:
    """The database's time, so many seconds from now."""
    return literal_column(f"UTC_TIMESTAMP(6) + INTERVAL {round(seconds * 1_000_000)} MICROSECOND")


def earlier(seconds: float) -> ColumnElement[Any]:
    """The database's time, so many seconds ago."""
    return literal_column(f"UTC_TIMESTAMP(6) - INTERVAL {round(seconds * 1_000_000)} MICROSECOND")


def among(column: ColumnElement[T], values: Collection[T]) -> ColumnElement[bool]:
    """`column` is one of these. A list is put into the text of a statement each time it is sent, one value is not."""
    return column == next(iter(values)) if len(values) == 1 else column.in_(sorted(values))


#: A key that is there already.
DUPLICATE = 1062
#: Deadlock, and lock wait timeout: the transaction is lost but the database is well.
_TRY_AGAIN = frozenset({1205, 1213})
MOST_TRIES = 10
#: No connection, connection lost, too many connections, shutting down, read-only.
_AWAY = frozenset({1040, 1053, 1077, 1079, 1129, 1203, 1226, 1290, 1836, 1927, 2002, 2003, 2005, 2006, 2013, 2055})

#: Disk full, and table full, which is what InnoDB says of a disk that is.
_FULL = frozenset({28, 1021, 1114})
#: A file could not be written, the storage engine failed, also at its commit: the message has the system's own number.
_SYSTEM = frozenset({3, 1026, 1030, 1180})
#: No space left on device, and over quota.
_SYSTEMS_FULL = re.compile(r"\b(errno:|errcode:|error) (28|122)\b", re.IGNORECASE)

#: Seconds after which a kept connection is asked whether it is alive: less than a server takes to come back.
REST_SECONDS = 0.5
#: Seconds for which a process may leave the ledger waiting in the middle of a transaction: less than its fellows wait.
SILENCE_SECONDS = 5


class UnknownDatabase(Exception):
    """No business database has that name; DATA_DATABASES names them."""


class Unavailable(Exception):
    """The database cannot be reached, or did not answer in time."""


class Full(Unavailable):
    """The database's disk has no room left: nothing was written, and nothing can be until somebody makes room."""


_LEDGER = "ledger"
_engines: dict[str, Engine] = {}
_patience_seconds = 10.0
#: Counting a big table takes its time, also at the door.
_READING_SECONDS = 4.0


def be_patient(seconds: float) -> None:
    """How long this process waits for a database's answer. The door calls this with a second, workers keep ten."""
    global _patience_seconds
    _patience_seconds = seconds
    _forget()


def ledger() -> Engine:
    """The ledger's database."""
    return _kept(_LEDGER, _pooled_ledger)


def data(name: str = DATA) -> Engine:
    """A business database, for plain reads. Writes of tasks go through `ledger.xa`.

    Each read connects anew, and is patient only once it is connected: whether a connection that was kept still lives
    could only be asked with the patience that a big count needs, and a frozen server would cost it twice.
    """
    return _kept(f"data:{name}", lambda: _unpooled(data_url(name)))


def data_names() -> tuple[str, ...]:
    """The names of the configured business databases."""
    return tuple(settings().databases)


def data_url(name: str) -> str:
    found = settings().databases.get(name)
    if found is None:
        raise UnknownDatabase(f"no database named {name!r}; there are: {', '.join(data_names())}")
    return found


def _kept(name: str, make: Callable[[], Engine]) -> Engine:
    found = _engines.get(name)
    return found if found is not None else _engines.setdefault(name, make())


def _unpooled(url: str) -> Engine:
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        poolclass=NullPool,
        hide_parameters=True,
        connect_args=_connecting(url, _patience_seconds),
    )
    event.listen(engine, "connect", _read_patiently)
    return engine


def _read_patiently(connection: Any, record: Any) -> None:
    """The driver reads the server's greeting with the same patience as an answer, unless that is set after it."""
    connection._read_timeout = max(_patience_seconds, _READING_SECONDS)


def _pooled_ledger() -> Engine:
    url = settings().ledger_database_url.get_secret_value()
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_size=8,
        max_overflow=64,
        pool_timeout=_patience_seconds,
        # Whoever gives one back has committed or rolled back.
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args=_connecting(url, _patience_seconds),
    )
    # Many rows go in one INSERT, which PyMySQL itself manages only where no value is an expression.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    event.listen(engine, "connect", _do_not_sit_on_rows)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _is_alive)
    return engine


def _note_use(connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _is_alive(connection: Any, record: ConnectionPoolEntry, *_: Any) -> None:
    """A server that has gone has closed its end, which can be seen from here. One that vanished with its machine has
    not, so a connection that has rested is asked whether its server is there. SQLAlchemy itself would ask each time,
    which is a round trip more for each transaction."""
    if _is_closed(connection):
        raise InvalidatePoolError
    if time.monotonic() - record.info.get("used_at", math.inf) > REST_SECONDS:
        try:
            connection.ping(reconnect=False)
        except MySQLError as error:
            raise InvalidatePoolError from error


def _is_closed(connection: Any) -> bool:
    """Whether there is something to read on a connection that has asked nothing: its end."""
    if connection._sock is None:
        return True
    poll = select.poll()
    poll.register(connection._sock, select.POLLIN)
    return bool(poll.poll(0))


def _do_not_sit_on_rows(connection: Any, record: Any) -> None:
    """A process that freezes inside a transaction holds the row of its task: nobody could stop the task, or take it
    back. The server ends the transaction of who says nothing for so long."""
    mariadb = "MariaDB" in connection.get_server_info()
    # MySQL counts the silence between transactions too. That costs a new connection now and then.
    limit = "idle_transaction_timeout" if mariadb else "wait_timeout"
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {limit}={SILENCE_SECONDS}")


def _connecting(url: str, patience_seconds: float) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "connect_timeout": max(1, round(patience_seconds)),
        "read_timeout": patience_seconds,
        "write_timeout": patience_seconds,
    }
    made = make_url(url)
    if made.host in _LOOPBACK and not any(name.startswith("ssl") for name in made.query):
        # To prepare for TLS the driver reads all certificates of the system, 40 ms for each connection; and nobody
        # listens in on one's own machine.
        arguments["ssl_disabled"] = True
    return arguments


_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@lru_cache(maxsize=32)
def lone_engine(url: str, *, patience_seconds: float) -> Engine:
    """An engine without a pool, in autocommit: a connection is its opener's alone, also across forks."""
    return create_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args=_connecting(url, patience_seconds),
    )


def ledger_alone(patience_seconds: float) -> Engine:
    """The ledger's database for a process that must keep no connection and cannot wait."""
    return lone_engine(settings().ledger_database_url.get_secret_value(), patience_seconds=patience_seconds)


def _forget() -> None:
    for engine in _engines.values():
        engine.dispose(close=False)
    _engines.clear()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def translated() -> Iterator[None]:
    """A driver's error about an absent server becomes `Unavailable`, where it enters the house."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError) as error:
        if error.connection_invalidated or error_code(error) in _AWAY:
            raise Unavailable(f"the database does not answer ({error_code(error)})") from error
        if is_full(error):
            raise Full(f"the database's disk is full ({error_code(error)})") from error
        raise
    except PoolTimeout as error:
        raise Unavailable("all connections to the database are busy") from error


#: What has to hold in every transaction of this context; it raises when it does not.
_condition: ContextVar[Callable[[Connection], None] | None] = ContextVar("condition", default=None)


@contextmanager
def on_condition(condition: Callable[[Connection], None]) -> Iterator[None]:
    """Every transaction of the ledger that is begun in here first checks the condition, within itself."""
    token = _condition.set(condition)
    try:
        yield
    finally:
        _condition.reset(token)


@contextmanager
def transaction() -> Iterator[Connection]:
    """One business fact of the ledger: everything in here is written together or not at all."""
    with translated(), ledger().begin() as connection:
        if condition := _condition.get():
            condition(connection)
        yield connection


@contextmanager
def reading(engine: Engine | None = None) -> Iterator[Connection]:
    """A connection for reads."""
    with translated(), (engine or ledger()).connect() as connection:
        yield connection


def transact(work: Callable[[Connection], T]) -> T:
    """Run `work` in a transaction, again when InnoDB picked it as the victim of a deadlock."""
    for _ in range(MOST_TRIES):
        try:
            with transaction() as connection:
                return work(connection)
        except OperationalError as error:
            if error_code(error) not in _TRY_AGAIN:
                raise
            lost = error
    raise Unavailable(f"others got the locks {MOST_TRIES} times in a row ({error_code(lost)})") from lost


def error_code(error: DBAPIError) -> int:
    """MySQL's number of the error, 0 when the driver gave none."""
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def is_full(error: DBAPIError) -> bool:
    """Whether it failed because there is no room left on the server's disk."""
    code = error_code(error)
    return code in _FULL or (code in _SYSTEM and _SYSTEMS_FULL.search(str(error.orig)) is not None)
