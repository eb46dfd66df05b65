"""The ticket as a message, as Celery's workers read it.

It is a Celery message, protocol 2, made by hand: `apply_async` costs eight times as much, knows no `mandatory` flag,
and copies the arguments into headers and events, where everybody reads them. Ours carries the task's id and the number
of the attempt; a test compares it with Celery's own.

py-amqp puts properties, headers and frames of each message together in Python, fifty microseconds for each ticket,
which were a quarter of what a task in a batch cost the door (decision 19). But the tickets of a queue are alike but for
two ids of one length. So py-amqp writes a form, with blanks in their places, and each ticket is that form filled in.
"""

from __future__ import annotations

import json
import socket
from functools import lru_cache
from typing import NamedTuple

import uuid_utils
from amqp import Message

from ledger.tickets import Terms, Ticket

#: Seconds beyond a task's own timeout after which its worker kills the attempt, rollback included.
HARD_LIMIT_MARGIN_SECONDS = 15

_ORIGIN = f"sluice@{socket.gethostname()}"

#: As long as an id, and nothing that a task type could be called.
_BLANK_TASK_ID = "<id of the task ".ljust(35, "-") + ">"
_BLANK_MESSAGE_ID = "<id of the message ".ljust(35, "-") + ">"


class Form(NamedTuple):
    """What tickets of one queue have in common that can share their bytes."""

    task_type: str
    attempt: int
    timeout_seconds: int


def form_of(ticket: Ticket) -> Form:
    return Form(ticket.task_type, ticket.attempt, ticket.timeout_seconds)


def blank(form: Form) -> Message:
    """A ticket with blanks for its ids."""
    return _message(form, _BLANK_TASK_ID, _BLANK_MESSAGE_ID)


def filled_in(frames: bytes, ticket: Ticket) -> bytes:
    """The frames of a ticket, from those of its blank form."""
    if len(ticket.task_id) != len(_BLANK_TASK_ID):
        raise ValueError(f"not an id of {len(_BLANK_TASK_ID)} characters: {ticket.task_id!r}")
    return frames.replace(_BLANK_TASK_ID.encode(), ticket.task_id.encode()).replace(
        _BLANK_MESSAGE_ID.encode(), _another_id().encode()
    )


def message_of(ticket: Ticket) -> Message:
    """The same as py-amqp has it."""
    return _message(form_of(ticket), ticket.task_id, _another_id())


def _another_id() -> str:
    """Another one each time: whoever meets a ticket twice can tell (`tasks.dead_letters`)."""
    return str(uuid_utils.uuid4())


def _message(form: Form, task_id: str, message_id: str) -> Message:
    return Message(
        _body(form.attempt),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        correlation_id=task_id,
        message_id=message_id,
        # Those of Celery's that say something: each is read in Python by the worker.
        application_headers={
            "lang": "py",
            "task": form.task_type,
            "id": task_id,
            "retries": form.attempt - 1,
            # The soft limit is ours, see tasks.heartbeat: Celery's could hit a database driver in mid-conversation.
            "timelimit": [form.timeout_seconds + HARD_LIMIT_MARGIN_SECONDS, None],
            "root_id": task_id,
            "argsrepr": f"attempt {form.attempt}",
            "origin": _ORIGIN,
            "ignore_result": True,
        },
    )


@lru_cache
def _body(attempt: int) -> str:
    return json.dumps([[attempt], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])


def terms_of(queue: str, hard_limit: float) -> Terms:
    """The terms of a ticket, by what Celery tells of it."""
    return Terms(queue, int(hard_limit) - HARD_LIMIT_MARGIN_SECONDS)
