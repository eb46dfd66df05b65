"""Load on a door: wrk posts the same body on many connections."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


class Refused(Exception):
    """A door did not take what it was measured with."""


@dataclass(frozen=True)
class Load:
    """What came of it."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


def post(url: str, body: str, *, key: str, connections: int, seconds: int, pause_ms: int = 0) -> Load:
    """Post for some seconds, each client again when it has its answer and has paused for so long, on average. One
    thread is enough: it takes a hundredth of what the doors take."""
    done = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
            *("--timeout", "10s", "--script", str(Path(__file__).parent / "post.lua"), url),
        ],
        env=os.environ | {"BENCH_BODY": body, "BENCH_KEY": key, "BENCH_PAUSE_MS": str(pause_ms)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.strip().splitlines()[-1])
    if said["refused"] or said["lost"]:
        raise Refused(f"{url}: of {said['requests']} posts {said['refused']} were refused and {said['lost']} lost")
    return Load(said["requests"], said["microseconds"] / 1e6, said["p50"] / 1e3, said["p99"] / 1e3)
