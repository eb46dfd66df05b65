"""How many tickets RabbitMQ holds, asked over its management interface, since AMQP tells only of the ready ones."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from settings import settings

ANSWER_SECONDS = 5.0
#: Seconds by which its figures may be behind.
LAG_SECONDS = 5.0


class BrokerSilent(Exception):
    """The management interface does not answer, or does not let us in."""


@dataclass(frozen=True)
class Held:
    ready: int
    #: Handed to a worker, and not acknowledged.
    unacked: int


def held() -> dict[str, Held] | None:
    """Each durable queue of our virtual host; None when RABBITMQ_MANAGEMENT_URL is not set."""
    url = settings().rabbitmq_management_url.get_secret_value()
    if not url:
        return None
    vhost = unquote(urlsplit(settings().broker_url.get_secret_value()).path.removeprefix("/")) or "/"
    return {
        queue["name"]: Held(queue.get("messages_ready", 0), queue.get("messages_unacknowledged", 0))
        for queue in _ask(url, f"/api/queues/{quote(vhost, safe='')}")
        if queue.get("arguments", {}).get("x-queue-type") == "quorum"
    }


def _ask(url: str, path: str) -> Any:
    parts = urlsplit(url)
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}{path}"
    request = Request(place, headers={"Authorization": f"Basic {base64.b64encode(login).decode()}"})
    try:
        with urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)
    except (URLError, OSError, ValueError) as error:
        raise BrokerSilent(f"RabbitMQ's management interface at {place}: {error}") from error
