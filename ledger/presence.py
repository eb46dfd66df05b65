"""Which worker processes there are: each keeps a row here, and is taken for gone when it has been silent for a while.

Only the database's clock says how long that is, so that a worker whose own clock is wrong is neither dead nor immortal.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, literal_column, select, text

from ledger import db
from ledger.models import workers

#: A worker writes its row this often.
BEAT_SECONDS = 2.0
#: Seconds without a word after which it counts as gone: three beats, or one and the longest that a frozen broker can
#: hold its event loop up (`celery_config.SOCKET_SECONDS`).
GONE_SECONDS = 8.0
#: Seconds that one beat may wait for the ledger: nothing else happens in the worker's parent meanwhile.
PATIENCE_SECONDS = 0.5
#: Seconds after which nobody wants to know any more that there was such a worker.
FORGET_SECONDS = 86_400.0


@dataclass(frozen=True)
class Presence:
    """What a worker says of itself."""

    name: str
    kind: str
    #: The names of the queues from which it takes tickets, best first.
    queues: tuple[str, ...]
    #: Tasks that it can run side by side, and how many more it could start now.
    concurrency: int
    free: int
    reaches_broker: bool
    leaving: bool
    #: Which process: its successor under the same name has another one.
    incarnation: str


@dataclass(frozen=True)
class Worker:
    """What is known of a worker."""

    said: Presence
    started_at: datetime
    seen_at: datetime
    silent_seconds: float

    @property
    def is_here(self) -> bool:
        return self.silent_seconds < GONE_SECONDS


def beat(said: Presence) -> None:
    """Write the worker's row. On a connection of its own and in one statement: a process that forks keeps none."""
    with db.translated(), db.ledger_alone(PATIENCE_SECONDS).connect() as connection:
        connection.execute(_BEAT, _row_of(said))


def arrive(said: Presence) -> None:
    """The first beat of a process, which also forgets those that are long gone."""
    beat(said)
    with db.translated(), db.ledger_alone(PATIENCE_SECONDS).connect() as connection:
        connection.execute(workers.delete().where(workers.c.seen_at < db.earlier(FORGET_SECONDS)))


def leave(said: Presence) -> None:
    """The process ends in good order. A successor's row is left alone."""
    with db.translated(), db.ledger_alone(PATIENCE_SECONDS).connect() as connection:
        connection.execute(
            workers.delete().where(workers.c.name == said.name, workers.c.incarnation == said.incarnation)
        )


_BEAT = text(
    "INSERT INTO workers"
    " (name, kind, queues, concurrency, free, reaches_broker, leaving, incarnation, started_at, seen_at)"
    " VALUES (:name, :kind, :queues, :concurrency, :free, :reaches_broker, :leaving, :incarnation,"
    "         UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))"
    # MySQL assigns from left to right: the old incarnation is compared before it is replaced.
    " ON DUPLICATE KEY UPDATE started_at = IF(incarnation = :incarnation, started_at, UTC_TIMESTAMP(6)),"
    " kind = :kind, queues = :queues, concurrency = :concurrency, free = :free, reaches_broker = :reaches_broker,"
    " leaving = :leaving, incarnation = :incarnation, seen_at = UTC_TIMESTAMP(6)"
)


def _row_of(said: Presence) -> dict[str, object]:
    return vars(said) | {"queues": json.dumps(said.queues)}


def known() -> list[Worker]:
    """Every worker of the last day, those that are gone too, by name."""
    silent = func.timestampdiff(literal_column("MICROSECOND"), workers.c.seen_at, db.NOW).label("silent")
    with db.reading() as connection:
        rows = connection.execute(select(workers, silent).order_by(workers.c.name)).all()
    return [
        Worker(
            said=Presence(
                name=row.name,
                kind=row.kind,
                queues=tuple(row.queues),
                concurrency=row.concurrency,
                free=row.free,
                reaches_broker=row.reaches_broker,
                leaving=row.leaving,
                incarnation=row.incarnation,
            ),
            started_at=row.started_at,
            seen_at=row.seen_at,
            silent_seconds=row.silent / 1_000_000,
        )
        for row in rows
    ]


def here() -> list[Worker]:
    """The workers that were heard of lately."""
    return [worker for worker in known() if worker.is_here]


def serving(queue: str, among: Sequence[Worker]) -> list[Worker]:
    """Those of them that take tickets from a queue and go on doing so."""
    return [worker for worker in among if queue in worker.said.queues and not worker.said.leaving]
