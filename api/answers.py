"""What clients get, as types: mypy holds the code to them, and the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from ledger.misfires import Misfire, Overlap
from ledger.states import State
from tasks.explain import Cause
from tasks.revoke import Verdict

#: The states in the words of older interfaces.
StatusWord = Literal[
    "pending", "processing", "retrying", "canceling", "completed", "failed", "canceled", "expired"
]


#: What a webhook may want to know of.
WebhookEvent = Literal[
    "task.running", "task.retrying", "task.succeeded", "task.failed", "task.revoked", "task.expired"
]


class Fault(TypedDict):
    """One thing that is wrong with a request."""

    pointer: str
    detail: str
    code: str


class Problem(TypedDict):
    """Problem details (RFC 9457). `error` repeats the title for clients of older interfaces."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str | None
    error: str
    errors: NotRequired[list[Fault]]
    missing_scope: NotRequired[str]


class Links(TypedDict):
    self: str
    history: str
    explain: str
    stop: str
    retry: str
    resolve: str
    deliveries: str


class Accepted(TypedDict):
    """What the client of a fresh task is told."""

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
    """A task in a list."""

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


class Retried(TypedDict):
    """A task that was queued again."""

    task_id: str
    state: State
    status: StatusWord
    message: str
    attempt: int
    links: Links


class RetriedMany(TypedDict):
    """Tasks that were queued again, or with `dry_run` how many would be, call after call."""

    dry_run: bool
    matching: NotRequired[int]
    replayed: NotRequired[int]
    more: NotRequired[bool]
    task_ids: NotRequired[list[str]]


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


class Whole(Summary):
    """A task with all that there is to tell."""

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


class Changed(Whole):
    """A task after a change of it, with the verdict of a stop."""

    verdict: NotRequired[Verdict]


class Page(TypedDict):
    """Tasks, newest first; `next_cursor` leads to the next page."""

    items: list[Summary]
    next_cursor: str | None
    counts: NotRequired[dict[str, int]]


class Happened(TypedDict):
    """One event of a task."""

    seq: int
    at: str | None
    event: str
    state: State
    attempt: int
    remark: str | None
    detail: Any


class History(TypedDict):
    task_id: str
    items: list[Happened]


class Try(TypedDict):
    """One try to deliver. Of one that died nobody knows how it went: it has neither status nor error."""

    number: int
    at: str | None
    milliseconds: int | None
    status: int | None
    error: str | None


class Delivery(TypedDict):
    """What a webhook is told of one event. `seq` is the event's, `id` is the `webhook-id` of every try."""

    id: str
    seq: int
    type: WebhookEvent
    at: str | None
    state: Literal["pending", "under_way", "delivered", "given_up", "gone"]
    tries_left: int
    next_try_at: str | None
    settled_at: str | None
    tries: list[Try]


class Deliveries(TypedDict):
    task_id: str
    items: list[Delivery]


class NewWebhookSecret(TypedDict):
    """A secret to verify webhooks with, shown this once."""

    id: str
    secret: str
    message: str


class WebhookSecret(TypedDict):
    """That there is a secret; `expires_at` is when it signs no more."""

    id: str
    created_at: str | None
    expires_at: str | None


class WebhookSecrets(TypedDict):
    items: list[WebhookSecret]


class Explained(TypedDict):
    """Why a task is where it is; docs/reference/causes.md has the causes and the evidence."""

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


class Index(TypedDict):
    """Who is here, and where to go."""

    success: bool
    status: str
    message: str
    endpoints: dict[str, str]


class InsertStarted(TypedDict):
    success: bool
    message: str
    task_id: str
    links: Links


class Inserted(TypedDict):
    success: bool
    message: str
    task_id: str
    num_rows_inserted: int


class Deleted(TypedDict):
    success: bool
    message: str
    task_id: str
    num_rows_deleted: int


class Status(TypedDict):
    """A task's state in a word."""

    success: bool
    task_id: str
    status: StatusWord
    state: State


class DataRow(TypedDict):
    id: int
    field1: str | None
    field2: str | None


class DataPage(TypedDict):
    success: bool
    count: int
    data: list[DataRow]
    next_after: int | None


class Count(TypedDict):
    success: bool
    count: int


class File(TypedDict):
    filename: str
    size: int
    modified_at: float


class Files(TypedDict):
    items: list[File]
    outputs: list[File]


class SelfLink(TypedDict):
    self: str


class Uploaded(TypedDict):
    filename: str
    size: int
    sha256: str
    links: SelfLink


class Alive(TypedDict):
    status: str


class Check(TypedDict):
    status: str
    ms: float
    detail: NotRequired[str]


class Ready(TypedDict):
    status: str
    checks: dict[str, Check]


class Queue(TypedDict):
    """A queue of one kind of worker and one priority."""

    name: str
    kind: str
    ready: int
    scheduled: int
    retrying: int
    #: Waiting for a place under a limit.
    throttled: int
    running: int
    oldest_seconds: float | None
    workers: int
    #: Since when none of its tasks starts; null when it is not paused.
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
    #: Within the last minute; counted while there is a bound on them.
    starts: int
    #: Tasks that wait for a place.
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


Document = dict[str, Any]


class NewKey(TypedDict):
    """An API key, shown this once."""

    id: str
    key: str
    message: str


class Key(TypedDict):
    """What is known of an API key; `last_used_at` may be some minutes behind."""

    id: str
    owner: str
    scopes: list[str]
    requests_per_minute: int | None
    most_open_tasks: int | None
    mails_per_day: int | None
    note: str
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class OwnKey(TypedDict):
    """The key of this very request. `scopes` has all that it may do: with `admin`, everything."""

    id: str | None
    owner: str
    scopes: list[str]


class Keys(TypedDict):
    items: list[Key]


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
    """A task that is submitted again and again."""

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
    #: Empty while it is paused.
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
