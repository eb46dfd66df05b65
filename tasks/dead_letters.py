"""Reads the tickets that RabbitMQ gave up on, tells their tasks, and clears away what is no ticket.

A ticket dies when it was delivered `celery_config.DELIVERY_LIMIT` times to workers that died with it, before the task
was claimed: the ledger bounds whatever comes after that. It is acknowledged after the ledger has been told, so that a
monitor that dies in between reads it again; the ledger knows it then, by the ticket's own number.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import Any

import celery_config
from ledger import dispatches, transitions
from tasks import broker

log = logging.getLogger(__name__)

#: Letters of one queue that a round reads, and strange messages that it tells of.
MOST_AT_ONCE = 200
MOST_TOLD = 5
#: Characters of each property that the log shows: it is not ours, and may be long, or worse.
SHOWN = 40

_TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOST_ATTEMPTS = 2**31


@dataclass(frozen=True)
class Letter:
    """A dead ticket: whose it was, and what RabbitMQ says of its end."""

    task_id: str
    attempt: int
    words: str
    #: Which of its tickets this is.
    ticket: str


def read() -> int:
    """One round; answers how many letters were read."""
    with broker.look() as look:
        return sum(_read_queue(look, celery_config.dead_letter_name(worker)) for worker in celery_config.WORKERS)


def _read_queue(look: broker.Look, queue: str) -> int:
    number = min(look.ready(queue) or 0, MOST_AT_ONCE)
    messages = [message for _ in range(number) if (message := look.channel.basic_get(queue)) is not None]
    strange = [message for message in messages if not _tell_task(message)]
    if strange:
        _tell_of(strange, queue)
    if messages:
        look.channel.basic_ack(messages[-1].delivery_tag, multiple=True)
    return len(messages)


def _tell_task(message: Any) -> bool:
    """False for a message that is no ticket of ours."""
    letter = letter_of(message)
    if letter is None:
        return False
    known = dispatches.dead_letter(letter.task_id, letter.attempt, words=letter.words, ticket=letter.ticket)
    log.warning(
        "%s",
        letter.words,
        extra={"action": "dead_lettered", "task_id": letter.task_id, "attempt": letter.attempt, "known": known},
    )
    return True


def letter_of(message: Any) -> Letter | None:
    """None when it is no ticket: anybody may put anything into a queue."""
    headers = _headers(message)
    task_id = headers.get("id")
    try:
        attempt = json.loads(message.body)[0][0]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
        return None
    if type(attempt) is not int or not 0 < attempt < _MOST_ATTEMPTS:
        return None
    return Letter(task_id, attempt, _words(attempt, headers), _shown(message.properties.get("message_id", "")))


def _words(attempt: int, headers: dict[str, Any]) -> str:
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    queue, reason = _shown(last.get("queue", "its queue")), _shown(last.get("reason", "no reason given"))
    return f"the broker gave up on the ticket for attempt {attempt} in {queue}: {reason}"


def _tell_of(messages: list[Any], queue: str) -> None:
    transitions.count("strange_messages", len(messages))
    for message in messages[:MOST_TOLD]:
        words = "dropped a message from %s that is no ticket: %s"
        log.warning(words, queue, _excerpt(message), extra={"action": "strange_message"})
    if len(messages) > MOST_TOLD:
        log.warning("and %d more in %s", len(messages) - MOST_TOLD, queue, extra={"action": "strange_message"})


def _excerpt(message: Any) -> str:
    """What helps to find its sender: never its body, and of its headers only the names."""
    properties = getattr(message, "properties", {})
    told = {name: properties.get(name) for name in ("content_type", "type", "app_id", "message_id")}
    parts = [f"{name} {_shown(value)}" for name, value in told.items() if value]
    names = sorted(map(str, _headers(message)))[:MOST_TOLD]
    return ", ".join([*parts, f"headers {_shown(' '.join(names))}", f"{len(message.body or '')} in its body"])


def _headers(message: Any) -> dict[str, Any]:
    headers = getattr(message, "headers", None)
    return headers if isinstance(headers, dict) else {}


def _shown(value: object) -> str:
    """Plain letters only, so that no line of the log can be forged."""
    return re.sub(r"[^\w .:/+-]", "?", str(value)[:SHOWN], flags=re.ASCII)
