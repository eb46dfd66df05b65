"""Where the time goes in our own processes, as flame graphs: the door under load, and the worker that drains."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.layout import VENV
from tests.bench import posting
from tests.bench.bench import Bench
from tests.bench.cases.drain import CASE, drained

SAMPLES_A_SECOND = 200


def draw(bench: Bench, folder: Path) -> list[Path]:
    """Writes `door.svg` and `worker.svg`; answers with their paths."""
    sluice, number = bench.sluice, bench.of(5_000, least=300)
    door, worker = folder / "door.svg", folder / "worker.svg"
    sluice.forget()
    with sluice.door():
        posting.post(sluice.url, sluice.body, key=sluice.key, connections=8, seconds=1)
        with _recorded(bench, "api", door):
            posting.post(sluice.url, sluice.body, key=sluice.key, connections=32, seconds=bench.of(6, least=2))
    sluice.forget()
    sluice.fill(number)
    with sluice.workers(), _recorded(bench, "data", worker):
        drained(bench, sluice, number, CASE)
    return [door, worker]


@contextmanager
def _recorded(bench: Bench, part: str, picture: Path) -> Iterator[None]:
    """py-spy looks at a process and those below it while the block runs."""
    recording = subprocess.Popen(
        [
            *(str(VENV / "bin" / "py-spy"), "record", "--subprocesses", "--nonblocking"),
            *("--rate", str(SAMPLES_A_SECOND), "--pid", str(bench.ground.stack.pid(part)), "--output", str(picture)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        recording.send_signal(signal.SIGINT)
        recording.wait(60)
