"""Named places in the code where a test can make the process die, freeze, sleep or fail. Off unless a folder is set.

To arm one, write what is to happen into a file of its name in the folder that SLUICE_FAILPOINT_DIR names:

    echo kill      > $SLUICE_FAILPOINT_DIR/f10     # SIGKILL this process
    echo freeze    > $SLUICE_FAILPOINT_DIR/f10     # SIGSTOP it
    echo sleep 2.5 > $SLUICE_FAILPOINT_DIR/f10
    echo raise     > $SLUICE_FAILPOINT_DIR/f10

The first process that reaches the place takes the file, so that one arming is one hit, and leaves `f10.<pid>.hit`
behind, which is how a test counts.
"""

from __future__ import annotations

import os
import signal
import time

from settings import settings

#: Every place, with what has happened when it is reached.
POINTS = {
    "f1": "door: a task is checked, nothing is written",
    "f2": "door: the row is inserted, not committed",
    "f3": "door: the row is committed, no ticket is sent",
    "f4": "door: the ticket is handed over, nothing is answered",
    "f5": "worker: a ticket is here, the task is not claimed",
    "f6": "worker: the task is claimed",
    "f7": "worker: XA START is done and the marker written",
    "f8": "worker: in the middle of the work",
    "f9": "worker: XA END is done",
    "f10": "worker: every branch is prepared",
    "f11": "worker: the decision is taken",
    "f12": "worker: every branch is committed, the task is not finished",
    "f13": "worker: the task is finished, the ticket not acknowledged",
    "f14": "worker: the result is about to be copied",
    "f15": "monitor: a task was found, the row is not moved",
    "f16": "monitor: the row is moved, no ticket is sent",
    "f17": "monitor: a branch in doubt was found, it is not settled",
    "f18": "monitor: a tick's task is written, no ticket is sent",
    "f19": "stop: the row is moved, nothing is undone",
    "f20": "worker: a branch is committed, further ones are not yet",
    "f21": "worker: a mail is about to be sent to its last byte",
    "f22": "worker: a mail's last byte is sent, the server has not answered",
    "f23": "webhooks: a receiver has answered, or not, and nothing is noted of it",
}


class FailpointReached(Exception):
    """A test asked for a failure here."""


def reach(name: str) -> None:
    """This place is reached; do what the folder says, which is nothing unless a test armed it."""
    folder = settings().failpoint_dir
    if folder is None:
        return
    armed, taken = folder / name, folder / f"{name}.{os.getpid()}.hit"
    try:
        if not armed.stat().st_size:
            return  # Its words are still being written.
        armed.rename(taken)
    except FileNotFoundError:
        return
    _act(name, taken.read_text().split())


def _act(name: str, words: list[str]) -> None:
    match words:
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["freeze"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case _:
            raise FailpointReached(f"{name}: {POINTS[name]}")
