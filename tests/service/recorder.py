"""A data worker that records what happens to its tickets. A ticket's id says what to do: `<verb>:<seconds>:<name>`.

Everything of the worker is real but the ledger: `celery -A tests.service.recorder worker`.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ledger.tickets import Ticket
from tasks import catalog, lifecycle, pack, parent
from workers import priority, process

_file = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def record(what: str, task_id: str, **more: Any) -> None:
    line = {"what": what, "task": task_id, "at": time.time(), "pid": os.getpid(), **more}
    os.write(_file, (json.dumps(line) + "\n").encode())


def install() -> None:
    signal.signal(signal.SIGQUIT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    record("told", "")
    raise SystemExit(0)


def run(task_id: str, number: int, *, worker: str, terms: Any = None) -> None:
    if not _claimed(task_id, number):
        record("dropped", task_id)
        return
    verb, seconds, _ = task_id.split(":", 2)
    try:
        record("started", task_id, worker=worker)
        VERBS[verb](float(seconds))
    except SystemExit:
        record("cut short", task_id)
        raise
    record("done", task_id)


def run_pack(tickets: Sequence[Ticket], *, worker: str, number: int = 0) -> tuple[list[str | None], float]:
    """As `tasks.pack` has it. `unasked:<seconds>:<name>` is one for which there was no time, once;
    `claim:<seconds>:<name>` takes so long to be claimed."""
    verb, seconds, _ = tickets[0].task_id.split(":", 2)
    time.sleep(float(seconds) if verb == "claim" else 0)
    began = time.monotonic()
    pack.tell_claimed(number)
    record("pack", "", tickets=[ticket.task_id for ticket in tickets])
    states: list[str | None] = []
    for ticket in tickets:
        if ticket.task_id.startswith("unasked:") and _claimed(ticket.task_id, 0):
            states.append(pack.UNASKED)
            continue
        run(ticket.task_id, ticket.attempt, worker=worker)
        states.append("succeeded")
    return states, time.monotonic() - began


def _claimed(task_id: str, number: int) -> bool:
    """An attempt is made once, as the ledger has it."""
    path = f"{os.environ['RECORD']}.{task_id.replace(':', '_')}.{number}"
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        return True
    return False


def deaf(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(BaseException):
            time.sleep(seconds)


def die(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


VERBS: dict[str, Callable[[float], object]] = {
    "sleep": time.sleep,
    "deaf": deaf,
    "die": die,
    "unasked": time.sleep,
    "claim": float,
}


def hang(pull: priority.Pull) -> None:
    """The worker's event loop stands still, once a test asks for it."""
    order = Path(f"{os.environ['RECORD']}.hang")
    if order.exists() and (seconds := order.read_text()):
        order.unlink()
        record("hangs", "")
        time.sleep(float(seconds))
    fill(pull)


def worker_lost(task_id: str, number: int, reason: str, *, child: parent.Child) -> None:
    record("lost", task_id, reason=reason)
    while os.path.exists(f"{os.environ['RECORD']}.slow"):
        time.sleep(0.01)


def timed_out(task_id: str, number: int, seconds: float, *, child: parent.Child) -> None:
    record("timed out", task_id, seconds=seconds)


pack.run = run_pack
if "PACKS" not in os.environ:
    catalog.is_short = lambda name: False
for room, each in ((lifecycle, install), (lifecycle, run), (parent, worker_lost), (parent, timed_out)):
    setattr(room, each.__name__, each)
fill = priority.Pull.fill
priority.Pull.fill = hang  # type: ignore[assignment, method-assign]
if "LOOK_SECONDS" in os.environ:
    priority.LOOK_SECONDS = float(os.environ["LOOK_SECONDS"])

if "HANG_AT_EXIT" in os.environ:
    atexit.register(time.sleep, 60)

app = process.build("data")
