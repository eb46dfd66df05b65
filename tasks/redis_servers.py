"""Where Redis is: at an address, or wherever the sentinels say that its primary is now.

    redis://user:password@host:6379/0
    redis+sentinel://user:password@one:26379,two:26379,three:26379/name/0

The sentinels are asked for each new connection, in the order in which they answered last, and without a password.
After a failover the connections to the old primary break, and the next ones lead to the new one.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.sentinel import Sentinel, SentinelConnectionPool

SENTINELS = "redis+sentinel"
SENTINEL_PORT = 26379


def pool(url: str, *, answer_seconds: float) -> redis.ConnectionPool:
    """Connections that are given up when an answer takes longer than that."""
    patience = {"socket_timeout": answer_seconds, "socket_connect_timeout": answer_seconds, "retry": None}
    # The client would introduce itself to the server, and ask for news of its maintenance: three answers to wait for
    # before the first command.
    manners: dict[str, Any] = {**patience, "protocol": 2, "driver_info": None}
    if not url.startswith(f"{SENTINELS}://"):
        return redis.ConnectionPool.from_url(url, **manners)
    parts = urlsplit(url)
    sentinels = [_address(each) for each in parts.netloc.rpartition("@")[2].split(",")]
    name, _, number = parts.path.lstrip("/").partition("/")
    return SentinelConnectionPool(
        name,
        Sentinel(sentinels, sentinel_kwargs=manners),  # type: ignore[no-untyped-call]
        username=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        db=int(number or 0),
        **manners,
    )


def _address(word: str) -> tuple[str, int]:
    host, colon, port = word.rpartition(":")
    return (host, int(port)) if colon else (word, SENTINEL_PORT)
