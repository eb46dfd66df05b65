"""The one way in: a checked submission becomes a row of the ledger, and its ticket is handed to the relay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import uuid_utils
from pydantic import BaseModel, ValidationError

import celery_config
import failpoints
from ledger import dependents, idempotency
from ledger.acceptance import NewTask
from ledger.callers import EVERYBODY, Caller
from ledger.idempotency import Once
from ledger.states import State
from ledger.tickets import Ticket
from tasks import catalog, relay, together, tracing

log = logging.getLogger(__name__)

#: Bounds of what a client may ask for.
LONGEST_DELAY_SECONDS = 30 * 86_400
#: The longest that a task may wait for its start before it expires, and how many others it may wait for.
LONGEST_EXPIRY_SECONDS = 30 * 86_400
MOST_PARENTS = 100
MOST_TAGS = 10


class BadParameters(Exception):
    """The parameters do not fit the `model` of their task type; `faults` says where and why."""

    def __init__(self, error: ValidationError, model: type[BaseModel]) -> None:
        self.model = model
        self.faults = error.errors(include_input=False, include_context=False)
        super().__init__(f"{len(self.faults)} of the parameters are wrong")


@dataclass(frozen=True)
class Submission:
    """What a client asks for. None leaves a choice to the task type."""

    task_type: str
    parameters: dict[str, Any] = field(default_factory=dict)
    priority: str = "normal"
    delay_seconds: float = 0
    run_at: datetime | None = None
    max_retries: int | None = None
    timeout_seconds: int | None = None
    expires_in_seconds: float | None = None
    depends_on: Sequence[str] = ()
    on_parent_failure: str = dependents.FAIL
    #: {"url": ..., "events": [...]}.
    webhook: dict[str, Any] | None = None
    tags: Sequence[str] = ()


class Accepted(NamedTuple):
    """A task that is on disk, and what it began as."""

    task: NewTask
    state: State
    #: It had been accepted before, under the same key.
    replayed: bool = False

    @property
    def task_id(self) -> str:
        return self.task.task_id


def submit(
    submissions: Sequence[Submission], *, caller: Caller = EVERYBODY, once: Once | None = None
) -> list[Accepted]:
    """Accept tasks for a caller, all or none. When this returns they are on disk, whatever happens next.

    Raises whatever `check` and `accept` raise, each of them before anything is written.
    """
    return accept([check(submission, caller=caller) for submission in submissions], caller=caller, once=once)


def accept(
    new: Sequence[NewTask], *, caller: Caller = EVERYBODY, once: Once | None = None
) -> list[Accepted]:
    """Accept what has been checked; with a key that was used before, answer with what was accepted then.

    Raises what `acceptance.accept` raises, idempotency.KeyReused and `db.Unavailable` before anything is written.
    """
    failpoints.reach("f1")
    try:
        states = together.accept(new, caller=caller, once=once)
    except idempotency.AlreadyTaken:
        return _again(new, once, caller=caller)
    accepted = [Accepted(task, state) for task, state in zip(new, states, strict=True)]
    tell(new)
    failpoints.reach("f3")
    relay.send_soon([ticket_of(each.task) for each in accepted if each.state is State.QUEUED])
    failpoints.reach("f4")
    return accepted


def tell(new: Sequence[NewTask]) -> None:
    """One line for a submission, with the ids of all its tasks."""
    ids = {"task_id": new[0].task_id} if len(new) == 1 else {"task_ids": [task.task_id for task in new]}
    kinds = ", ".join(sorted({task.task_type for task in new}))
    log.info("accepted %s", kinds, extra={"action": "task_accepted", **ids})


def _again(new: Sequence[NewTask], once: Once | None, *, caller: Caller) -> list[Accepted]:
    before = idempotency.replayed(once) if once else None
    if before is None:  # its day was over just now
        return accept(new, caller=caller, once=once)
    return [
        Accepted(task._replace(task_id=task_id), state, replayed=True)
        for task, (task_id, state) in zip(new, before, strict=True)
    ]


def check(submission: Submission, *, caller: Caller = EVERYBODY) -> NewTask:
    """The task that would be written down. Raises catalog.UnknownTaskType, catalog.NotForYou and BadParameters."""
    kind = catalog.get(submission.task_type)
    catalog.insist(kind.name, caller=caller)
    try:
        parameters = kind.parameters.model_validate(submission.parameters)
    except ValidationError as error:
        raise BadParameters(error, kind.parameters) from error
    return NewTask(
        task_id=str(uuid_utils.uuid7()),
        task_type=kind.name,
        priority=submission.priority,
        queue=celery_config.queue_name(kind.worker, submission.priority),
        # As the client wrote them, less what the defaults add: a default may be changed while a task waits.
        parameters=parameters.model_dump(mode="json", by_alias=True, exclude_unset=True),
        max_retries=_or(submission.max_retries, kind.retry.max_retries),
        timeout_seconds=_or(submission.timeout_seconds, kind.timeout_seconds),
        delay_seconds=submission.delay_seconds,
        run_at=submission.run_at,
        expires_in_seconds=submission.expires_in_seconds,
        depends_on=tuple(dict.fromkeys(submission.depends_on)),
        on_parent_failure=submission.on_parent_failure,
        mails=kind.mails(parameters),
        webhook=submission.webhook,
        tags=tuple(dict.fromkeys(submission.tags)),
        trace=tracing.place(),
    )


def _or(asked: int | None, default: int) -> int:
    return default if asked is None else asked


def ticket_of(task: NewTask) -> Ticket:
    return Ticket(task.task_id, 1, task.task_type, task.queue, task.timeout_seconds)
