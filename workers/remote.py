"""What a worker does on a word over RabbitMQ: it answers questions, and nothing else.

Whoever may write to Celery's remote control could end workers, take their queues away or change their children. Here
tasks are stopped through the ledger, and workers by whoever runs them; so every command that changes something is
refused, whoever sends it.

Questions come by a queue of the worker's own, and each connection makes one of another name. Such a queue lies on one
node of RabbitMQ. When that node dies, RabbitMQ 4.3 keeps the queue's name and answers nobody who asks for it: a worker
that wanted the same one on the next node waited there for as long as the dead one was away, and took no ticket.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.worker.control import Panel
from kombu import Queue
from kombu.pidbox import Mailbox

log = logging.getLogger(__name__)

#: Commands that Flower sends again and again. They switch on what is on.
HARMLESS = frozenset({"enable_events", "heartbeat"})


def answer_only(app: Celery) -> None:
    """To be called before the worker listens."""
    mailbox: Mailbox = app.control.mailbox  # type: ignore[attr-defined]
    named = mailbox.get_queue

    def named_anew(hostname: str) -> Queue:
        return named(f"{hostname}.{uuid4().hex[:8]}")

    mailbox.get_queue = named_anew  # type: ignore[method-assign]
    for name, command in Panel.meta.items():
        if command.type == "control" and name not in HARMLESS:
            Panel.data[name] = _refuse


def _refuse(state: Any, **told: Any) -> dict[str, str]:
    log.warning("refused a command over RabbitMQ", extra={"action": "command_refused"})
    return {"error": "refused: tasks are stopped through the API, and workers by whoever runs them"}
