"""The storms can fail: a monitor with a seeded defect is caught by the very rounds that they are made of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.stack import Stack
from tests.conftest import CHECKOUT
from tests.system import processes
from tests.system.books import Books
from tests.system.processes import away
from tests.system.storm import Storm
from tests.system.test_storm_failpoints import kill_at
from tests.system.test_storm_freezes import thaw_before_the_monitor

#: Seconds that a spoilt task gets to end, which it may never do.
PATIENCE_SECONDS = 8.0


def test_the_storms_catch_a_resolver_that_always_rolls_back(storm: Storm, stack: Stack, books: Books) -> None:
    with (
        defective_monitor(stack, "always_rolls_back"),
        pytest.raises(AssertionError, match=r"has not ended, it is committing"),
    ):
        kill_at(storm, ["f11"], "fan_out_insert", within=PATIENCE_SECONDS)
    caught(storm, books)


def test_the_storms_catch_a_rescue_that_does_not_look_again(storm: Storm, stack: Stack, books: Books) -> None:
    with (
        defective_monitor(stack, "rescues_blindly"),
        pytest.raises(AssertionError, match=r"'retried' led from succeeded to retrying, which is no move"),
    ):
        thaw_before_the_monitor(storm, "bulk_insert", within=PATIENCE_SECONDS)
    caught(storm, books)


@contextmanager
def defective_monitor(stack: Stack, defect: str) -> Iterator[None]:
    """A monitor with the stack's own environment, and a defect among its task types, stands in for the stack's."""
    environment = processes.environment(stack.pid("monitor"))
    modules = f"{environment['SLUICE_TASK_MODULES']},tests.system.defects.{defect}"
    log = stack.layout.run / "defective-monitor.log"
    with away(stack, "monitor"), log.open("wb") as file:
        monitor = subprocess.Popen(
            [sys.executable, "-m", "workers.monitor"],
            cwd=CHECKOUT,
            env=environment | {"SLUICE_TASK_MODULES": modules},
            stdout=file,
            stderr=file,
        )
        try:
            yield
        finally:
            monitor.kill()
            monitor.wait()
    assert b"monitor_started" in log.read_bytes(), log.read_text()


def caught(storm: Storm, books: Books) -> None:
    """What is wrong was meant to be; nobody else shall meet it."""
    storm.line.hits, storm.line.wrong = 1, 0
    books.empty()
