"""One try to deliver: made up, sent, and settled by what came of it."""

from __future__ import annotations

import logging
import random
import time

import failpoints
from ledger import deliveries, outbox
from ledger.deliveries import Delivery, Message, Tried
from tasks.webhooks import destination, envelope, sending, waits
from tasks.webhooks.destination import BadUrl, Refused
from tasks.webhooks.sending import NoAnswer

logger = logging.getLogger(__name__)

_GONE = 410


def run(delivery: Delivery) -> bool:
    """Try a delivery that was taken; whether its receiver answered at all."""
    message = deliveries.message(delivery)
    if message is None:
        return True
    if message.is_gone:
        deliveries.gone(delivery, Tried(0, error=f"it answered {_GONE} before"))
        return True
    began = time.monotonic()
    tried, asked_seconds = _sent(message, began)
    failpoints.reach("f23")
    outcome = _settle(delivery, message, tried, asked_seconds)
    _log(delivery, message, tried, outcome)
    return tried.status is not None


def _sent(message: Message, began: float) -> tuple[Tried, float | None]:
    """How it went, and for how many seconds the receiver asked."""

    def milliseconds() -> int:
        return round((time.monotonic() - began) * 1_000)

    if not message.secrets:
        return Tried(0, error="its owner has no secret to sign with: POST /api/webhooks/secrets"), None
    body = envelope.body(message)
    try:
        # Checked again: the settings may have changed since it was accepted.
        where = destination.parse(message.url)
        answer = sending.post(where, envelope.headers(message, body), body)
    except BadUrl as error:
        return Tried(0, error=str(error)), None
    except Refused as error:
        # Which address it is, is the operator's to know: a name may tell of the network inside.
        logger.warning("refused to send to %s", error, extra={"action": "webhook_refused", "task_id": message.task_id})
        return Tried(milliseconds(), error="its name leads to an address that is not public"), None
    except NoAnswer as error:
        return Tried(milliseconds(), error=str(error)), None
    return Tried(milliseconds(), answer.status), answer.retry_after_seconds


def _settle(delivery: Delivery, message: Message, tried: Tried, asked_seconds: float | None) -> str:
    """What became of it, in a word."""
    if tried.status is not None and 200 <= tried.status < 300:
        won, word = deliveries.delivered(delivery, tried), "delivered"
    elif tried.status == _GONE:
        won, word = deliveries.gone(delivery, tried), "gone"
    elif message.tries_left <= 1:
        won, word = deliveries.given_up(delivery, tried), "given_up"
    else:
        failures = outbox.MOST_TRIES - message.tries_left + 1
        wait = waits.after(failures, chance=random.random(), asked_seconds=asked_seconds)
        won, word = deliveries.failed(delivery, tried, after_seconds=wait), "failed"
    return word if won else "overtaken"


def _log(delivery: Delivery, message: Message, tried: Tried, outcome: str) -> None:
    """Without the URL, in which there may be a secret."""
    logger.info(
        "webhook of event %d %s",
        delivery.seq,
        outcome,
        extra={
            "action": f"webhook_{outcome}",
            "task_id": message.task_id,
            "try": delivery.number,
            "status": tried.status,
            "ms": tried.milliseconds,
            "error": tried.error,
        },
    )
