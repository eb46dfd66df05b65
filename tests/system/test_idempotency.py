"""The same request from many clients at once, while the API is killed under them: one task for each key."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from cli.stack import Stack
from tests.conftest import Tell, eventually
from tests.system import processes
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.service import Service

CLIENTS = 20
#: Of the kills every so many hits the parent of the others.
WHOLE_EVERY = 8


@pytest.mark.timeout(3600)
def test_many_requests_under_one_key_are_one_task_whatever_is_killed(
    stack: Stack, service: Service, books: Books, scale: Scale, chance: random.Random, tell: Tell
) -> None:
    keys = [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(scale.of(60, 5_000))]
    told: dict[str, list[str]] = {key: [] for key in keys}
    between = scale.of(40, 400)
    with ThreadPoolExecutor(CLIENTS) as clients, killed_again_and_again(stack, chance, told, between) as kills:
        for key in keys:
            list(clients.map(lambda _, key=key: told[key].append(post(service, key)), range(CLIENTS)))
    assert {key: ids for key, ids in told.items() if len(ids) != CLIENTS or len(set(ids)) != 1} == {}
    ids = {task_id for each in told.values() for task_id in each}
    assert len(ids) == len(keys)
    assert books.everybody() == ids
    assert len(kills) >= len(keys) * CLIENTS / between / 3
    books.all_succeeded(ids, within=scale.of(60, 600))
    tell(f"{len(keys):,} keys, {CLIENTS} posts each, {len(kills)} kills of the API: {len(ids):,} tasks")


def post(service: Service, key: str) -> str:
    """The task's id, however often one has to ask."""
    body = {"task_type": "data_processing", "parameters": {"data": key}, "max_retries": 10}

    def answered() -> str | None:
        try:
            answer = service.ask("POST", "/api/tasks", json=body, headers={"Idempotency-Key": key})
        except requests.RequestException:
            return None
        assert answer.status_code in (202, 503), answer.text
        return str(answer.json()["task_id"]) if answer.status_code == 202 else None

    return str(eventually(answered, within=120, what=f"an answer to {key}"))


@contextmanager
def killed_again_and_again(
    stack: Stack, chance: random.Random, told: Mapping[str, Sized], between: int
) -> Iterator[list[int]]:
    """The API's processes, one after so many answers; the pids that were hit."""
    hit, over = list[int](), threading.Event()

    def go_on() -> None:
        next_at = between
        while not over.wait(0.02):
            if sum(map(len, told.values())) < next_at:
                continue
            next_at += between
            parent = next(part.pid for part in stack.status() if part.name == "api")
            children = processes.children(parent)
            whole = len(hit) % WHOLE_EVERY == WHOLE_EVERY - 1
            if parent and children and processes.kill(parent if whole else chance.choice(children)):
                hit.append(parent)

    killer = threading.Thread(target=go_on)
    killer.start()
    try:
        yield hit
    finally:
        over.set()
        killer.join()
        stack.wait("api")
