"""Every process of the service and its servers is killed at random under a steady load, and nothing is lost."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.stack import Stack
from tests.conftest import CHECKOUT
from tests.system import soak
from tests.system.books import Books
from tests.system.conftest import SECOND_DATA_WORKER, Scale
from tests.system.processes import present
from tests.system.service import Service

WORKERS = ("data", SECOND_DATA_WORKER, "email", "file")
#: Who is killed more often than the others: these are at work.
FAVOURITES = ("child",) * 8 + ("worker",) * 4


def test_nothing_is_lost_or_done_twice_while_everything_is_killed_at_random(
    service: Service,
    stack: Stack,
    books: Books,
    scale: Scale,
    chance: random.Random,
    capsys: pytest.CaptureFixture[str],
) -> None:
    number, kills, hits = scale.of(300, 10_000), scale.of(15, 320), scale.of(1, 50)
    uploaded = service.ask("POST", "/api/files", files={"file": (soak.CSV_NAME, soak.CSV.encode())})
    assert uploaded.ok, uploaded.text
    clients = soak.Clients(service, soak.bodies(number, chance))
    killer = soak.Killer(stack, chance, workers=WORKERS)
    with present(stack, SECOND_DATA_WORKER), clients.posting():
        for victim in killer.plan(kills, favourites=FAVOURITES):
            clients.let(number // kills)
            killer.kill(victim)
    began = time.monotonic()
    everything = books.everybody()
    books.all_succeeded(everything, within=scale.of(90, 600))

    deaths = soak.deaths_by_victim(books, killer.kills)
    copies = mails_by_task(stack, everything)
    with capsys.disabled():
        print(f"\n{soak.told(killer.kills, deaths)}\n  {len(clients.accepted)} accepted, {len(everything)} rows")
        print(f"  posts that were tried again: {dict(clients.refused)}")
        print(f"  all over {time.monotonic() - began:.0f} s after the last kill")
        print(f"  {len(copies)} mails, of which {sum(number > 1 for number in copies.values())} came more than once")
    assert not set(clients.accepted) - everything, "accepted, and not there"
    assert len(killer.kills) >= kills and sum(deaths.values()) >= hits, soak.told(killer.kills, deaths)
    books.at_rest()
    wrong = [*signed_otherwise(books), *mails_missing(books, copies), *outputs_spoilt(stack, books)]
    assert not wrong, "\n".join(wrong)
    assert_verified(stack)


def signed_otherwise(books: Books) -> Iterator[str]:
    """Every task that signs its rows has each of them once, in each of its databases, and nobody else has any."""
    rows = "SELECT field1, COUNT(*), COUNT(DISTINCT field2) FROM data WHERE CHAR_LENGTH(field1) = 36 GROUP BY field1"
    for name, engine in books.databases.items():
        with engine.connect() as connection:
            found = {task_id: (all_, different) for task_id, all_, different in connection.execute(text(rows))}
        for task in books.of_type("signed_insert"):
            wanted = task.parameters["rows"] if name in task.parameters.get("databases", ["data"]) else 0
            if found.pop(task.id, (0, 0)) != (wanted, wanted):
                yield f"task {task.id} has not each of its {wanted} rows once in {name}"
        yield from (f"{task_id} signed rows in {name}, and is no task" for task_id in found)


def mails_by_task(stack: Stack, task_ids: set[str]) -> Counter[str]:
    """How many mails bear a task's id in their Message-ID."""
    found: Counter[str] = Counter()
    for path in Path(stack.environment()["SLUICE_MAIL_DIR"]).glob("*.eml"):
        with path.open("rb") as file:
            found[str(BytesHeaderParser().parse(file)["Message-ID"])[1:].partition("@")[0]] += 1
    return Counter({task_id: number for task_id, number in found.items() if task_id in task_ids})


def mails_missing(books: Books, copies: Counter[str]) -> Iterator[str]:
    """Every mail has come. More than once if its worker died after handing it in: then under one Message-ID."""
    for task in books.of_type("email_sending"):
        if not 1 <= copies[task.id] <= task.attempt:
            yield f"task {task.id} sent {copies[task.id]} mails in {task.attempt} attempts"


def outputs_spoilt(stack: Stack, books: Books) -> Iterator[str]:
    """Every file is whole, and no attempt left a part of one."""
    folder = Path(stack.environment()["SLUICE_STORAGE_DIR"]) / "out"
    ours = {task.id: task for task in books.of_type("file_processing")}
    for path in folder.iterdir():
        if path.name.startswith(".") and any(task_id in path.name for task_id in ours):
            yield f"{path.name} is a part that an attempt left"
    for output in [task.result["output"]["filename"] for task in ours.values() if "output" in task.result]:
        if gzip.decompress((folder / output).read_bytes()) != soak.CSV.encode():
            yield f"{output} is not what was compressed"


def assert_verified(stack: Stack) -> None:
    """The operator's own command finds nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "ledger", "verify"],
        cwd=CHECKOUT, env=stack.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
