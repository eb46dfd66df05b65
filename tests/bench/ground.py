"""The servers that all contenders stand on: those of a stack of ours, and PostgreSQL for whoever needs it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path

from redis import Redis

from cli.stack import Stack
from tests.bench.postgres import Postgres

#: Where the peers' queues are, and their results: away from ours, on the same servers.
PEERS_VHOST = "peers"
PEERS_REDIS_DATABASE = 1


class Ground:
    def __init__(
        self, kind: type[Stack], folder: Path, overrides: Mapping[str, str], of_postgres: Mapping[str, str]
    ) -> None:
        """`of_postgres` are variables for PostgreSQL; the stack knows those of its own servers."""
        self.stack = kind(folder, overrides=overrides)
        self.postgres = Postgres(of_postgres)
        self._kind, self._folder, self._overrides = kind, folder, overrides

    def with_settings(self, **more: str) -> Ground:
        """The same servers, for a service with other settings."""
        other = copy(self)
        other.stack = self._kind(self._folder, overrides={**self._overrides, **more})
        return other

    def up(self) -> None:
        # A first start of everything makes tables, queues and a key.
        self.stack.up()
        for name in self.stack.running_service():
            self.stack.stop(name)
        self.postgres.up()

    def down(self) -> None:
        self.postgres.down()
        self.stack.down()

    def for_peers(self) -> dict[str, str]:
        """The variables by which peers find their servers."""
        ours = self.stack.environment()
        return {
            "PEER_BROKER_URL": f"{ours['CELERY_BROKER_URL'].rpartition('/')[0]}/{PEERS_VHOST}",
            "PEER_REDIS_URL": f"{ours['CELERY_RESULT_BACKEND'].rpartition('/')[0]}/{PEERS_REDIS_DATABASE}",
            "PEER_DATABASE_URL": self.postgres.url,
        }

    def pids(self) -> dict[str, list[int]]:
        """The servers' processes, by what the table calls them."""
        return {
            "broker": [self.stack.pid("rabbitmq")],
            "database": [self.stack.pid("mariadb"), self.postgres.pid],
            "redis": [self.stack.pid("redis")],
        }

    def forget_peers(self) -> None:
        """The queues, results and jobs of whoever was here before."""
        if PEERS_VHOST in self.stack.rabbitmqctl("list_vhosts").split():
            self.stack.rabbitmqctl("delete_vhost", PEERS_VHOST)
        self.stack.rabbitmqctl("add_vhost", PEERS_VHOST)
        self.stack.rabbitmqctl("set_permissions", "-p", PEERS_VHOST, "sluice", ".*", ".*", ".*")
        Redis.from_url(self.for_peers()["PEER_REDIS_URL"]).flushdb()
        self.postgres.empty()
