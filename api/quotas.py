"""How much a key may ask for: requests in a minute, tasks that are open, mails in a day.

A key without bounds costs nothing here. Requests are counted in Redis, which all API processes share, within a fixed
window of a minute. A Redis that does not answer is left alone for a while, and each process counts for itself: a quota
is there to be fair, and never a reason to refuse what the service could do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import redis
from flask import Response, g
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter

from ledger.callers import Caller
from settings import settings
from tasks import redis_servers

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The name of the policy in the headers (draft-ietf-httpapi-ratelimit-headers).
POLICY = "requests"
WINDOW_SECONDS = 60
#: A Redis that does not answer within this is left alone for so long.
ANSWER_SECONDS = 0.1
REST_SECONDS = 5.0


class TooManyRequests(Exception):
    """This key has used up its requests for the minute."""

    def __init__(self, wait_seconds: int) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(TooManyRequests.__doc__)


@dataclass(frozen=True)
class Standing:
    """What a caller has left."""

    allowed: int
    left: int
    reset_seconds: int


def spend(caller: Caller) -> None:
    """Count a request. Raises TooManyRequests."""
    if caller.requests_per_minute is None:
        return
    limit = RateLimitItemPerMinute(caller.requests_per_minute, namespace="sluice")
    name = caller.key_id or caller.owner

    def count(limiter: FixedWindowRateLimiter) -> tuple[bool, Standing]:
        fits = limiter.hit(limit, name)
        reset_at, left = limiter.get_window_stats(limit, name)
        wait = max(1, min(WINDOW_SECONDS, round(reset_at - time.time())))
        return fits, Standing(caller.requests_per_minute or 0, left, wait)

    fits, g.standing = _counted(count)
    if not fits:
        raise TooManyRequests(g.standing.reset_seconds)


def tell(response: Response) -> Response:
    """After every request: what is left, for those who have a bound."""
    standing: Standing | None = g.get("standing")
    if standing is not None:
        response.headers["RateLimit-Policy"] = f'"{POLICY}";q={standing.allowed};w={WINDOW_SECONDS}'
        response.headers["RateLimit"] = f'"{POLICY}";r={standing.left};t={standing.reset_seconds}'
    return response


_memory = FixedWindowRateLimiter(MemoryStorage())
_redis: FixedWindowRateLimiter | None = None
_rests_until = 0.0


def _counted(count: Callable[[FixedWindowRateLimiter], T]) -> T:
    global _rests_until
    if time.monotonic() >= _rests_until:
        try:
            return count(_in_redis())
        except (StorageError, redis.RedisError, OSError) as error:
            _rests_until = time.monotonic() + REST_SECONDS
            logger.warning("redis does not answer, requests are counted here: %s", type(error).__name__)
    return count(_memory)


def _in_redis() -> FixedWindowRateLimiter:
    global _redis
    if _redis is None:
        url = settings().result_backend.get_secret_value()
        pool = redis_servers.pool(url, answer_seconds=ANSWER_SECONDS)
        _redis = FixedWindowRateLimiter(RedisStorage(url, connection_pool=pool, key_prefix="sluice:limits"))
    return _redis


def forget() -> None:
    """Begin anew with whatever Redis the settings name now."""
    global _memory, _redis, _rests_until
    _memory, _redis, _rests_until = FixedWindowRateLimiter(MemoryStorage()), None, 0.0
