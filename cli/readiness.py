"""Waits until parts are ready for work, and says which one is not, with the last lines of its log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cli import application, environment, health, placement
from cli.layout import short
from cli.output import Output
from cli.servers import databases, rabbitmq, redis, smtp
from cli.site import Site
from cli.supervisor import Process, Supervisor
from cli.trouble import Trouble

#: Seconds a part has to become ready; RabbitMQ on a cold disk is the slowest.
READY_SECONDS = 120.0
#: Seconds a part may go on failing at its start before the wait is given up.
TROUBLE_SECONDS = 4
#: Processes of one name that may be seen in one wait: one that was just killed, and the one after it.
PROCESSES = 2
#: Seconds between two looks.
LOOK_SECONDS = 0.1
#: Lines of a log that a failure shows.
LOG_LINES = 20
#: Characters of each: Erlang puts whole terms into one line.
LOG_WIDTH = 400


class PartFailed(Trouble):
    """A part did not become ready."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        super().__init__(f"{name} {reason}")
        self.log = log
        self.lines = last_lines(log)

    def more(self) -> Sequence[str]:
        return [f"The last lines of {short(self.log)}:", *(f"  | {line}" for line in self.lines)]


class ServerMissing(Trouble):
    """A server that the operator named does not answer."""


class Readiness:
    """What being ready means for each part of one stack."""

    def __init__(self, site: Site, variables: Mapping[str, str], output: Output) -> None:
        self._site = site
        self._variables = variables
        self._output = output

    def wait(
        self,
        supervisor: Supervisor,
        names: Iterable[str],
        *,
        resting: Iterable[str],
        seconds: float = READY_SECONDS,
    ) -> None:
        """Wait until all are ready, with a tick for each as it comes; `resting` are those that had to be started."""
        pending = {name: self._probe(name) for name in names}
        watch = _Watch()
        while pending:
            known = supervisor.processes()
            for name, probe in list(pending.items()):
                reason = _why_not_ready(known[name], probe)
                if reason is None:
                    del pending[name]
                    self._tell(name, watch.seconds if name in resting else None)
                elif watch.has_trouble_with(known[name]):
                    raise self.failure(name, "ends soon after it is started")
                elif watch.seconds > seconds:
                    raise self.failure(name, f"is not ready after {seconds:.0f} s: {reason}")
            if pending:
                self._output.passing(f"waiting for {', '.join(pending)}")
                time.sleep(LOOK_SECONDS)

    def look_at_external_servers(self, given: Iterable[str]) -> None:
        """Other people's servers are not ours to start, but ours to miss."""
        for server, names in environment.addresses(self._site.databases).items():
            for name in set(names).intersection(given):
                url = environment.value(self._variables, name) or ""
                reason = health.why_not(_EXTERNAL.get(server, health.database)(url))
                shown = environment.without_password(url)
                if reason is not None:
                    raise ServerMissing(f"{name} points at {shown}, which does not answer: {reason}")
                self._output.done(server, f"{shown}  external, from {name}")

    def address(self, name: str) -> str:
        """Where a part listens, without its password; empty for who does not."""
        site = self._site
        variables = environment.addresses(site.databases).get(name)
        if variables:
            return environment.without_password(environment.value(self._variables, variables[0]) or "")
        if variables is not None:
            return environment.without_password(databases.urls(site, name)[0])
        own = {
            rabbitmq.EPMD: f"127.0.0.1:{site.ports[rabbitmq.EPMD]}",
            application.API: application.api_url(site),
            application.FLOWER: environment.without_password(application.flower_url(site)),
        }
        return own.get(name) or application.figures_url(site, name)

    def failure(self, name: str, reason: str) -> PartFailed:
        return PartFailed(name, reason, self._site.layout.log(name))

    def _tell(self, name: str, seconds: float | None) -> None:
        text = self.address(name)
        self._output.done(name, text if seconds is not None else f"{text}  already running".strip(), seconds)

    def _probe(self, name: str) -> health.Probe | None:
        """None for a part that can only be seen to run."""
        site = self._site
        if application.is_worker(name):
            return health.worker(environment.value(self._variables, "CELERY_BROKER_URL") or "", name)
        return {
            rabbitmq.EPMD: self._listens(rabbitmq.EPMD),
            rabbitmq.NAME: health.all_of(health.broker(rabbitmq.url(site)), self._listens("rabbitmq-ui")),
            **{
                server: health.all_of(*map(health.database, databases.urls(site, server)))
                for server in placement.servers(site.databases)
            },
            redis.NAME: health.result_backend(redis.url(site)),
            smtp.NAME: self._listens(smtp.NAME),
            application.API: health.page(f"{application.api_url(site)}/readyz"),
            application.FLOWER: health.page(f"http://127.0.0.1:{site.ports[application.FLOWER]}/healthcheck"),
        }.get(name)

    def _listens(self, port: str) -> health.Probe:
        return health.port("127.0.0.1", self._site.ports[port])


#: How to look at a server by its address, when it is no database.
_EXTERNAL: Mapping[str, Callable[[str], health.Probe]] = {
    rabbitmq.NAME: health.broker,
    redis.NAME: health.result_backend,
    smtp.NAME: health.mail_server,
}


class _Watch:
    """Notices who ends again and again while others wait for it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._pids: dict[str, set[int]] = {}
        self._trouble_since: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def has_trouble_with(self, process: Process) -> bool:
        pids = self._pids.setdefault(process.name, set())
        pids.add(process.pid)
        if process.state in ("BACKOFF", "FATAL"):
            self._trouble_since.setdefault(process.name, self.seconds)
        failing_for = self.seconds - self._trouble_since.get(process.name, self.seconds)
        return failing_for > TROUBLE_SECONDS or len(pids - {0}) > PROCESSES


def _why_not_ready(process: Process, probe: health.Probe | None) -> str | None:
    if process.pid == 0 or (probe is None and not process.is_running):
        return f"it is {process.state}"
    return health.why_not(probe) if probe else None


def last_lines(log: Path, count: int = LOG_LINES) -> list[str]:
    """The end of a log; nothing when there is none."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return [_short(line.rstrip("\n")) for line in file.readlines()[-count:]]
    except FileNotFoundError:
        return []


def _short(line: str) -> str:
    return line if len(line) <= LOG_WIDTH else f"{line[:LOG_WIDTH]}..."
