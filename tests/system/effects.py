"""What the tasks of a soak have done in the world, counted thing by thing: rows, mails and files."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

from sqlalchemy import text

from cli.stack import Stack
from tests.conftest import CHECKOUT
from tests.system import soak
from tests.system.books import Books


def are_right(stack: Stack, books: Books) -> None:
    """All has ended well: nothing is missing, nothing is there in part or twice, and `verify` has nothing to say."""
    wrong = [*signed_otherwise(books), *mails_missing(stack, books), *outputs_spoilt(stack, books), *unverified(stack)]
    assert not wrong, "\n".join(wrong)


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


def mails(stack: Stack, task_ids: Collection[str]) -> Counter[str]:
    """How many mails bear a task's id in their Message-ID."""
    found: Counter[str] = Counter()
    for path in Path(stack.environment()["SLUICE_MAIL_DIR"]).glob("*.eml"):
        with path.open("rb") as file:
            found[str(BytesHeaderParser().parse(file)["Message-ID"])[1:].partition("@")[0]] += 1
    return Counter({task_id: number for task_id, number in found.items() if task_id in task_ids})


def mails_missing(stack: Stack, books: Books) -> Iterator[str]:
    """Every mail has come. More than once if its worker died after handing it in: then under one Message-ID."""
    copies = mails(stack, books.everybody())
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


def unverified(stack: Stack) -> Iterator[str]:
    """What the operator's own command finds."""
    done = subprocess.run(
        [sys.executable, "-m", "ledger", "verify"],
        cwd=CHECKOUT,
        env=stack.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        yield done.stdout + done.stderr
