"""What is sent to a webhook, and how it is signed, by Standard Webhooks.

    webhook-id         the same for every try, so that a receiver can tell what it has had
    webhook-timestamp  when this try was made, in seconds since 1970
    webhook-signature  v1,<HMAC-SHA256 of "id.timestamp.body" in base64>, one for each secret that signs now

The body is the same for every try too: it is made of what stays, the event and what the task was accepted as.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ledger import outbox
from ledger.deliveries import Message
from ledger.states import State

#: A result of more bytes than this is left out: receivers want small messages, and know where to look.
MOST_RESULT_BYTES = 65_536

#: States that are entered with an error.
_WITH_ERROR = frozenset({State.FAILED, State.RETRYING})


def body(message: Message) -> bytes:
    result, is_left_out = _fitting(message.result)
    document = {
        "type": outbox.TYPES[message.state],
        "timestamp": _moment(message.at),
        "data": {
            "task_id": message.task_id,
            "task_type": message.task_type,
            "state": message.state,
            "attempt": message.attempt,
            "result": result,
            "result_left_out": is_left_out,
            "error": message.detail if message.state in _WITH_ERROR else None,
            "undone": message.detail if message.event == "rolled_back" else None,
            "created_at": _moment(message.created_at),
            "links": {"self": f"/api/tasks/{message.task_id}"},
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _fitting(result: Any) -> tuple[Any, bool]:
    fits = len(json.dumps(result)) <= MOST_RESULT_BYTES
    return (result, False) if fits else (None, True)


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="microseconds") + "Z"


def headers(message: Message, sent: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": "Sluice",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(message.now),
        "webhook-signature": signatures(message.secrets, message.message_id, message.now, sent),
    }


def signatures(secrets: Iterable[bytes], message_id: str, timestamp: int, sent: bytes) -> str:
    """One for each secret, separated by blanks: a receiver is content with the one that it knows."""
    signed = f"{message_id}.{timestamp}.".encode() + sent
    made = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(each).decode()}" for each in made)
