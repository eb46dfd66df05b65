"""What a worker does on a word over RabbitMQ: it answers questions, and nothing else.

Whoever may write to Celery's remote control could end workers, take their queues away or change their children. Here
tasks are stopped through the ledger, and workers by whoever runs them; so every command that changes something is
refused, whoever sends it.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.worker.control import Panel

log = logging.getLogger(__name__)

#: Commands that Flower sends again and again. They switch on what is on.
HARMLESS = frozenset({"enable_events", "heartbeat"})


def answer_only() -> None:
    """To be called before the worker listens."""
    for name, command in Panel.meta.items():
        if command.type == "control" and name not in HARMLESS:
            Panel.data[name] = _refuse


def _refuse(state: Any, **told: Any) -> dict[str, str]:
    log.warning("refused a command over RabbitMQ", extra={"action": "command_refused"})
    return {"error": "refused: tasks are stopped through the API, and workers by whoever runs them"}
