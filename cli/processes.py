"""Recognises the processes of a stack by the mark in their environment, whoever their parent is now, and ends them.

A pid file alone proves nothing: after a power cut its number may belong to a stranger. The mark does, and only the
owner of a process (or root) can read it. Signals go through a pidfd that was opened before the mark was read, so that a
number which is given to somebody else in between is never hit.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.program import MARK


@dataclass(frozen=True)
class Marked:
    """A living process of a stack."""

    pid: int
    parent: int
    program: str


def of_stack(stack_id: str) -> list[Marked]:
    """The stack's processes, without ourselves and those that started us."""
    ours = _family()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in ours:
            continue
        program = _program_of(int(entry.name), stack_id)
        if program is not None:
            found.append(Marked(int(entry.name), _parent(int(entry.name)), program))
    return found


def leaders(processes: Iterable[Marked]) -> list[Marked]:
    """Those that were not started by another one of them: asked to end, they see to their children."""
    all_of_them = list(processes)
    pids = {each.pid for each in all_of_them}
    return [each for each in all_of_them if each.parent not in pids]


def listening(processes: Iterable[Marked]) -> frozenset[int]:
    """The TCP ports on which they listen."""
    sockets = {socket for each in processes for socket in _sockets(each.pid)}
    return frozenset(port for socket, port in _listeners() if socket in sockets)


def _sockets(pid: int) -> Iterator[str]:
    """The sockets that a process has open, by their inodes."""
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            kind, _, inode = os.readlink(descriptor).partition(":")
            if kind == "socket":
                yield inode.strip("[]")
    except OSError:
        # It has just ended, or closed that one.
        return


def _listeners() -> Iterator[tuple[str, int]]:
    """Each listening socket's inode with its port, as the kernel's tables have them."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTEN:
                yield inode, int(local.rpartition(":")[2], 16)


#: The kernel's number for a socket that listens.
_LISTEN = "0A"


def end(processes: Iterable[Marked], *, stack_id: str, seconds: float) -> None:
    """Ask them to end, and kill whoever is still there after that time."""
    descriptors = [fd for each in processes if (fd := _open(each, stack_id)) is not None]
    try:
        _signal(descriptors, signal.SIGTERM)
        _signal(descriptors, signal.SIGCONT)
        left = _wait(descriptors, seconds)
        _signal(left, signal.SIGKILL)
        _wait(left, 5)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _open(process: Marked, stack_id: str) -> int | None:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if _program_of(process.pid, stack_id) is None:
        os.close(descriptor)
        return None
    return descriptor


def _signal(descriptors: Iterable[int], number: signal.Signals) -> None:
    for descriptor in descriptors:
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            continue


def _wait(descriptors: Iterable[int], seconds: float) -> list[int]:
    """Those that are still alive after that time; a pidfd becomes readable when its process ends."""
    alive = set(descriptors)
    poller = select.poll()
    for descriptor in alive:
        poller.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + seconds
    while alive and (remaining := deadline - time.monotonic()) > 0:
        for descriptor, _ in poller.poll(remaining * 1000):
            poller.unregister(descriptor)
            alive.discard(descriptor)
    return list(alive)


def _program_of(pid: int, stack_id: str) -> str | None:
    prefix = f"{MARK}={stack_id}/".encode()
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for variable in variables:
        if variable.startswith(prefix):
            return variable.removeprefix(prefix).decode()
    return None


def _family() -> frozenset[int]:
    family = set()
    pid = os.getpid()
    while pid > 1:
        family.add(pid)
        pid = _parent(pid)
    return frozenset(family)


def _parent(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name stands in brackets and may hold spaces and brackets itself: what follows the last one is regular.
    return int(status.rpartition(")")[2].split()[1])
