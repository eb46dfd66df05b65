"""Results in Redis: a fast copy of what the ledger holds, served while it lives and never relied upon."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable
from typing import Any

import redis

from settings import settings
from tasks import redis_servers

log = logging.getLogger(__name__)

#: A Redis that does not answer within this is left alone for a while. A client at the door may wait three times as
#: long: for a connection, for the login and for the command.
ANSWER_SECONDS = 0.15
REST_SECONDS = 5.0

_client: redis.Redis | None = None
_rests_until = 0.0


def _forget() -> None:
    global _client
    _client = None


os.register_at_fork(after_in_child=_forget)


def key(task_id: str, attempt: int) -> str:
    """The attempt is part of it, so that a replayed task never shows an older result."""
    return f"sluice:result:{task_id}:{attempt}"


def keep(task_id: str, attempt: int, result: Any) -> None:
    """Store a result for SLUICE_RESULT_TTL_SECONDS; without Redis nothing happens."""
    _try(
        lambda client: client.set(
            key(task_id, attempt), json.dumps(result), ex=settings().result_ttl_seconds
        )
    )


def keep_all(kept: Iterable[tuple[str, int, Any]]) -> None:
    """The same for many, each with its task and attempt, in one round trip."""

    def store(client: redis.Redis) -> None:
        with client.pipeline(transaction=False) as together:
            for task_id, attempt, result in kept:
                together.set(key(task_id, attempt), json.dumps(result), ex=settings().result_ttl_seconds)
            together.execute()

    _try(store)


def fetch(task_id: str, attempt: int) -> tuple[bool, Any]:
    """(True, result) when Redis has it; (False, None) sends the caller to the ledger."""
    found = _try(lambda client: client.get(key(task_id, attempt)))
    return (False, None) if found is None else (True, json.loads(found))


def ping() -> bool:
    return _try(lambda client: client.ping(), even_resting=True) is not None


def _try(act: Any, *, even_resting: bool = False) -> Any:
    """One command, or None when Redis is away. After a failure it is spared for a few seconds, so that a dead Redis
    costs one short wait and not one on every request."""
    global _client, _rests_until
    if time.monotonic() < _rests_until and not even_resting:
        return None
    if _client is None:
        url = settings().result_backend.get_secret_value()
        _client = redis.Redis(connection_pool=redis_servers.pool(url, answer_seconds=ANSWER_SECONDS))
    try:
        return act(_client)
    except (redis.RedisError, OSError) as error:
        _rests_until = time.monotonic() + REST_SECONDS
        log.warning("redis does not answer, using the ledger: %s", type(error).__name__)
        return None
