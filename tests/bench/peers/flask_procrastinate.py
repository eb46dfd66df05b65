"""Flask and Procrastinate: queue in PostgreSQL. It keeps no results, so the task writes its own."""

from __future__ import annotations

import os
import time
from threading import Lock
from typing import Any

from flask import Flask
from procrastinate import App, JobContext, PsycopgConnector
from psycopg_pool import ConnectionPool

DATABASE_URL = os.environ["PEER_DATABASE_URL"]

app = App(connector=PsycopgConnector(conninfo=DATABASE_URL))
#: The door's own, and the results'.
pool = ConnectionPool(DATABASE_URL, min_size=1, max_size=16, open=False)
door = Flask(__name__)
_opening = Lock()


@app.task(pass_context=True)
def look_at_the_clock(context: JobContext) -> None:
    began = time.time()
    pool.open()
    with pool.connection() as connection:
        connection.execute("INSERT INTO results VALUES (%s, %s)", (context.job.id, began))


def prepare() -> None:
    """The tables, once."""
    with app.open():
        app.schema_manager.apply_schema()
    pool.open()
    with pool.connection() as connection:
        connection.execute("CREATE TABLE results (id bigint PRIMARY KEY, began double precision)")


def defer() -> int:
    with _opening:
        app.open()
    return int(look_at_the_clock.defer())


@door.post("/tasks")
def submit() -> tuple[dict[str, str], int]:
    return {"id": str(defer())}, 202


@door.get("/tasks/<int:task_id>")
def result(task_id: int) -> dict[str, Any]:
    pool.open()
    with pool.connection() as connection:
        row = connection.execute("SELECT began FROM results WHERE id = %s", (task_id,)).fetchone()
    return {"result": row[0] if row else None}


def fill(number: int) -> None:
    for _ in range(number):
        defer()


def finished() -> int:
    pool.open()
    with pool.connection() as connection:
        row = connection.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'").fetchone()
    return int(row[0]) if row else 0
