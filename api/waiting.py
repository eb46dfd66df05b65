"""Requests that wait hold a thread each: this bounds how many of them do, so that some threads are always free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, current_app

#: Threads of one API process; gunicorn is told so too.
THREADS = 32
#: Of these, how many may wait for an outcome, and how many may stream.
MOST_WAITERS = THREADS // 4
MOST_STREAMS = THREADS // 2

_WORKER = "GUNICORN_WORKER"


class Places:
    """A number of places; who finds none is not made to wait for one."""

    def __init__(self, number: int) -> None:
        self._free = threading.BoundedSemaphore(number)

    def take(self) -> bool:
        return self._free.acquire(blocking=False)

    def give_back(self) -> None:
        self._free.release()


waiters = Places(MOST_WAITERS)
streams = Places(MOST_STREAMS)


@contextmanager
def allowed(seconds: float, *, otherwise: float = 0) -> Iterator[float]:
    """So many seconds to wait, or at most `otherwise` when too many wait already."""
    taken = seconds > otherwise and waiters.take()
    try:
        yield seconds if taken else min(seconds, otherwise)
    finally:
        if taken:
            waiters.give_back()


def remember(app: Flask, worker: Any) -> None:
    """The gunicorn worker that serves the application: it knows when the process is to end."""
    app.config[_WORKER] = worker


def leaving() -> Callable[[], bool]:
    """A function that tells whether this process is to end: whoever waits should not keep it."""
    worker = current_app.config.get(_WORKER)
    return lambda: worker is not None and not worker.alive
