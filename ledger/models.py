"""The ledger's tables, and the one table that every business database gets.

Identifiers are UUIDv7, so that the primary key is also the order of acceptance. All times are the database's own
`UTC_TIMESTAMP(6)`.
"""

from __future__ import annotations

from sqlalchemy import (
    CHAR,
    JSON,
    VARBINARY,
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.mysql import DATETIME

ledger = MetaData()
business = MetaData()

_JSON = JSON(none_as_null=True)


def _id() -> CHAR:
    """A UUID in its 36 characters."""
    return CHAR(36, collation="ascii_bin")


def _name(length: int) -> String:
    """A word of ours: ASCII, compared byte by byte."""
    return String(length, collation="ascii_bin")


def _time() -> DATETIME:
    return DATETIME(fsp=6)


tasks = Table(
    "tasks",
    ledger,
    Column("id", _id(), primary_key=True),
    #: Whose it is: the owner of the key that submitted it.
    Column("owner", _name(32), nullable=False, server_default=text("''")),
    Column("task_type", _name(64), nullable=False),
    Column("priority", _name(8), nullable=False),
    Column("queue", _name(32), nullable=False),
    Column("state", _name(12), nullable=False),
    Column("parameters", _JSON, nullable=False),
    #: Its owner's words, as they are shown; `task_tags` finds by them.
    Column("tags", _JSON),
    #: Counts claims, and fences: an attempt that is not this one any more can change nothing.
    Column("attempt", Integer, nullable=False, server_default="0"),
    #: How many of `max_retries` are used up. A hand-back at shutdown uses none.
    Column("retries", SmallInteger, nullable=False, server_default="0"),
    Column("max_retries", SmallInteger, nullable=False),
    Column("timeout_seconds", Integer, nullable=False),
    #: What a scheduled or retrying task waits for.
    Column("due_at", _time()),
    #: When it has not been claimed by then, it never is.
    Column("expires_at", _time()),
    #: What becomes of it when a task that it depends on does not succeed: `fail`, or `ignore`.
    Column("on_parent_failure", _name(8), nullable=False, server_default="fail"),
    #: Whom to tell of what becomes of it: {"url": ..., "events": ["task.failed", ...]}.
    Column("webhook", _JSON),
    #: Where in a trace it was submitted, in the words of W3C's `traceparent`.
    Column("trace", CHAR(55, collation="ascii_bin")),
    #: When the broker last confirmed a ticket for the coming attempt.
    Column("dispatched_at", _time()),
    Column("dispatches", Integer, nullable=False, server_default="0"),
    Column("worker", String(128)),
    Column("lease_until", _time()),
    #: When the attempt began a last step that must not be taken twice. While its outcome is not noted, nobody knows it.
    Column("last_step_at", _time()),
    Column("progress_done", BigInteger),
    Column("progress_total", BigInteger),
    #: The databases on which an attempt began a branch; once it is decided, those that the decision covers.
    Column("participants", _JSON),
    Column("result", _JSON),
    Column("error", _JSON),
    #: What a stop undid: {"rows_undone": n, "rows_remaining": 0}.
    Column("undone", _JSON),
    Column("created_at", _time(), nullable=False),
    Column("updated_at", _time(), nullable=False),
    Column("started_at", _time()),
    Column("finished_at", _time()),
    #: When, by whom and with which words somebody dealt with a failure.
    Column("resolved_at", _time()),
    Column("resolved_by", String(128)),
    Column("resolved_note", Text),
    Index("ix_tasks_state_due", "state", "due_at"),
    Index("ix_tasks_state_expires", "state", "expires_at"),
    Index("ix_tasks_state_lease", "state", "lease_until"),
    Index("ix_tasks_state_queue", "state", "queue", "dispatched_at"),
    Index("ix_tasks_state_id", "state", "id"),
    Index("ix_tasks_type_id", "task_type", "id"),
    Index("ix_tasks_owner_id", "owner", "id"),
    Index("ix_tasks_owner_state", "owner", "state"),
)

#: Which words a task has. Its indexes lead to the newest tasks with one, among all or among an owner's, however many
#: others there are; a task without tags costs nothing here.
task_tags = Table(
    "task_tags",
    ledger,
    Column("task_id", _id(), primary_key=True),
    Column("tag", _name(40), primary_key=True),
    #: That of the task.
    Column("owner", _name(32), nullable=False),
    Index("ix_task_tags_tag", "tag", "task_id"),
    Index("ix_task_tags_owner", "owner", "tag", "task_id"),
)

#: Queues that somebody paused, now or before.
queues = Table(
    "queues",
    ledger,
    Column("name", _name(32), primary_key=True),
    #: Null when it is not paused any more.
    Column("paused_at", _time()),
    Column("reason", Text),
    Column("changed_at", _time(), nullable=False),
)

#: How many tasks of a type, or of an owner, may run at once and start within a minute. A claim under a limit locks its
#: row, so that those under one limit come one after the other.
limits = Table(
    "limits",
    ledger,
    #: `type` or `owner`.
    Column("subject", _name(8), primary_key=True),
    Column("name", _name(64), primary_key=True),
    Column("most_running", Integer),
    Column("starts_per_minute", Integer),
    Column("created_at", _time(), nullable=False),
    Column("changed_at", _time(), nullable=False),
)

#: How many tasks started under a limit in each of the last seconds: a ring, in which a second takes the place of one
#: that is long over.
limit_starts = Table(
    "limit_starts",
    ledger,
    Column("subject", _name(8), primary_key=True),
    Column("name", _name(64), primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("second", BigInteger, nullable=False),
    Column("starts", Integer, nullable=False),
)

#: The lines before limits that are reached: which throttled task waits in which. Once it was admitted its row keeps a
#: place for it, until it is claimed. A row of a task that has moved otherwise says nothing.
limit_waits = Table(
    "limit_waits",
    ledger,
    Column("task_id", _id(), primary_key=True),
    #: The limit that keeps it.
    Column("subject", _name(8), nullable=False),
    Column("name", _name(64), nullable=False),
    #: The place of its priority, the best being 0.
    Column("priority_rank", SmallInteger, nullable=False),
    Column("admitted_at", _time()),
    Index("ix_limit_waits_line", "subject", "name", "admitted_at", "priority_rank", "task_id"),
    Index("ix_limit_waits_admitted", "admitted_at"),
)

#: Which task waits for which. The rows stay when the wait is over; they go with the child.
dependencies = Table(
    "dependencies",
    ledger,
    Column("parent", _id(), primary_key=True),
    Column("child", _id(), primary_key=True),
    Index("ix_dependencies_child", "child"),
)

#: Tasks that have ended and for which others may wait, until those have been told. Written with the move that ended
#: the task, so that no crash can keep its dependents from learning of it.
endings = Table(
    "endings",
    ledger,
    Column("parent", _id(), primary_key=True),
    #: The last dependent, in the order of ids, that has been told, if one has.
    Column("told_until", _id()),
)

#: One row for each move, written in the same transaction; and the remarks that the monitor leaves.
events = Table(
    "task_events",
    ledger,
    Column("seq", BigInteger, primary_key=True, autoincrement=True),
    Column("task_id", _id(), nullable=False),
    Column("at", _time(), nullable=False),
    Column("event", _name(16), nullable=False),
    Column("state", _name(12), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("remark", Text),
    Column("detail", _JSON),
    Index("ix_task_events_task", "task_id", "seq"),
)

#: Under which keys tasks were submitted, so that a client may ask again. Kept for a day.
idempotency_keys = Table(
    "idempotency_keys",
    ledger,
    Column("owner", _name(64), primary_key=True),
    #: Bytes, because texts that differ in their trailing blanks count as the same.
    Column("idempotency_key", VARBINARY(255), primary_key=True),
    Column("fingerprint", CHAR(64, collation="ascii_bin"), nullable=False),
    Column("task_ids", _JSON, nullable=False),
    Column("created_at", _time(), nullable=False),
    Index("ix_idempotency_keys_created", "created_at"),
)

#: Running totals that must outlive the rows they count, such as tickets that were sent again.
counters = Table(
    "counters",
    ledger,
    Column("name", _name(64), primary_key=True),
    Column("value", BigInteger, nullable=False, server_default="0"),
)

#: What has happened to tasks since the first one, added up from their events (`ledger.tallies`).
tallies = Table(
    "tallies",
    ledger,
    #: An event, an outcome, or a time that was taken.
    Column("what", _name(16), primary_key=True),
    #: A task type, or a queue.
    Column("subject", _name(64), primary_key=True),
    #: Empty where it makes no difference.
    Column("priority", _name(8), primary_key=True),
    #: Of times: how many took up to so many milliseconds and longer than the next smaller ones. 0 for what has none.
    Column("upto_ms", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False, server_default="0"),
    #: All of these times together.
    Column("seconds", Double, nullable=False, server_default="0"),
)

#: What the leading monitor counted when it last looked, so that no scrape has to count (`ledger.figures`).
figures = Table(
    "figures",
    ledger,
    Column("name", _name(32), primary_key=True),
    #: A queue, a state, a database.
    Column("subject", _name(32), primary_key=True),
    Column("value", Double, nullable=False),
    Column("counted_at", _time(), nullable=False),
)

#: One row: which monitor leads, and until when unless it renews its lease.
leadership = Table(
    "leadership",
    ledger,
    Column("name", _name(16), primary_key=True),
    #: Counts leaders; what was begun in an earlier term is over.
    Column("term", BigInteger, nullable=False, server_default="0"),
    Column("holder", String(128)),
    Column("lease_until", _time(), nullable=False),
)

#: The worker processes, as each of them tells every few seconds. One that does not is gone, whatever stands here.
workers = Table(
    "workers",
    ledger,
    #: `data@host`. Celery wants it to be nobody else's.
    Column("name", String(128), primary_key=True),
    Column("kind", _name(16), nullable=False),
    Column("queues", _JSON, nullable=False),
    #: Tasks that it can run side by side, and how many more it could start when it was last seen.
    Column("concurrency", Integer, nullable=False),
    Column("free", Integer, nullable=False),
    Column("reaches_broker", Boolean, nullable=False),
    #: It was told to end and takes no ticket any more.
    Column("leaving", Boolean, nullable=False),
    #: Which of the processes that had this name one after the other.
    Column("incarnation", _id(), nullable=False),
    Column("started_at", _time(), nullable=False),
    Column("seen_at", _time(), nullable=False),
)

#: Who may come in. `digest` is the SHA-256 of the whole key.
api_keys = Table(
    "api_keys",
    ledger,
    Column("id", CHAR(8, collation="ascii_bin"), primary_key=True),
    Column("digest", CHAR(64, collation="ascii_bin"), nullable=False),
    Column("owner", _name(32), nullable=False),
    #: Words separated by commas.
    Column("scopes", _name(64), nullable=False),
    Column("requests_per_minute", Integer),
    Column("most_open_tasks", Integer),
    Column("mails_per_day", Integer),
    Column("note", String(200), nullable=False),
    Column("created_at", _time(), nullable=False),
    Column("expires_at", _time()),
    Column("revoked_at", _time()),
    #: Behind by some minutes.
    Column("last_used_at", _time()),
)

#: Tasks that are to be submitted again and again.
schedules = Table(
    "schedules",
    ledger,
    Column("id", _id(), primary_key=True),
    Column("owner", _name(32), nullable=False),
    Column("name", _name(64), nullable=False),
    Column("cron", _name(100), nullable=False),
    Column("timezone", _name(64), nullable=False),
    #: The submission that each tick makes.
    Column("task", _JSON, nullable=False),
    Column("misfire_policy", _name(8), nullable=False),
    Column("overlap_policy", _name(8), nullable=False),
    Column("enabled", Boolean, nullable=False),
    #: Counts changes of the columns above: what was read before one does not count after it.
    Column("revision", Integer, nullable=False, server_default="0"),
    #: The key of its owner that set it last. Its bounds are those of the tasks.
    Column("key_id", CHAR(8, collation="ascii_bin")),
    #: The first tick of which nothing has become yet. Null when none is waited for.
    Column("next_tick", _time()),
    #: When to look at that tick: at its time, or later when the quota did not let its task in. Null like the tick.
    Column("due_at", _time()),
    Column("last_tick", _time()),
    Column("last_fired_at", _time()),
    Column("last_task_id", _id()),
    #: Why the last tick that made no task as usual did not.
    Column("remark", Text),
    Column("remark_at", _time()),
    Column("created_at", _time(), nullable=False),
    Column("changed_at", _time(), nullable=False),
    Index("uq_schedules_owner_name", "owner", "name", unique=True),
    Index("ix_schedules_owner_id", "owner", "id"),
    Index("ix_schedules_due", "due_at"),
)

#: Which schedule submitted a task, and for which of its ticks: null for one that somebody asked for beside them. No
#: tick has two, whatever else fails.
firings = Table(
    "firings",
    ledger,
    Column("task_id", _id(), primary_key=True),
    #: That of the task.
    Column("owner", _name(32), nullable=False),
    Column("schedule_id", _id(), nullable=False),
    #: The schedule's name then; the schedule may be gone.
    Column("name", _name(64), nullable=False),
    Column("tick", _time()),
    Index("uq_firings_tick", "schedule_id", "tick", unique=True),
    Index("ix_firings_schedule", "schedule_id", "task_id"),
    Index("ix_firings_owner", "owner", "schedule_id", "task_id"),
)

#: How many mails an owner has asked for on the latest day on which there were any.
mail_quotas = Table(
    "mail_quotas",
    ledger,
    Column("owner", _name(32), primary_key=True),
    Column("day", Date, nullable=False),
    Column("mails", Integer, nullable=False),
)

#: What is to be told to a task's webhook: one row for each event of which it wants to know, written in the transaction
#: of the event.
webhook_deliveries = Table(
    "webhook_deliveries",
    ledger,
    #: The event that it tells of.
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("task_id", _id(), nullable=False),
    #: The owner and where it goes: those of one lane wait for each other. Null once there is nothing more to do.
    Column("lane", _name(320)),
    #: When it is due; while a try is under way, when that counts as dead.
    Column("next_at", _time()),
    #: Counts tries, and fences: one that is not this one any more can settle nothing.
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("tries_left", SmallInteger, nullable=False),
    #: When the try that is under way began.
    Column("trying_since", _time()),
    #: Somebody asked for it again.
    Column("by_hand", Boolean, nullable=False, server_default="0"),
    #: `delivered`, `given_up` or `gone`; null before.
    Column("outcome", _name(16)),
    Column("settled_at", _time()),
    Index("ix_webhook_deliveries_lane", "lane", "next_at"),
    Index("ix_webhook_deliveries_task", "task_id"),
)

#: How each try to deliver went. Of one that died nobody knows: it has a time and nothing else.
webhook_tries = Table(
    "webhook_tries",
    ledger,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", _time(), nullable=False),
    Column("milliseconds", Integer),
    #: Of HTTP.
    Column("status", SmallInteger),
    Column("error", String(200)),
)

#: Webhooks that answered 410 Gone: they are not told anything any more.
webhooks_gone = Table(
    "webhooks_gone",
    ledger,
    Column("owner", _name(32), primary_key=True),
    #: The SHA-256 of the URL.
    Column("digest", CHAR(64, collation="ascii_bin"), primary_key=True),
    Column("gone_at", _time(), nullable=False),
)

#: What webhooks of an owner are signed with. Needed as they are, so that they are kept in the clear, and never shown.
webhook_secrets = Table(
    "webhook_secrets",
    ledger,
    Column("id", CHAR(8, collation="ascii_bin"), primary_key=True),
    Column("owner", _name(32), nullable=False),
    Column("secret", VARBINARY(64), nullable=False),
    Column("created_at", _time(), nullable=False),
    #: When it signs no more, once another one has taken its place.
    Column("expires_at", _time()),
    Index("ix_webhook_secrets_owner", "owner", "created_at"),
)

#: First row of every branch: proves, once it is visible, that this task's attempt was committed here, and lets no
#: second attempt commit, whatever else fails.
marker = Table(
    "sluice_marker",
    business,
    Column("task_id", _id(), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("changed_rows", BigInteger, nullable=False, server_default="0"),
    Column("at", _time(), nullable=False),
)
