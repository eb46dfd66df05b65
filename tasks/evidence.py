"""What `tasks.explain` judges by: facts about one task and its surroundings, each as it was found or as not known.

Durations are seconds by the ledger's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.backlog import Line
from ledger.branches import Sight
from ledger.firings import Firing
from ledger.leadership import Leader
from ledger.pauses import Pause
from ledger.places import Standing
from ledger.presence import Worker
from ledger.states import State

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Facts:
    """The task's row, with its times as distances from now."""

    task_id: str
    task_type: str
    queue: str
    state: State
    attempt: int
    retries: int
    max_retries: int
    #: Since it entered its state.
    in_state_seconds: float
    #: Until it is due; negative when that is over.
    due_in_seconds: float | None = None
    #: Until it expires unless it has begun; negative when that is over.
    expires_in_seconds: float | None = None
    #: Since the broker last confirmed its ticket.
    sent_seconds: float | None = None
    #: Since the present or last attempt began.
    started_seconds: float | None = None
    started_at: datetime | None = None
    #: Until the attempt's lease ends; negative when it has.
    lease_left_seconds: float | None = None
    worker: str | None = None
    progress_done: int | None = None
    progress_total: int | None = None
    error: Mapping[str, Any] | None = None
    undone: Mapping[str, Any] | None = None
    participants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Broker:
    """What RabbitMQ said when it was asked about the task's queue."""

    answers: bool
    #: Tickets in the queue that nobody has taken.
    ready: int | None = None
    fault: str = ""
    #: What is wrong with the queue alone.
    queue_fault: str = ""


@dataclass(frozen=True)
class Evidence:
    """None, or an absent database, stands for what was not asked because the task's state does not depend on it."""

    task: Facts
    #: The workers of the last day, those that are gone too.
    workers: tuple[Worker, ...] = ()
    #: That of its queue.
    pause: Pause | None = None
    broker: Broker | None = None
    line: Line | None = None
    #: Where it stands for a place under its limits.
    standing: Standing | None = None
    #: Since a lost ticket of this attempt was sent again.
    resent_seconds: float | None = None
    databases: Mapping[str, Sight] = field(default_factory=dict)
    #: The states of the tasks that it depends on; None for one that is not kept any more.
    parents: Mapping[str, State | None] = field(default_factory=dict)
    #: The schedule that submitted it.
    firing: Firing | None = None
    leader: Leader | None = None
    #: How long the lease of an attempt is.
    lease_seconds: float = 15.0

    @property
    def serving(self) -> list[Worker]:
        """The workers that take tickets from the task's queue now."""
        return [
            worker
            for worker in self.workers
            if worker.is_here and not worker.said.leaving and self.task.queue in worker.said.queues
        ]

    @property
    def holder(self) -> Worker | None:
        """What is known of the worker that has, or had, the task."""
        return next((each for each in self.workers if each.said.name == self.task.worker), None)

    @property
    def has_monitor(self) -> bool:
        return self.leader is not None and self.leader.seconds_left > 0


def told(found: Evidence) -> dict[str, Any]:
    """The evidence as clients read it; what was asked and not answered is "unknown"."""
    task = found.task
    answer: dict[str, Any] = {
        "queue": task.queue,
        "attempt": task.attempt,
        "retries": task.retries,
        "max_retries": task.max_retries,
        "seconds_in_state": _rounded(task.in_state_seconds),
        "monitor": found.leader.holder if found.leader and found.has_monitor else None,
    }
    seconds = {
        "due_in_seconds": task.due_in_seconds,
        "expires_in_seconds": task.expires_in_seconds,
        "ticket_sent_seconds_ago": task.sent_seconds,
        "ticket_resent_seconds_ago": found.resent_seconds,
        "started_seconds_ago": task.started_seconds,
        "lease_left_seconds": task.lease_left_seconds,
    }
    answer |= {name: _rounded(value) for name, value in seconds.items() if value is not None}
    if task.worker is not None:
        answer["worker"] = _worker(found.holder) if found.holder else {"name": task.worker, "seen_seconds_ago": UNKNOWN}
    if task.progress_done is not None:
        answer["progress"] = {"done": task.progress_done, "total": task.progress_total}
    if task.error is not None:
        answer["error"] = dict(task.error)
    if task.state is State.QUEUED:
        answer |= _queue(found)
    if found.standing is not None:
        answer["limits"] = [use.told() for use in found.standing.uses]
        answer["tasks_ahead"] = found.standing.ahead
    if found.parents:
        answer["depends_on"] = {task_id: state or UNKNOWN for task_id, state in found.parents.items()}
    if found.firing:
        tick = found.firing.tick
        answer["schedule"] = {
            "schedule_id": found.firing.schedule_id,
            "name": found.firing.name,
            "tick": f"{tick:%Y-%m-%dT%H:%M:%SZ}" if tick else None,
        }
    if found.databases:
        answer["databases"] = {name: _sight(sight) for name, sight in found.databases.items()}
    return answer


def _queue(found: Evidence) -> dict[str, Any]:
    broker, line = found.broker, found.line
    return {
        "broker": {
            "answers": UNKNOWN if broker is None else broker.answers,
            "tickets_ready": UNKNOWN if broker is None or broker.ready is None else broker.ready,
            **({"fault": broker.fault} if broker is not None and broker.fault else {}),
            **({"queue_fault": broker.queue_fault} if broker is not None and broker.queue_fault else {}),
        },
        "paused": None if found.pause is None else {"since": f"{found.pause.since}Z", "reason": found.pause.reason},
        "tasks_ahead": None if line is None else line.ahead,
        "ahead_of_better_priority": None if line is None else line.better,
        "ahead_in_its_queue": None if line is None else line.earlier,
        "workers": [_worker(each) for each in found.serving],
        "places": sum(each.said.concurrency for each in found.serving),
        "free_places": sum(each.said.free for each in found.serving),
    }


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "name": worker.said.name,
        "is_here": worker.is_here,
        "leaving": worker.said.leaving,
        "reaches_broker": worker.said.reaches_broker,
        "seen_seconds_ago": _rounded(worker.silent_seconds),
    }


def _sight(sight: Sight) -> str:
    return UNKNOWN if sight is Sight.AWAY else sight.value


def _rounded(seconds: float) -> float:
    return round(seconds, 1)
