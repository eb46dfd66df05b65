"""Celery's private names that a worker leans on, checked at start so that an unfit Celery fails loudly and early."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from billiard.pool import DEATH
from celery import __version__ as celery_version
from celery.worker.request import Request

#: The books that `workers.children` reads.
BOOKS: dict[str, type] = {
    "_pool": list,
    "_all_inqueues": set,
    "_busy_workers": set,
    "outbound_buffer": deque,
    "_cache": dict,
    "_fileno_to_outq": dict,
}
#: What `workers.children` overrides or calls; a hook that nobody calls any more would be missed in silence.
POOL = (
    "on_process_alive",
    "on_job_ready",
    "maintain_pool",
    "on_partial_read",
    "process_flush_queues",
    "_event_process_exit",
    "_repopulate_pool",
    "timers",
)
#: What `workers.settle` overrides or calls, and `workers.packs`.
REQUEST = (
    "_payload",
    "on_accepted",
    "on_success",
    "revoked",
    "terminate",
    "on_timeout",
    "on_failure",
    "acknowledge",
    "reject",
    "time_limits",
)
#: What `workers.priority`, `workers.process` and `workers.drain` use.
CONSUMER = ("pool", "connection", "connection_errors", "channel_errors", "task_consumer", "_flush_events")
#: What `workers.process` overrides.
WORKER = ("_process_task",)
HUB = ("call_soon", "call_later", "call_repeatedly", "readers", "reset", "create_loop")


class UnfitCelery(Exception):
    """This Celery is built differently from the one that the worker was written for."""


def check(consumer: Any) -> None:
    """Raise UnfitCelery with everything that is missing."""
    faults = list(_faults(consumer))
    if faults:
        raise UnfitCelery(f"celery {celery_version} does not fit this worker: {'; '.join(faults)}")


def _faults(consumer: Any) -> Iterator[str]:
    children = getattr(getattr(consumer, "pool", None), "_pool", None)
    yield from _missing("consumer", consumer, CONSUMER)
    yield from _missing("worker", getattr(consumer, "controller", None), WORKER)
    yield from _missing("hub", getattr(consumer, "hub", None), HUB)
    yield from _missing("request", Request, REQUEST)
    yield from _missing("pool", children, POOL)
    for name, kind in BOOKS.items():
        if not isinstance(getattr(children, name, None), kind):
            yield f"the pool's {name} is no {kind.__name__}"
    handlers = getattr(getattr(children, "_result_handler", None), "state_handlers", {})
    if getattr(handlers.get(DEATH), "__self__", None) is not children:
        yield "the pool does not tell of children that leave"


def _missing(what: str, thing: Any, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if not hasattr(thing, name):
            yield f"the {what} has no {name}"
