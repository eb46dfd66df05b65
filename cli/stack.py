"""A stack: the private servers and the processes of the service, brought up in order, kept, looked at and brought down.

    from cli.stack import Stack

    stack = Stack(Path(".sluice/test"), overrides={"SLUICE_LEASE_SECONDS": "3"})
    stack.up()                                          # or up(parts=["mariadb", "redis"])
    stack.environment()["SLUICE_URL"]
    pid = stack.kill("rabbitmq")                        # supervisord starts it again
    stack.wait("rabbitmq", after_pid=pid)
    stack.stop("rabbitmq"); stack.start("rabbitmq")
    stack.down()

A stack reads neither the real environment nor `.env`: what the operator chose comes in as `overrides` (the command line
sees to that), so that a test never meets anybody's real database.

supervisord keeps the processes, restarts whatever dies, and knows nothing of order or health; both are seen to here.
When supervisord itself was killed, its processes live on as orphans that nobody restarts: the next `up` recognises
them by their mark, ends them and starts anew, with the same ports and data.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cli import application, credentials, environment, placement, ports, processes
from cli.layout import CHECKOUT, SAMPLES, Layout
from cli.output import Output
from cli.program import Program
from cli.readiness import LOG_LINES, READY_SECONDS, Readiness, last_lines
from cli.roles import OF_DATABASES, SET_UP, Role
from cli.servers import databases as database_servers
from cli.servers import rabbitmq, redis, smtp
from cli.site import Site
from cli.supervisor import NAME as SUPERVISOR
from cli.supervisor import Process, Supervisor, SupervisorError
from cli.trouble import Trouble

#: Seconds that orphans have to end by themselves.
ORPHAN_SECONDS = 15


class StackError(Trouble):
    """The stack could not do what it was asked."""


class NotUp(StackError):
    """There is no stack in this folder, or it is not running."""


@dataclass(frozen=True)
class Part:
    """A line of `status`."""

    name: str
    state: str
    pid: int
    uptime_seconds: int
    url: str

    @property
    def is_well(self) -> bool:
        return self.state in ("RUNNING", "EXTERNAL")


class Stack:
    def __init__(
        self,
        state: Path,
        *,
        overrides: Mapping[str, str] | None = None,
        replicas: Mapping[str, int] | None = None,
        databases: Mapping[str, str] | None = None,
        output: Output | None = None,
    ) -> None:
        self.layout = Layout(state.absolute())
        self._overrides = dict(overrides or {})
        self._replicas = dict(replicas or {})
        #: The private server of each database.
        self.databases = placement.placed(databases or {})
        self._output = output or Output()
        #: Whether `up` made the API key, which is then to be shown.
        self.key_is_new = False

    # Up and down

    def up(self, parts: Iterable[str] | None = None) -> bool:
        """Bring the stack up, or only some of its parts, and wait until it is ready.

        Returns whether anything had to be started.
        """
        with self._alone():
            if not self._supervisor_is_alive():
                self.end_orphans()
            programs = self._prepare()
            wanted = self._select(programs, parts)
            self._let_supervisor_know(programs)
            return self._start_in_order(wanted)

    def down(self) -> None:
        """Stop everything, the service before its servers: Flower hangs when its broker goes first."""
        if not self.layout.credentials.exists():
            return
        with self._alone():
            if self._supervisor_is_alive():
                self._stop_in_order()
            self.end_orphans()
            for pid_file in self.layout.run.glob("*.pid"):
                pid_file.unlink()

    def wipe(self) -> None:
        """Bring it down and remove its folder with all its data."""
        if not self.layout.credentials.exists():
            raise NotUp(f"{self.layout.state} is not the folder of a stack")
        for inner in self.layout.state.glob("*/credentials.json"):  # the tests' stacks lie in the checkout's
            Stack(inner.parent, output=self._output).down()
        self.down()
        shutil.rmtree(self.layout.state)

    def end_orphans(self) -> None:
        """End whatever of this stack nobody looks after any more."""
        kept = credentials.load(self.layout.credentials)
        if kept is None:
            return
        orphans = processes.of_stack(kept.stack_id)
        if not orphans:
            return
        began = time.monotonic()
        processes.end(processes.leaders(orphans), stack_id=kept.stack_id, seconds=ORPHAN_SECONDS)
        processes.end(processes.of_stack(kept.stack_id), stack_id=kept.stack_id, seconds=1)
        names = sorted({each.program for each in orphans})
        self._output.done("left behind", f"ended {', '.join(names)}", time.monotonic() - began)

    # One part

    def start(self, name: str) -> None:
        """Start a part that was stopped, and wait until it is ready."""
        supervisor = self._running_supervisor()
        supervisor.start([name])
        self._await(supervisor, [name], resting=[name])

    def stop(self, name: str) -> None:
        """Stop a part; it stays down until it is started."""
        self._running_supervisor().stop([name])

    def restart(self, name: str) -> None:
        self.stop(name)
        self.start(name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the process of a part, and return its pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            self._await_stillness(pid)
        return pid

    @staticmethod
    def _await_stillness(pid: int) -> None:
        """Wait until each thread stands still: on a busy machine, one goes on for a while after SIGSTOP."""
        for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
            with suppress(OSError):  # it is gone
                while thread.read_text().rpartition(") ")[2][0] not in "TZ":
                    time.sleep(0.001)

    def pid(self, name: str) -> int:
        """The pid of a running part, from supervisord, which is its parent."""
        process = self._process(name)
        if process.pid == 0:
            raise NotUp(f"{name} is not running: {process.state}")
        return process.pid

    def wait(self, name: str, *, seconds: float = READY_SECONDS, after_pid: int | None = None) -> None:
        """Wait until a part is ready; with `after_pid`, until another process than that one is."""
        supervisor = self._running_supervisor()
        deadline = time.monotonic() + seconds
        while after_pid is not None and supervisor.processes()[name].pid in (0, after_pid):
            if time.monotonic() > deadline:
                raise self._readiness().failure(name, f"was not started again within {seconds:.0f} s")
            time.sleep(0.05)
        remaining = deadline - time.monotonic()
        self._await(supervisor, [name], resting=[name], seconds=remaining)

    def log(self, name: str, lines: int = LOG_LINES) -> list[str]:
        """The last lines that a part wrote."""
        return last_lines(self.layout.log(name), lines)

    # What there is

    def environment(self, role: Role = SET_UP) -> dict[str, str]:
        """What a script needs to know to work with this stack, as who set it up or as one of its processes."""
        site = self._site()
        variables = self._variables(site, role)
        of_service = {
            name: found
            for name in (*environment.private(site, role), "MAIL_FROM")
            if (found := environment.value(variables, name)) is not None
        }
        of_stack = {
            "SLUICE_URL": application.api_url(site),
            "SLUICE_API_KEY": site.credentials.api_key,
            "FLOWER_URL": application.flower_url(site),
            "SLUICE_STATE_DIR": str(self.layout.state),
            "SLUICE_RUN_DIR": str(self.layout.run),
        }
        if not self._is_external(rabbitmq.NAME):
            of_stack["RABBITMQ_URL"] = rabbitmq.management_url(site)
        if not self._is_external(smtp.NAME):
            of_stack["SLUICE_MAIL_DIR"] = str(self.layout.mail)
        return of_stack | of_service

    def status(self) -> list[Part]:
        """Every part, in the order in which they start."""
        site = self._site()
        known, readiness = self._known_processes(site), self._readiness()
        parts = []
        for name in (*self._servers(), *(each.name for each in self._application(site))):
            process = known.get(name, Process(name, "STOPPED", 0, 0))
            if self._is_external(name):
                process = Process(name, "EXTERNAL", 0, 0)
            if name != rabbitmq.EPMD or not self._is_external(name):
                address = readiness.address(name)
                parts.append(Part(name, process.state, process.pid, process.uptime_seconds, address))
        return parts

    def _known_processes(self, site: Site) -> dict[str, Process]:
        """From supervisord; when that was killed, what lives on without it."""
        supervisor = Supervisor(site)
        if supervisor.is_alive():
            return supervisor.processes()
        orphans = processes.leaders(processes.of_stack(site.credentials.stack_id))
        return {each.program: Process(each.program, "ORPHANED", each.pid, 0) for each in orphans}

    def running_service(self) -> list[str]:
        """The processes of the service that run now, in the order in which they start."""
        known = self._running_supervisor().processes()
        names = [each.name for each in self._application(self._site())]
        return [name for name in names if name in known and known[name].is_running]

    def check_code(self) -> None:
        """Load the API as it lies here: what cannot be loaded must not take the place of what runs."""
        self._run(application.check(self._variables(self._site())), "the code can be loaded")

    def migrate(self) -> None:
        """Bring the databases to the schema of this code."""
        self._run(application.migration(self._variables(self._site())), "the databases")

    def _run(self, program: Program, what: str) -> None:
        """A program that comes to its end."""
        site = self._site()
        log, pid_file = self.layout.log(program.name), self.layout.pid_file(program.name)
        script = program.script(
            stack_id=site.credentials.stack_id, pid_file=pid_file, home=self.layout.home
        ).encode()
        with self._output.step(program.name, what), log.open("wb") as file:
            done = subprocess.run(
                ["/bin/sh"], input=script, stdout=file, stderr=subprocess.STDOUT, env={}, check=False
            )
            pid_file.unlink(missing_ok=True)
            if done.returncode != 0:
                raise self._readiness().failure(program.name, f"ended with exit code {done.returncode}")

    def grant(self) -> None:
        """Let each kind of process do to the tables what it has to; an operator's own servers are not touched."""
        users = [word for role, user in OF_DATABASES.items() for word in (f"--{role}", f"{user}@127.0.0.1")]
        done = self.ledger_command("grants", "--json", *users)
        if done.returncode != 0:
            raise StackError(f"the rights on the tables could not be listed: {(done.stderr or done.stdout).strip()}")
        for name, statements in json.loads(done.stdout).items():
            database = name.rpartition(":")[2]
            if self._is_private(database):
                database_servers.execute(self._site(), database, statements)

    def _is_private(self, database: str) -> bool:
        """Whether a database lies on a server of ours."""
        return database in self.databases and not environment.is_database_given(self._overrides, database)

    def ledger_command(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of the operator's commands, as `python -m ledger --help` lists them, on this stack's ledger."""
        site = self._site()
        return subprocess.run(
            application.ledger_command(*arguments),
            input=text,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", **self._variables(site)},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )

    def _let_key_in(self) -> None:
        """The key lies in the credentials and goes to the ledger by a pipe: in arguments everybody could read it."""
        key = self._site().credentials.api_key
        options = ("--stdin", "--owner", "local", "--scope", "admin", "--note", "made by sluice up")
        done = self.ledger_command("keys", "create", *options, text=key)
        if done.returncode != 0:
            raise StackError(f"the API key could not be made: {(done.stderr or done.stdout).strip()}")
        self.key_is_new = bool(done.stdout.strip())

    def rabbitmqctl(self, *arguments: str) -> str:
        """Ask the private RabbitMQ by its own tool; returns what it printed."""
        done = subprocess.run(
            [f"{rabbitmq.SCRIPTS}/rabbitmqctl", "--quiet", *arguments],
            env={"PATH": os.defpath, "LANG": "C.UTF-8", **rabbitmq.environment(self._site())},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"rabbitmqctl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    # The steps of up

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one `up` or `down` at a time; the kernel gives the lock back whatever happens to its holder."""
        self.layout.create()
        with self.layout.lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._output.note("another `up` or `down` is at work on this stack: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _prepare(self) -> list[Program]:
        """Choose the ports, write every configuration, and return the programs of the stack."""
        self._check_folder()
        credentials.keep(self.layout.credentials)
        self._choose_ports()
        site = self._site()
        programs = self._programs(site)
        for server, prepare in ((rabbitmq.NAME, rabbitmq.prepare), (redis.NAME, redis.prepare)):
            if not self._is_external(server):
                prepare(site)
        for server in placement.servers(self.databases):
            if not self._is_external(server):
                database_servers.prepare(site, server)
        self._put_samples(site)
        return programs

    def _check_folder(self) -> None:
        if "'" in str(self.layout.state) and not self._is_external(rabbitmq.NAME):
            raise StackError(
                f"RabbitMQ hangs in a folder with an apostrophe in its name: {self.layout.state}; "
                "give another one by --state or SLUICE_STATE_DIR"
            )

    def _choose_ports(self) -> None:
        site = self._site()
        chosen, moved = ports.choose(
            self._wanted_ports(),
            remembered=ports.load(self.layout.ports),
            held=self._held_ports(site),
            is_free=ports.is_free,
        )
        for sentence in moved:
            self._output.note(sentence)
        ports.keep(self.layout.ports, chosen)

    def _wanted_ports(self) -> list[ports.Wanted]:
        return [
            ports.Wanted("supervisor"),
            *database_servers.wanted_ports(self.databases),
            *redis.PORTS,
            *smtp.PORTS,
            *rabbitmq.wanted_ports(self._fixed_port(environment.RABBITMQ_UI_PORT)),
            *application.wanted_ports(
                self._fixed_port(environment.API_PORT),
                self._fixed_port(environment.FLOWER_PORT),
                self._replicas,
            ),
        ]

    def _fixed_port(self, name: str) -> int | None:
        text = self._overrides.get(name)
        if text is None:
            return None
        if not text.isdecimal() or not 0 < int(text) < 65_536:
            raise StackError(f"{name} is {text!r}: expected a port between 1 and 65535")
        return int(text)

    def _held_ports(self, site: Site) -> frozenset[str]:
        """The ports on which our own processes listen now. That a process runs proves nothing: it may be about to fail
        because somebody else has its port."""
        held = processes.listening(processes.of_stack(site.credentials.stack_id))
        return frozenset(name for name, port in site.ports.items() if port in held)

    def _programs(self, site: Site) -> list[Program]:
        own = [
            *rabbitmq.programs(site),
            *database_servers.programs(site),
            redis.program(site),
            smtp.program(site),
        ]
        return [each for each in own if not self._is_external(each.name)] + self._application(site)

    def _application(self, site: Site) -> list[Program]:
        return application.programs(
            site,
            lambda role: self._variables(site, role),
            replicas=self._replicas,
            has_own_broker=not self._is_external(rabbitmq.NAME),
        )

    def _is_external(self, name: str) -> bool:
        server = rabbitmq.NAME if name == rabbitmq.EPMD else name
        return environment.is_external(self._overrides, server, self.databases)

    def _is_server(self, name: str) -> bool:
        """Also a database server that an earlier `up` started and this stack does not have any more."""
        return name in self._servers() or placement.is_server(name)

    def _servers(self) -> tuple[str, ...]:
        """The private servers, in the order in which they start."""
        return (
            rabbitmq.EPMD,
            rabbitmq.NAME,
            *placement.servers(self.databases),
            redis.NAME,
            smtp.NAME,
        )

    def _select(self, programs: Sequence[Program], parts: Iterable[str] | None) -> list[str]:
        names = [each.name for each in programs]
        if parts is None:
            return names
        wanted = set(parts)
        if rabbitmq.NAME in wanted:
            wanted.add(rabbitmq.EPMD)
        unknown = sorted(name for name in wanted if name not in names and not self._is_external(name))
        if unknown:
            raise StackError(f"no such part: {', '.join(unknown)}; there are {', '.join(names)}")
        return [name for name in names if name in wanted]

    def _put_samples(self, site: Site) -> None:
        """The files that the examples of the documentation speak of."""
        variables = self._variables(site)
        folder = Path(environment.value(variables, "SLUICE_STORAGE_DIR") or self.layout.storage) / "in"
        folder.mkdir(parents=True, exist_ok=True)
        for sample in SAMPLES.iterdir():
            if not (folder / sample.name).exists():
                shutil.copyfile(sample, folder / sample.name)

    def _let_supervisor_know(self, programs: Sequence[Program]) -> None:
        supervisor = Supervisor(self._site())
        supervisor.configure(programs)
        if supervisor.is_alive():
            changed = supervisor.take_up_changes()
            if changed:
                self._output.done("changed", f"stopped {', '.join(sorted(changed))}")
            return
        try:
            supervisor.launch()
        except SupervisorError as error:
            raise self._readiness().failure(SUPERVISOR, f"did not start: {error}") from error

    def _start_in_order(self, wanted: Sequence[str]) -> bool:
        """The servers, the schema, the service; returns whether anything had to be started."""
        supervisor = self._running_supervisor()
        resting = {name for name, each in supervisor.processes().items() if not each.is_running}
        servers = [name for name in wanted if self._is_server(name)]
        service = [name for name in wanted if not self._is_server(name)]
        # RabbitMQ is the slowest, and the schema does not need it.
        slow = [name for name in servers if name == rabbitmq.NAME]
        supervisor.start(name for name in servers if name in resting)
        self._await(supervisor, [name for name in servers if name not in slow], resting=resting)
        if service:
            self._readiness().look_at_external_servers(environment.given(self._overrides))
        if resting.intersection(service):
            self.migrate()
            self.grant()
            self._let_key_in()
        self._await(supervisor, slow, resting=resting)
        supervisor.start(name for name in service if name in resting)
        self._await(supervisor, service, resting=resting)
        return bool(resting.intersection(wanted))

    def _await(
        self, supervisor: Supervisor, names: Sequence[str], *, resting: Iterable[str], seconds: float = READY_SECONDS
    ) -> None:
        self._readiness().wait(supervisor, names, resting=resting, seconds=seconds)
        if rabbitmq.NAME in names:
            rabbitmq.keep_data(self._site())

    # The steps of down

    def _stop_in_order(self) -> None:
        supervisor = Supervisor(self._site())
        living = [name for name, each in supervisor.processes().items() if not each.is_over]
        for names in (
            [name for name in living if not self._is_server(name)],
            [name for name in living if self._is_server(name)],
        ):
            if names:
                with self._output.step("stopped", ", ".join(names)):
                    supervisor.stop(names)
        supervisor.shut_down()

    # What all of them need

    def _site(self) -> Site:
        kept = credentials.load(self.layout.credentials)
        if kept is None:
            raise NotUp(f"there is no stack in {self.layout.state} yet")
        # A port that this version of the code has and the last `up` had not is chosen by the next one.
        unknown = {want.name: 0 for want in self._wanted_ports()}
        return Site(self.layout, unknown | ports.load(self.layout.ports), kept, self.databases)

    def _variables(self, site: Site, role: Role = SET_UP) -> dict[str, str]:
        return environment.of_processes(site, self._overrides, role)

    def _readiness(self) -> Readiness:
        site = self._site()
        return Readiness(site, self._variables(site), self._output)

    def _supervisor_is_alive(self) -> bool:
        return self.layout.credentials.exists() and Supervisor(self._site()).is_alive()

    def _running_supervisor(self) -> Supervisor:
        supervisor = Supervisor(self._site())
        if not supervisor.is_alive():
            raise NotUp(f"the stack in {self.layout.state} is not running")
        return supervisor

    def _process(self, name: str) -> Process:
        known = self._running_supervisor().processes()
        if name not in known:
            raise StackError(f"no such part: {name}; there are {', '.join(known)}")
        return known[name]
