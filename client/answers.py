"""What the service answers, as types: its JSON as it came. A test holds them to the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

Priority = Literal["high", "normal", "low"]

State = Literal[
    "scheduled",
    "blocked",
    "queued",
    "throttled",
    "running",
    "committing",
    "revoking",
    "retrying",
    "succeeded",
    "failed",
    "revoked",
    "expired",
]
#: The states that a task stays in, unless somebody replays it.
FINAL: frozenset[State] = frozenset({"succeeded", "failed", "revoked", "expired"})

#: The states in the words of older interfaces.
StatusWord = Literal[
    "pending", "processing", "retrying", "canceling", "completed", "failed", "canceled", "expired"
]

Verdict = Literal[
    "stopped_before_start", "rolled_back", "already_finished", "too_late_committed", "stopping"
]

#: What a webhook may want to know of.
WebhookEvent = Literal[
    "task.running", "task.retrying", "task.succeeded", "task.failed", "task.revoked", "task.expired"
]

#: docs/reference/causes.md says what each means.
Cause = Literal[
    "finished",
    "expired",
    "waits_for_tasks",
    "waits_for_time",
    "waits_for_retry",
    "limit_reached",
    "queue_paused",
    "broker_unreachable",
    "queue_silent",
    "no_worker",
    "workers_cut_off",
    "ticket_not_sent",
    "ticket_lost",
    "ticket_resent",
    "in_line",
    "starting",
    "worker_lost",
    "lease_expired",
    "running",
    "in_doubt",
    "committing",
    "being_stopped",
    "monitor_missing",
]


class Links(TypedDict):
    self: str
    history: str
    explain: str
    stop: str
    retry: str
    resolve: str
    deliveries: str


class Accepted(TypedDict):
    """A fresh task: it is on disk."""

    task_id: str
    state: State
    status: StatusWord
    message: str
    task_type: str
    priority: str
    links: Links


class AcceptedBatch(TypedDict):
    """Many fresh tasks, in the order in which they were submitted."""

    task_ids: list[str]
    count: int
    items: list[Accepted]


class Progress(TypedDict):
    done: int
    total: int | None
    percent: float | None


class Resolved(TypedDict):
    """That somebody dealt with a failure."""

    at: str | None
    by: str
    note: str


class Summary(TypedDict):
    """A task in a list. Times are RFC 3339, in UTC."""

    task_id: str
    task_type: str
    priority: str
    queue: str
    tags: list[str]
    state: State
    status: StatusWord
    progress: Progress | None
    error: dict[str, Any] | None
    attempt: int
    retries: int
    max_retries: int
    timeout: int
    worker: str | None
    created_at: str | None
    updated_at: str | None
    due_at: str | None
    expires_at: str | None
    started_at: str | None
    finished_at: str | None
    resolved: Resolved | None
    links: Links


class Attempted(TypedDict):
    """One attempt at a task."""

    number: int
    worker: str
    started_at: str | None
    ended_at: str | None
    outcome: str | None
    error: dict[str, Any] | None


class Remark(TypedDict):
    at: str | None
    event: str
    attempt: int
    text: str


class Relative(TypedDict):
    """A task that another depends on, or that depends on it. The state is null when it is not kept any more."""

    task_id: str
    state: State | None


class Webhook(TypedDict):
    """Whom to tell of what becomes of a task."""

    url: str
    events: list[WebhookEvent]


class Fired(TypedDict):
    """The schedule that submitted a task, by its name then, and the tick; null for a task beside the ticks."""

    schedule_id: str
    name: str
    tick: str | None


class Task(Summary):
    """A task with all that there is to tell. `result` is null before it has succeeded."""

    parameters: dict[str, Any]
    result: Any
    undone: dict[str, Any] | None
    depends_on: list[Relative]
    on_parent_failure: Literal["fail", "ignore"]
    webhook: Webhook | None
    dependents: list[Relative]
    schedule: Fired | None
    attempts: list[Attempted]
    remarks: list[Remark]


class Page(TypedDict):
    """Tasks, newest first; `next_cursor` leads to the next page."""

    items: list[Summary]
    next_cursor: str | None
    counts: NotRequired[dict[str, int]]


class Explained(TypedDict):
    """Why a task is where it is."""

    task_id: str
    state: State
    cause: Cause
    sentence: str
    next: str
    also: list[Cause]
    evidence: dict[str, Any]


class Stopped(TypedDict):
    """The verdict of a stop."""

    task_id: str
    verdict: Verdict
    state: State
    message: str
    links: Links
    rows_undone: NotRequired[int | None]
    rows_remaining: NotRequired[int | None]
    success: NotRequired[bool]


class Retried(TypedDict):
    """A task that was queued again."""

    task_id: str
    state: State
    status: StatusWord
    message: str
    attempt: int
    links: Links


class Queue(TypedDict):
    """A queue of one kind of worker and one priority."""

    name: str
    kind: str
    ready: int
    scheduled: int
    retrying: int
    throttled: int
    running: int
    oldest_seconds: float | None
    workers: int
    paused_at: str | None
    pause_reason: str | None


class Queues(TypedDict):
    items: list[Queue]


class Pauses(TypedDict):
    """The queues that were asked for, as they are now."""

    message: str
    items: list[Queue]


class Limit(TypedDict):
    """How many tasks of a type, or of an owner, run at once and start within a minute. Null is no bound."""

    subject: Literal["type", "owner"]
    name: str
    most_running: int | None
    running: int
    starts_per_minute: int | None
    starts: int
    waiting: int
    changed_at: str | None


class Limits(TypedDict):
    items: list[Limit]


class Held(TypedDict):
    """A task that a worker is at."""

    task_id: str
    task_type: str
    state: State
    attempt: int
    started_at: str | None
    progress: Progress | None
    links: Links


class Worker(TypedDict):
    """A worker process, as it last told of itself."""

    name: str
    kind: str
    queues: list[str]
    concurrency: int
    free: int
    reaches_broker: bool
    leaving: bool
    started_at: str | None
    seen_at: str | None
    seen_seconds_ago: float
    running: list[Held]


class Workers(TypedDict):
    items: list[Worker]


Misfire = Literal["skip", "run_once", "run_all"]
Overlap = Literal["allow", "skip"]


class LastFiring(TypedDict):
    """The last tick that submitted its task. The state is null when the task is not kept any more."""

    tick: str | None
    at: str | None
    task_id: str
    state: State | None


class ScheduleRemark(TypedDict):
    """Why the last tick that submitted no task as usual did not."""

    at: str | None
    text: str


class ScheduleLinks(TypedDict):
    self: str
    run: str
    pause: str
    resume: str
    tasks: str


class Schedule(TypedDict):
    """A task that is submitted again and again; no tick is next while it is paused."""

    schedule_id: str
    owner: str
    name: str
    cron: str
    in_words: str
    timezone: str
    task: dict[str, Any]
    misfire_policy: Misfire
    overlap_policy: Overlap
    enabled: bool
    next_ticks: list[str | None]
    last: LastFiring | None
    remark: ScheduleRemark | None
    created_at: str | None
    changed_at: str | None
    links: ScheduleLinks


class Schedules(TypedDict):
    """`next_after` leads to the next page."""

    items: list[Schedule]
    next_after: str | None


class Fault(TypedDict):
    """One thing that is wrong with a request; `pointer` names the field, such as `#/parameters/to`."""

    pointer: str
    detail: str
    code: str
