"""What the leading monitor counted when it last looked: a scrape reads some dozen rows, whatever there is to count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, literal_column, select

from ledger import db
from ledger.models import figures

#: By name and by what it is of: a queue, a state, a database; empty where there is one only.
Figures = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Counted:
    figures: Figures
    #: How long ago; None when nobody has counted yet.
    age_seconds: float | None


def write(found: Figures) -> None:
    """These, in the place of all that were there."""

    def work(connection: Connection) -> None:
        connection.execute(delete(figures))
        rows = [{"name": name, "subject": subject, "value": value} for (name, subject), value in found.items()]
        if rows:
            connection.execute(insert(figures).values(counted_at=db.NOW), rows)

    db.transact(work)


def read() -> Counted:
    age = func.timestampdiff(literal_column("MICROSECOND"), figures.c.counted_at, db.NOW)
    with db.reading() as connection:
        rows = connection.execute(select(figures.c.name, figures.c.subject, figures.c.value, age.label("age"))).all()
    ages = [max(0, row.age) / 1_000_000 for row in rows]
    return Counted({(row.name, row.subject): row.value for row in rows}, max(ages, default=None))
