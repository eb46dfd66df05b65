"""The service under a steady load for an hour: no process of it takes more and more memory."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest
import requests

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import processes, soak
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.service import CLIENTS, Service

PARTS = ("api", "data", "email", "file", "monitor")
#: Seconds between two looks at the memory, and the most that a client rests after a task.
LOOK_SECONDS, PAUSE_SECONDS = 5.0, 8.0
#: What may be taken more at the end than when everybody had warmed up. A child that was just started anew takes less
#: than an old one, so even a median over many looks goes up and down by some per cent.
MOST_GROWTH = 1.1


@pytest.mark.long
@pytest.mark.timeout(4_500)
def test_no_process_takes_more_and_more_memory_in_an_hour_of_load(
    service: Service, stack: Stack, books: Books, scale: Scale, chance: random.Random, tell: Tell
) -> None:
    seconds = scale.of(60, 3_600)
    soak.upload(service)
    over = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(_use, service, over, random.Random(chance.random())) for _ in range(CLIENTS)]
        try:
            looks = _looks(stack, seconds)
        finally:
            over.set()
        number = sum(client.result() for client in clients)
    sixth = len(looks) // 6
    before, after = _medians(looks[sixth : 2 * sixth]), _medians(looks[-sixth:])
    tell(f"{number} tasks in {seconds} s, MiB of each part then: {_told(before)}; in the end: {_told(after)}")
    for part in PARTS:
        assert after[part] <= before[part] * MOST_GROWTH, f"{part} took {before[part]:.0f}, then {after[part]:.0f} MiB"


def _use(service: Service, over: threading.Event, chance: random.Random) -> int:
    """Post tasks of all kinds, one by one and in batches, read them, list them and stop some; how many there were."""
    number = 0
    with requests.Session() as session:

        def ask(method: str, path: str, **options: object) -> requests.Response:
            answer = service.ask(method, path, session=session, **options)
            assert answer.status_code < 500, f"{method} {path} was answered {answer.status_code}: {answer.text}"
            return answer

        while not over.wait(chance.uniform(0, PAUSE_SECONDS)):
            body = chance.choice(soak.bodies(60, chance))
            tasks = [body] * chance.choice((1, 1, 1, 10))
            task_id = ask("POST", "/api/tasks/batch", json={"tasks": tasks}).json()["task_ids"][0]
            ask("POST", "/api/tasks", json={"task_type": body["task_type"], "parameters": {"wrong": 1}})
            ask(*chance.choice((("GET", f"/api/tasks/{task_id}?wait=5"), ("POST", f"/api/tasks/{task_id}/stop"))))
            ask("GET", chance.choice(("/api/tasks?counts=1", "/metrics", f"/api/tasks/{task_id}/history", "/health")))
            number += len(tasks)
    return number


def _looks(stack: Stack, seconds: float) -> Sequence[Mapping[str, float]]:
    """What each part takes, every few seconds."""
    until, found = time.monotonic() + seconds, []
    while time.monotonic() < until:
        found.append({part: _mebibytes(stack.pid(part)) for part in PARTS})
        time.sleep(LOOK_SECONDS)  # not a wait: the looks are to be spread out
    return found


def _mebibytes(pid: int) -> float:
    """What it and its children take that nobody else does."""
    return sum(map(_own_kibibytes, (pid, *processes.children(pid)))) / 1_024


def _own_kibibytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # a child that was replaced meanwhile
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _medians(looks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {part: median(look[part] for look in looks) for part in PARTS}


def _told(mebibytes: Mapping[str, float]) -> str:
    return ", ".join(f"{part} {taken:.0f}" for part, taken in mebibytes.items())
