"""What clients send, as models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from api import answers, told
from ledger import outbox, tags
from ledger.editing import Change
from ledger.filters import Filter
from ledger.states import State
from tasks import retry
from tasks.catalog import LONGEST_TIMEOUT_SECONDS
from tasks.submit import (
    LONGEST_DELAY_SECONDS,
    LONGEST_EXPIRY_SECONDS,
    MOST_PARENTS,
    MOST_TAGS,
    Submission,
)
from tasks.webhooks import destination

Priority = Literal["high", "normal", "low"]


def _text(value: Any) -> Any:
    """Pydantic would take a number for seconds since 1970."""
    if not isinstance(value, str | None):
        raise ValueError("must be a text such as 2026-01-31T12:00:00Z")
    return value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("run_at lies beyond the calendar, which has the years 1 to 9999") from None


UtcMoment = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(_in_utc)]


def _tag(word: str) -> str:
    if not tags.FORM.fullmatch(word):
        raise ValueError(tags.SAID)
    return word


Tag = Annotated[
    str,
    AfterValidator(_tag),
    WithJsonSchema({"type": "string", "pattern": f"^{tags.FORM.pattern}$", "examples": ["eu"]}),
]


_USUAL_EVENTS: list[answers.WebhookEvent] = ["task.succeeded", "task.failed", "task.revoked", "task.expired"]


def _webhook_url(url: str) -> str:
    return destination.parse(url).url


class WebhookBody(BaseModel):
    """Whom to tell of what becomes of a task."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[
        str,
        Field(
            max_length=destination.LONGEST_URL,
            description="Where to post each event, signed by Standard Webhooks",
            examples=["https://example.com/hooks/sluice"],
            json_schema_extra={"format": "uri"},
        ),
        AfterValidator(_webhook_url),
    ]
    events: Annotated[
        list[answers.WebhookEvent],
        Field(min_length=1, max_length=len(outbox.TYPES), description="Of what; its ends unless others are named"),
    ] = Field(default_factory=lambda: [*_USUAL_EVENTS])

    @property
    def kept(self) -> dict[str, Any]:
        return {"url": self.url, "events": list(dict.fromkeys(self.events))}


class TaskBody(BaseModel):
    """What a task is, whenever it is submitted."""

    model_config = ConfigDict(extra="forbid")

    task_type: Annotated[str, Field(min_length=1, max_length=64, description="What to do, such as data_processing")]
    priority: Annotated[Priority, Field(description="Which queue of its worker")] = "normal"
    parameters: Annotated[dict[str, Any], Field(description="What the task type asks for")] = Field(
        default_factory=dict
    )
    max_retries: Annotated[int, Field(strict=True, ge=0, le=retry.MOST_RETRIES)] | None = None
    timeout: Annotated[
        int, Field(strict=True, ge=1, le=LONGEST_TIMEOUT_SECONDS, description="Seconds one attempt may take")
    ] | None = None
    expires_in: Annotated[
        float,
        Field(
            strict=True, gt=0, le=LONGEST_EXPIRY_SECONDS, description="Seconds after which it is not started any more"
        ),
    ] | None = None
    webhook: Annotated[WebhookBody | None, Field(description="Whom to tell of what becomes of it")] = None
    tags: Annotated[list[Tag], Field(max_length=MOST_TAGS, description="Words to find it by")] = Field(
        default_factory=list
    )

    def submission(self, **more: Any) -> Submission:
        return Submission(
            task_type=self.task_type,
            parameters=self.parameters,
            priority=self.priority,
            max_retries=self.max_retries,
            timeout_seconds=self.timeout,
            expires_in_seconds=self.expires_in,
            webhook=self.webhook.kept if self.webhook else None,
            tags=self.tags,
            **more,
        )


def task_body(submission: Submission) -> dict[str, Any]:
    """A submission in the words of `TaskBody`, less what is left to its type."""
    body = TaskBody(
        task_type=submission.task_type,
        parameters=submission.parameters,
        priority=submission.priority,  # type: ignore[arg-type]
        max_retries=submission.max_retries,
        timeout=submission.timeout_seconds,
        expires_in=submission.expires_in_seconds,
        webhook=None if submission.webhook is None else WebhookBody(**submission.webhook),
        tags=list(submission.tags),
    )
    return body.model_dump(mode="json", exclude_none=True)


class SubmitBody(TaskBody):
    """`POST /api/tasks`."""

    delay: Annotated[
        float, Field(strict=True, ge=0, le=LONGEST_DELAY_SECONDS, description="Seconds to wait before it may start")
    ] = 0
    run_at: Annotated[
        UtcMoment | None, Field(description="Time before which it may not start, RFC 3339 with an offset")
    ] = None
    depends_on: Annotated[
        list[UUID], Field(max_length=MOST_PARENTS, description="Tasks that must have succeeded before it may start")
    ] = Field(default_factory=list)
    on_parent_failure: Annotated[
        Literal["fail", "ignore"], Field(description="What becomes of it when one of them does not succeed")
    ] = "fail"

    @model_validator(mode="after")
    def _one_time(self) -> SubmitBody:
        if self.delay and self.run_at:
            raise ValueError("give either delay or run_at, not both")
        return self

    def submission(self, **more: Any) -> Submission:
        return super().submission(
            **more,
            delay_seconds=self.delay,
            run_at=self.run_at,
            depends_on=[str(parent) for parent in self.depends_on],
            on_parent_failure=self.on_parent_failure,
        )


#: Tasks in one batch.
MOST_IN_BATCH = 1_000


class BatchBody(BaseModel):
    """`POST /api/tasks/batch`. Each of the tasks is checked as `SubmitBody`, to tell the faults of all of them."""

    model_config = ConfigDict(extra="forbid")

    tasks: Annotated[
        list[dict[str, Any]],
        Field(min_length=1, max_length=MOST_IN_BATCH, description="Submissions as of `POST /api/tasks`"),
    ]


class PatchBody(BaseModel):
    """`PATCH /api/tasks/<id>`: take a task back, or change one that waits."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    status: Annotated[Literal["canceled"] | None, Field(description="Takes the task back, and stands alone")] = None
    priority: Annotated[Priority | None, Field(description="Which queue of its worker")] = None
    delay: Annotated[
        float | None, Field(strict=True, ge=0, le=LONGEST_DELAY_SECONDS, description="Seconds from now to wait")
    ] = None
    run_at: Annotated[
        UtcMoment | None, Field(description="Time before which it may not start, RFC 3339 with an offset")
    ] = None
    max_retries: Annotated[int, Field(strict=True, ge=0, le=retry.MOST_RETRIES)] | None = None
    timeout: Annotated[
        int, Field(strict=True, ge=1, le=LONGEST_TIMEOUT_SECONDS, description="Seconds one attempt may take")
    ] | None = None

    @model_validator(mode="after")
    def _one_change(self) -> PatchBody:
        given = self.model_dump(exclude_none=True)
        if not given:
            raise ValueError(f"say what to change: {', '.join(type(self).model_fields)}")
        if self.status and len(given) > 1:
            raise ValueError("a task that is taken back cannot be changed as well")
        if self.delay is not None and self.run_at is not None:
            raise ValueError("give either delay or run_at, not both")
        return self

    def change(self) -> Change:
        return Change(
            priority=self.priority,
            delay_seconds=self.delay,
            run_at=self.run_at,
            max_retries=self.max_retries,
            timeout_seconds=self.timeout,
        )


#: A word to those who read the task later.
Note = Annotated[str, Field(max_length=1_000, description="Why, for whoever reads the task later")]


class RetryBody(BaseModel):
    """`POST /api/tasks/<id>/retry`; without a body as well."""

    model_config = ConfigDict(extra="forbid")

    note: Note = ""


class ResolveBody(BaseModel):
    """`POST /api/tasks/<id>/resolve`."""

    model_config = ConfigDict(extra="forbid")

    note: Annotated[Note, Field(min_length=1)]

#: The longest that a request waits for an outcome because its client asked for it.
LONGEST_WAIT_SECONDS = 30

#: Tasks in one page of a list, and rows in one of the table.
MOST_LISTED = 200
MOST_ROWS_LISTED = 1_000


def _digits(word: Any) -> Any:
    """Pydantic would take `1_000` and ` 1.0 ` for a number too."""
    if isinstance(word, str) and not (word.isascii() and word.isdigit() and len(word) < 20):
        raise ValueError("must be a number")
    return word


def _moment_of(word: Any) -> Any:
    """Pydantic would take seconds since 1970 too."""
    try:
        found = datetime.fromisoformat(word[:40])
        if found.tzinfo is None:
            raise ValueError("a time without its offset")
        return found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z") from None


Digits = BeforeValidator(_digits)
Moment = Annotated[
    datetime, BeforeValidator(_moment_of), WithJsonSchema({"type": "string", "format": "date-time"})
]


class ListQuery(BaseModel):
    """`GET /api/tasks?...`. What is given several times fits when one of them does."""

    model_config = ConfigDict(extra="forbid")

    state: Annotated[list[State], Field(description="In the ledger's words")] = []
    status: Annotated[list[answers.StatusWord], Field(description="In the words of older interfaces")] = []
    task_type: list[str] = []
    priority: list[Priority] = []
    depends_on: Annotated[UUID | None, Field(description="Only tasks that depend on this one")] = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    finished_after: Moment | None = None
    finished_before: Moment | None = None
    tag: Annotated[
        list[Tag], Field(max_length=MOST_TAGS, description="Only tasks with this tag; with all of them if several")
    ] = []
    schedule: Annotated[UUID | None, Field(description="Only tasks that this schedule has submitted")] = None
    error: Annotated[
        str | None, Field(min_length=1, max_length=200, description="A part of the error's type or message")
    ] = None
    resolved: Annotated[
        Literal["0", "1", "false", "true"] | None, Field(description="Whether somebody dealt with the failure")
    ] = None
    cursor: Annotated[str | None, Field(description="`next_cursor` of the page before")] = None
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED, description="Tasks in one page"), Digits] = 50
    counts: Annotated[
        Literal["0", "1", "false", "true"],
        Field(description="Also count all tasks by state; with `tag` or `schedule` its newest 100,000"),
    ] = "0"

    @property
    def with_counts(self) -> bool:
        return self.counts in ("1", "true")

    def wanted(self) -> Filter:
        return Filter(
            # `state` in the ledger's words and `status` in the older ones, together.
            states=self.state + [state for state in State if told.status_of(state) in self.status],
            task_types=self.task_type,
            priorities=self.priority,
            depends_on=None if self.depends_on is None else str(self.depends_on),
            created_after=self.created_after,
            created_before=self.created_before,
            finished_after=self.finished_after,
            finished_before=self.finished_before,
            tags=self.tag,
            schedule=None if self.schedule is None else str(self.schedule),
            error=self.error,
            resolved=None if self.resolved is None else self.resolved in ("1", "true"),
        )


Replayable = Literal["failed", "revoked", "expired"]


class RetryManyBody(BaseModel):
    """`POST /api/tasks/retry`: which tasks, with the words of the list's filters."""

    model_config = ConfigDict(extra="forbid")

    state: Annotated[list[Replayable], Field(description="Failed ones, unless other states are given")] = ["failed"]
    task_type: list[str] = []
    priority: list[Priority] = []
    created_after: Moment | None = None
    created_before: Moment | None = None
    finished_after: Moment | None = None
    finished_before: Moment | None = None
    tag: Annotated[list[Tag], Field(max_length=MOST_TAGS, description="Those that have all of these tags")] = []
    error: Annotated[
        str | None, Field(min_length=1, max_length=200, description="A part of the error's type or message")
    ] = None
    resolved: Annotated[bool, Field(strict=True, description="Take those that somebody dealt with instead")] = False
    uncertain: Annotated[
        bool, Field(strict=True, description="Take those instead of which nobody knows whether they took effect")
    ] = False
    dry_run: Annotated[bool, Field(strict=True, description="Only count them")] = False
    note: Note = ""

    @model_validator(mode="after")
    def _says_which(self) -> RetryManyBody:
        if not self.model_fields_set - {"dry_run", "note"}:
            raise ValueError('say which tasks, such as {"state": ["failed"]} for all that failed')
        return self

    def wanted(self) -> Filter:
        return Filter(
            states=self.state,
            task_types=self.task_type,
            priorities=self.priority,
            created_after=self.created_after,
            created_before=self.created_before,
            finished_after=self.finished_after,
            finished_before=self.finished_before,
            tags=self.tag,
            error=self.error,
            resolved=self.resolved,
            uncertain=self.uncertain,
        )


class ShowQuery(BaseModel):
    """`GET /api/tasks/<id>?...`."""

    model_config = ConfigDict(extra="forbid")

    wait: Annotated[
        int | None, Field(ge=0, le=LONGEST_WAIT_SECONDS, description="Seconds to wait for its end"), Digits
    ] = None


class NoQuery(BaseModel):
    """A route that takes no arguments in its query."""

    model_config = ConfigDict(extra="forbid")


class DataQuery(BaseModel):
    """`GET /get_data?...`."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MOST_ROWS_LISTED, description="Rows in one page"), Digits] = 100
    after: Annotated[int, Field(ge=0, le=2**63 - 1, description="The last id of the page before"), Digits] = 0


class PauseBody(BaseModel):
    """`POST /api/queues/<queue>/pause`; may be left out."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500, description="Why, for those who wonder")] | None = None
