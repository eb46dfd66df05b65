"""The passwords of a stack: made up once, kept in its state, readable by its owner only."""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from cli.layout import write_private
from cli.roles import USER


def _token() -> str:
    return secrets.token_hex(16)


def _api_key() -> str:
    """In the form that the service knows; `ledger.keys` says what is in it."""
    return f"sluice_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


@dataclass(frozen=True)
class Credentials:
    #: Marks every process of the stack in its environment, so that it is recognised whoever started it.
    stack_id: str = field(default_factory=_token)
    supervisor: str = field(default_factory=_token)
    mariadb: str = field(default_factory=_token)
    mysql: str = field(default_factory=_token)
    rabbitmq: str = field(default_factory=_token)
    redis: str = field(default_factory=_token)
    flower: str = field(default_factory=_token)
    #: From which the passwords of the service's own users follow.
    users: str = field(default_factory=_token)
    #: Opens the HTTP door of this stack, with every scope.
    api_key: str = field(default_factory=_api_key)
    #: Of the containers that watch: opens /metrics for Prometheus, and Grafana for people.
    metrics_key: str = field(default_factory=_api_key)
    grafana: str = field(default_factory=_token)

    def of(self, server: str, user: str) -> str:
        """The password of a user on a kind of server. Who knows one cannot find another."""
        if user == USER:
            return str(getattr(self, server))
        return hmac.new(self.users.encode(), f"{server} {user}".encode(), "sha256").hexdigest()[:32]


def load(path: Path) -> Credentials | None:
    """The kept ones, or None where there was never a stack."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Credentials(**{each.name: kept[each.name] for each in fields(Credentials) if each.name in kept})


def keep(path: Path) -> Credentials:
    """The kept ones, completed with what is missing."""
    credentials = load(path) or Credentials()
    write_private(path, json.dumps(asdict(credentials), indent=2))
    return credentials
