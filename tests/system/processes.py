"""The processes of the stack, for those who kill, freeze and count them."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from cli.stack import Stack
from tests.system.patience import until


def children(pid: int) -> list[int]:
    """The living children of a process, oldest first."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [child for child in map(int, found) if is_alive(child)]


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie. One with threads is a zombie before the last of them has ended, and
    until then it keeps its ports."""
    try:
        is_zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return not is_zombie or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def at_work(pids: list[int]) -> int:
    """The first of these that does something and does not just wait."""

    def turns(pid: int) -> int:
        """How often it has waited for something and gone on."""
        return int(Path(f"/proc/{pid}/status").read_text().split("voluntary_ctxt_switches:")[1].split()[0])

    before = {pid: turns(pid) for pid in pids}
    return until(lambda: next((pid for pid in pids if turns(pid) > before[pid] + 5), 0), "a process at work")


def unread(pid: int) -> int:
    """How many bytes wait in the pipes of a process."""
    pipes = [file for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_fifo()]
    return sum(map(_waiting, pipes))


def _waiting(pipe: Path) -> int:
    opened = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(opened, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(opened)


def environment(pid: int) -> dict[str, str]:
    """The variables with which a process was started."""
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """False when the process was gone before."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int, *, within: float) -> None:
    """Wait until a process has ended."""
    until(lambda: not is_alive(pid), f"the end of process {pid}", within=within)


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Stop processes by SIGSTOP, and let those that still live go on at the end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            kill(pid, signal.SIGCONT)


@contextmanager
def away(stack: Stack, *names: str) -> Iterator[None]:
    """Parts of the stack are stopped in here, and started again after it, side by side."""
    with ThreadPoolExecutor(len(names)) as hands:
        list(hands.map(stack.stop, names))
        try:
            yield
        finally:
            list(hands.map(stack.start, names))


@contextmanager
def present(stack: Stack, name: str) -> Iterator[None]:
    """A part that is not needed otherwise runs in here."""
    stack.start(name)
    try:
        yield
    finally:
        stack.stop(name)


def heal(stack: Stack, *, resting: frozenset[str]) -> list[str]:
    """Start every part that should run and does not; their names."""
    ill = [part.name for part in stack.status() if not part.is_well and part.name not in resting]
    for name in ill:
        stack.start(name)
    return ill
