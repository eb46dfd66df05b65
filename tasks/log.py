"""Log lines: JSON for machines, text for people, each with the request and the task that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from settings import settings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
task: ContextVar[tuple[str, int] | None] = ContextVar("task", default=None)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_context(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extras = _context() | {name: value for name, value in vars(record).items() if name not in _STANDARD}
        tail = "".join(f" {name}={value}" for name, value in extras.items())
        return super().format(record) + tail


def _context() -> dict[str, Any]:
    found: dict[str, Any] = {}
    if request_id.get():
        found["request_id"] = request_id.get()
    if bound := task.get():
        found["task_id"], found["attempt"] = bound
    return found


def setup() -> None:
    """Send all log lines of this process to standard error, in the form that the settings name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Json() if settings().log_format == "json" else _Text("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings().log_level)
    # Their INFO repeats what our own lines say, per task and with arguments.
    for chatty in ("celery.worker.strategy", "celery.app.trace", "amqp", "kombu", "alembic"):
        logging.getLogger(chatty).setLevel("WARNING")


@contextmanager
def about(task_id: str, attempt: int) -> Iterator[None]:
    """Bind a task to the lines that are logged within."""
    token = task.set((task_id, attempt))
    try:
        yield
    finally:
        task.reset(token)
