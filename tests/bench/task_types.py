"""The task that all contenders do, as a type of ours."""

from __future__ import annotations

import time

from pydantic import BaseModel

from tasks.attempt import Attempt
from tasks.catalog import task_type


class Nothing(BaseModel):
    """It takes none."""


@task_type("look_at_the_clock", worker="data", parameters=Nothing, short=True)
def look_at_the_clock(attempt: Attempt, parameters: Nothing) -> float:
    """Answer with the seconds since the epoch."""
    return time.time()


class Seconds(BaseModel):
    """How long to stay."""

    seconds: float


@task_type("stay", worker="data", parameters=Seconds)
def stay(attempt: Attempt, parameters: Seconds) -> None:
    """Compute nothing for some time, as a task does that waits for somebody else's answer."""
    time.sleep(parameters.seconds)


@task_type("stay_busy", worker="data", parameters=Seconds)
def stay_busy(attempt: Attempt, parameters: Seconds) -> float:
    """Compute for some time."""
    began = time.time()
    until = time.monotonic() + parameters.seconds
    while time.monotonic() < until:
        pass
    return began
