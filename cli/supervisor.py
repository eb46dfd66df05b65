"""Drives supervisord, which keeps the stack's processes: its configuration, and its XML-RPC on a loopback port.

A port with a password and not a unix socket: the path of a socket may have 107 characters, a checkout's more.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pwd
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.layout import VENV, write_private
from cli.program import MARK, Program
from cli.roles import USER
from cli.site import Site
from cli.trouble import Trouble

NAME = "supervisord"
#: Seconds for one answer of supervisord.
ANSWER_SECONDS = 5
#: Starts that fail at once are tried again that often, each time a second later than before.
START_RETRIES = 1000

_ALREADY_STARTED = 60
_NOT_RUNNING = 70


class SupervisorError(Trouble):
    """supervisord did not start, or did not do what it was asked."""


@dataclass(frozen=True)
class Process:
    """What supervisord knows of one process."""

    name: str
    #: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN.
    state: str
    pid: int
    uptime_seconds: int

    @property
    def is_running(self) -> bool:
        return self.state == "RUNNING"

    @property
    def is_over(self) -> bool:
        return self.state in ("STOPPED", "EXITED", "FATAL")


class Supervisor:
    def __init__(self, site: Site) -> None:
        self._site = site

    def is_alive(self) -> bool:
        """Whether the supervisord of this stack answers."""
        if "supervisor" not in self._site.ports:
            return False
        try:
            return str(self._ask("supervisor.getIdentification")) == self._site.credentials.stack_id
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def configure(self, programs: Iterable[Program]) -> None:
        """Write the scripts of the programs and the configuration that starts them."""
        layout, stack_id = self._site.layout, self._site.credentials.stack_id
        sections = [self._own_section()]
        for program in programs:
            script = program.script(
                stack_id=stack_id, pid_file=layout.pid_file(program.name), home=layout.home
            )
            write_private(layout.program(program.name), script, mode=0o700)
            sections.append(self._section(program, script))
        write_private(layout.supervisor_config, "\n".join(sections))

    def launch(self) -> None:
        """Start supervisord as a daemon and wait until it answers."""
        layout = self._site.layout
        done = subprocess.run(
            [str(VENV / "bin" / "supervisord"), "-c", layout.supervisor_config.name],
            cwd=layout.state,
            env={
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
                MARK: f"{self._site.credentials.stack_id}/{NAME}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SupervisorError((done.stderr or done.stdout).strip())
        if not _until(self.is_alive, seconds=15):
            raise SupervisorError("it was started but does not answer")

    def take_up_changes(self) -> list[str]:
        """Let a running supervisord follow the configuration as it is now: what changed is stopped and known anew.

        Returns the names of the programs that were stopped for it.
        """
        added, changed, removed = self._ask("supervisor.reloadConfig")[0]
        processes = self.processes()
        living = [name for name in (*changed, *removed) if not processes[name].is_over]
        self.stop([*changed, *removed])
        for name in (*changed, *removed):
            self._ask("supervisor.removeProcessGroup", name)
        for name in (*changed, *added):
            self._ask("supervisor.addProcessGroup", name)
        return living

    def processes(self) -> dict[str, Process]:
        found = {}
        for info in self._ask("supervisor.getAllProcessInfo"):
            uptime = info["now"] - info["start"] if info["pid"] else 0
            found[info["name"]] = Process(info["name"], info["statename"], info["pid"], max(uptime, 0))
        return found

    def start(self, names: Iterable[str]) -> None:
        """Begin to start them; whether they are ready is for others to find out."""
        for name in names:
            self._ask("supervisor.startProcess", name, False, accept=_ALREADY_STARTED)

    def stop(self, names: Iterable[str]) -> None:
        """Stop them side by side and wait until the last one is gone; supervisord kills who takes too long."""
        stopping = set(names)
        for name in stopping:
            self._ask("supervisor.stopProcess", name, False, accept=_NOT_RUNNING)
        longest = 3600  # supervisord itself bounds each by its stopwaitsecs

        def all_over() -> bool:
            return all(each.is_over for each in self.processes().values() if each.name in stopping)

        if not _until(all_over, seconds=longest):
            raise SupervisorError(f"could not stop {', '.join(sorted(stopping))}")
        for name in stopping:
            self._site.layout.pid_file(name).unlink(missing_ok=True)

    def shut_down(self) -> None:
        process = Path(f"/proc/{self._ask('supervisor.getPID')}")
        self._ask("supervisor.shutdown")
        if not _until(lambda: not process.exists(), seconds=30):
            raise SupervisorError("it does not end")

    def _ask(self, method: str, *arguments: object, accept: int | None = None) -> Any:
        url = f"http://{USER}:{self._site.credentials.supervisor}@127.0.0.1:{self._site.ports['supervisor']}/RPC2"
        with xmlrpc.client.ServerProxy(url, transport=_Impatient()) as proxy:
            try:
                return getattr(proxy, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == accept:
                    return None
                raise SupervisorError(
                    f"{method} {' '.join(map(str, arguments))}: {fault.faultString}"
                ) from fault

    def _own_section(self) -> str:
        layout = self._site.layout
        password = hashlib.sha1(self._site.credentials.supervisor.encode(), usedforsecurity=False).hexdigest()
        return "\n".join(
            [
                "; Written anew by every `sluice up`.",
                "[supervisord]",
                f"identifier={self._site.credentials.stack_id}",
                f"logfile={self._relative(layout.log(NAME))}",
                "logfile_maxbytes=5MB",
                "logfile_backups=2",
                f"pidfile={self._relative(layout.pid_file(NAME))}",
                f"childlogdir={self._relative(layout.run)}",
                f"user={pwd.getpwuid(os.getuid()).pw_name}",
                "umask=077",
                "",
                "[inet_http_server]",
                f"port=127.0.0.1:{self._site.ports['supervisor']}",
                f"username={USER}",
                f"password={{SHA}}{password}",
                "",
                "[rpcinterface:supervisor]",
                "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
                "",
            ]
        )

    def _section(self, program: Program, script: str) -> str:
        layout = self._site.layout
        return "\n".join(
            [
                f"[program:{program.name}]",
                f"command=/bin/sh {self._relative(layout.program(program.name))}",
                # Another script makes it another program, so that supervisord sees what changed.
                f'environment=PROGRAM_VERSION="{hashlib.sha256(script.encode()).hexdigest()[:16]}"',
                "autostart=false",
                "autorestart=true",
                "startsecs=1",
                f"startretries={START_RETRIES}",
                f"stopsignal={program.stop_signal}",
                f"stopwaitsecs={program.stop_seconds}",
                # The parent alone is asked to end, since Celery's and gunicorn's parents see to their children;
                # but when it must be killed, nobody of its group may stay behind.
                f"stopasgroup={'true' if program.stop_signal == 'KILL' else 'false'}",
                "killasgroup=true",
                "redirect_stderr=true",
                f"stdout_logfile={self._relative(layout.log(program.name))}",
                "stdout_logfile_maxbytes=10MB",
                "stdout_logfile_backups=2",
                "",
            ]
        )

    def _relative(self, path: Path) -> str:
        """To the state, which is where supervisord runs: it expands `%` in a path, and some paths twice."""
        return str(path.relative_to(self._site.layout.state))


class _Impatient(xmlrpc.client.Transport):
    """A supervisord that is frozen must not freeze who asks it."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = ANSWER_SECONDS
        return connection


def _until(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
