"""A cluster of three RabbitMQ nodes on one machine: each quorum queue has a member on each of them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import ports
from cli.credentials import Credentials
from cli.layout import Layout, write_private
from cli.ports import Wanted
from cli.servers import rabbitmq
from cli.site import Site
from tests.system.patience import until

NAMES = ("a", "b", "c")
#: Seconds that a node has to come up, and to be in step with the others, on a machine that others use too.
UP_SECONDS = 120.0


@dataclass
class Node:
    name: str
    site: Site
    home: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return rabbitmq.url(self.site)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            **rabbitmq.environment(self.site),
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": f"{self.name}@localhost",
        }

    def start(self) -> None:
        with (self.site.layout.server(rabbitmq.NAME) / "log" / "console").open("ab") as log:
            self.process = subprocess.Popen(
                [f"{rabbitmq.SCRIPTS}/rabbitmq-server"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.ctl("await_startup")

    def kill(self) -> None:
        """With all that it has started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ctl(self, *arguments: str) -> str:
        command = [f"{rabbitmq.SCRIPTS}/rabbitmqctl", "--quiet", *arguments]

        def tried() -> str | None:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
            said.append(done.stdout + done.stderr)
            return f"{done.stdout}\n" if done.returncode == 0 else None

        said: list[str] = []
        return str(until(tried, " ".join(command), within=UP_SECONDS, every=1, seen=lambda: said[-1]))


@dataclass
class Cluster:
    nodes: list[Node]

    @property
    def url(self) -> str:
        """The nodes as `CELERY_BROKER_URL` takes them."""
        return ";".join(node.url for node in self.nodes)

    def leader(self, queue: str) -> Node:
        """Who leads a queue; after a death it takes the others a moment to agree."""
        name = until(lambda: self._queues().get(queue, {}).get("leader"), f"a leader of {queue}", within=UP_SECONDS)
        return next(node for node in self.nodes if f"{node.name}@localhost" == name)

    def whole(self) -> None:
        """Wait until each queue has all its members again: only then may another node go."""
        until(
            lambda: all(len(queue["online"]) == len(self.nodes) for queue in self._queues().values()),
            "a member of each queue on each node",
            within=UP_SECONDS,
            seen=self._queues,
        )

    def _queues(self) -> dict[str, dict[str, Any]]:
        """The quorum queues by name."""
        asked = next(node for node in self.nodes if node.process is not None)
        columns = ("name", "type", "leader", "members", "online")
        listed = asked.ctl("list_queues", "--vhost", rabbitmq.VHOST, "--formatter", "json", *columns)
        return {queue["name"]: queue for queue in json.loads(listed) if queue["type"] == "quorum"}


@contextmanager
def running(state: Path) -> Iterator[Cluster]:
    """A new cluster each time, without any queue yet."""
    (state / "home").mkdir(parents=True)
    (state / "home" / ".erlang.cookie").write_text(secrets.token_hex(10))
    (state / "home" / ".erlang.cookie").chmod(0o400)
    nodes = [Node(name, site, state / "home") for name, site in zip(NAMES, _sites(state), strict=True)]
    with ExitStack() as processes:
        epmd = subprocess.Popen(["epmd", "-port", str(nodes[0].site.ports[rabbitmq.EPMD]), "-address", "127.0.0.1"])
        processes.callback(epmd.wait)
        processes.callback(epmd.kill)
        for node in nodes:
            _prepare(node)
            processes.callback(node.kill)
            node.start()
        for node in nodes[1:]:
            node.ctl("stop_app")
            node.ctl("join_cluster", f"{NAMES[0]}@localhost")
            node.ctl("start_app")
        yield Cluster(nodes)


def _prepare(node: Node) -> None:
    """A minority stops rather than to go on alone."""
    folder = node.site.layout.server(rabbitmq.NAME)
    folder.mkdir(parents=True)
    rabbitmq.prepare(node.site)
    options = (folder / "rabbitmq.conf").read_text()
    write_private(folder / "rabbitmq.conf", f"{options}cluster_partition_handling = pause_minority\n")


def _sites(state: Path) -> list[Site]:
    """One epmd and one password for all."""
    wanted = [Wanted(f"{name} {each.name}", span=each.span) for name in NAMES for each in rabbitmq.wanted_ports(None)]
    chosen, _ = ports.choose(wanted, remembered={}, held=frozenset(), is_free=ports.is_free)
    credentials = Credentials()
    return [Site(Layout(state / name), _ports_of(name, chosen), credentials) for name in NAMES]


def _ports_of(name: str, chosen: dict[str, int]) -> dict[str, int]:
    own = {each.removeprefix(f"{name} "): port for each, port in chosen.items() if each.startswith(f"{name} ")}
    return own | {rabbitmq.EPMD: chosen[f"{NAMES[0]} {rabbitmq.EPMD}"]}
