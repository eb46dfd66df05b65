"""Rows a second of the insert inside XA, beside its driver's own rate and an ORM's loop; and of a large CSV file."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import requests
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tasks.types import dataset
from tests.bench.bench import Bench
from tests.bench.results import Figure
from tests.conftest import eventually

INSERT, IMPORT = "insert of 100,000 rows", "import of a CSV file of 1,000,000 rows"
REFERENCES = {INSERT: "executemany alone", IMPORT: "executemany alone"}
ROWS, LINES, CHUNK = 100_000, 1_000_000, 1_000
FILE = "bench.csv"


class Base(DeclarativeBase):
    pass


class Row(Base):
    """The table `data`, as an ORM sees it."""

    __tablename__ = "data"
    id: Mapped[int] = mapped_column(primary_key=True)
    field1: Mapped[str]
    field2: Mapped[str]


def measure(bench: Bench) -> Iterator[Figure]:
    engine = create_engine(bench.ground.stack.environment()["DATA_DATABASE_URL"])
    bench.sluice.forget()
    with bench.sluice.door(), bench.sluice.workers():
        bench.say("bulk: rows in XA")
        yield Figure(INSERT, "Sluice", ROWS / _task(bench, "bulk_insert", {"rows": ROWS}), "rows/s")
        bench.say("bulk: a CSV file")
        yield from _import(bench)
    for name, fill in (("executemany alone", _executemany), ("an ORM's loop", _orm)):
        bench.say(f"bulk: {name}")
        with engine.begin() as connection:
            connection.execute(text("TRUNCATE TABLE data"))
        began = time.monotonic()
        fill(engine)
        rate = ROWS / (time.monotonic() - began)
        yield Figure(INSERT, name, rate, "rows/s")
        if fill is _executemany:
            yield Figure(IMPORT, name, rate, "rows/s")


def _task(bench: Bench, task_type: str, parameters: dict[str, object]) -> float:
    """Seconds from the claim to the end, by the ledger."""
    (task_id,) = bench.sluice.submit_many([{"task_type": task_type, "parameters": parameters}])
    with requests.Session() as session:

        def ended() -> dict[str, Any]:
            task = bench.sluice.task(session, task_id)
            assert task["state"] not in ("failed", "retrying"), task
            return task if task["state"] == "succeeded" else {}

        task = eventually(ended, within=300, every=0.2, what=f"the end of the {task_type}")
    begun, over = (datetime.fromisoformat(task[name]) for name in ("started_at", "finished_at"))
    return (over - begun).total_seconds()


def _import(bench: Bench) -> Iterator[Figure]:
    lines = bench.of(LINES, least=10_000)
    bench.sluice.upload(FILE, csv_file(lines))
    before = _most_memory(bench)
    rate = lines / _task(bench, "csv_import", {"filename": FILE})
    yield Figure(IMPORT, "Sluice", rate, "rows/s")
    bench.say(f"a child had taken {before:,.0f} MiB at most before it, and {_most_memory(bench):,.0f} MiB after it")


def csv_file(lines: int) -> io.BytesIO:
    return io.BytesIO(b"field1,field2\n" + b"".join(b"left%d,right%d\n" % (n, n) for n in range(lines)))


def _most_memory(bench: Bench) -> float:
    """The most that one child of the data worker has taken so far, in MiB."""
    children = psutil.Process(bench.ground.stack.pid("data")).children()
    return max(_high_water(each.pid) for each in children)


def _high_water(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _executemany(engine: Engine) -> None:
    connection = engine.raw_connection()
    with closing(connection.cursor()) as cursor:
        for rows in _chunks():
            cursor.executemany("INSERT INTO data (field1, field2) VALUES (%s, %s)", rows)
    connection.commit()


def _orm(engine: Engine) -> None:
    with Session(engine) as session:
        for rows in _chunks():
            for first, second in rows:
                session.add(Row(field1=first, field2=second))
        session.commit()


def _chunks() -> Iterator[list[tuple[str, str]]]:
    """The same random words that the task writes."""
    for _ in range(ROWS // CHUNK):
        words = dataset.random_words(2 * CHUNK)
        yield list(zip(words[::2], words[1::2], strict=True))
