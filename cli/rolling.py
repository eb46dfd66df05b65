"""Starts the processes of the service anew, one after the other, while it goes on serving.

    look at the code ──> databases ──> API: new workers, then the old ones end ──> each worker, monitor, Flower

gunicorn's workers are replaced under a master that stays, so that the address never refuses anybody. A worker that is
told to end takes no ticket any more and has its grace for what it does; what waits goes to its neighbours, or waits for
its successor.
"""

from __future__ import annotations

import signal
import time

from cli import application, credentials, processes
from cli.output import Output
from cli.readiness import PartFailed
from cli.stack import Stack

#: Seconds that the API's old workers have to answer what they have begun, more than gunicorn gives them.
RELOAD_SECONDS = 60.0


def roll(stack: Stack, output: Output) -> None:
    """Every process of the service that runs; the servers stay as they are."""
    stack.check_code()
    stack.migrate()
    stack.grant()
    for name in stack.running_service():
        began = time.monotonic()
        if name == application.API:
            reload(stack)
        else:
            stack.restart(name)
        output.done(name, "started anew", time.monotonic() - began)


def reload(stack: Stack) -> None:
    """Let gunicorn replace the API's workers."""
    old = workers(stack)
    stack.kill(application.API, signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_SECONDS
    while old & workers(stack):
        if time.monotonic() > deadline:
            words = f"has old workers after {RELOAD_SECONDS:.0f} s"
            raise PartFailed(application.API, words, stack.layout.log(application.API))
        time.sleep(0.2)
    stack.wait(application.API)


def workers(stack: Stack) -> set[int]:
    """The processes of the API that answer requests."""
    kept, master = credentials.load(stack.layout.credentials), stack.pid(application.API)
    return {each.pid for each in processes.of_stack(kept.stack_id) if each.parent == master} if kept else set()
