"""Processes are recognised by their mark, and nobody else is touched."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from cli import processes
from cli.processes import Marked
from cli.program import MARK

Start = Callable[..., subprocess.Popen[str]]

DOCILE = "import sys; print('ready', flush=True); sys.stdin.read()"
LISTENER = (
    "import socket, sys; server = socket.create_server(('127.0.0.1', 0)); print('ready', flush=True);"
    "print(server.getsockname()[1], flush=True); sys.stdin.read()"
)
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {DOCILE}"


@pytest.fixture
def stack_id() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(code: str, mark: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, MARK: mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_of_the_stack_is_found_and_another_stacks_is_not(start: Start, stack_id: str) -> None:
    ours = start(DOCILE, f"{stack_id}/data")
    start(DOCILE, f"{stack_id}0/data")
    assert processes.of_stack(stack_id) == [Marked(ours.pid, os.getpid(), "data")]


def test_who_does_not_end_by_itself_is_killed(start: Start, stack_id: str) -> None:
    docile, stubborn = start(DOCILE, f"{stack_id}/api"), start(STUBBORN, f"{stack_id}/data")
    processes.end(processes.of_stack(stack_id), stack_id=stack_id, seconds=0.5)
    assert (docile.wait(5), stubborn.wait(5)) == (-15, -9)


def test_a_pid_that_belongs_to_a_stranger_now_is_not_touched(start: Start, stack_id: str) -> None:
    stranger = start(DOCILE, "somebody/else")
    processes.end([Marked(stranger.pid, 1, "data")], stack_id=stack_id, seconds=0.5)
    assert stranger.poll() is None


def test_the_ports_of_ones_own_processes_are_told_from_strangers(start: Start, stack_id: str) -> None:
    with socket.create_server(("127.0.0.1", 0)):
        ours = start(LISTENER, f"{stack_id}/redis")
        assert ours.stdout is not None
        assert processes.listening(processes.of_stack(stack_id)) == {int(ours.stdout.readline())}


def test_leaders_are_those_whose_parent_is_not_among_them() -> None:
    parent, child = Marked(10, 1, "data"), Marked(11, 10, "data")
    assert processes.leaders([child, parent]) == [parent]
