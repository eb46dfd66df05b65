"""A disk is full, the storage folder's, a business database's or the ledger's: nothing is there in part, nothing is
lost, and once there is room what waits goes on by itself."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from cli.stack import Stack
from tests.conftest import state
from tests.system import beside, disk
from tests.system.books import Books
from tests.system.disk import MIB, Disk
from tests.system.patience import until
from tests.system.processes import away
from tests.system.service import Service

#: Retries enough for as long as the disk is full.
RETRIES = 30
#: Seconds until a task has ended that may just have begun to wait for a retry, on a machine that others use too.
LATER_SECONDS = 60
#: A folder that a big file does not fit into, and one with room. MariaDB's own files take 150 MiB.
SMALL, ROOMY = MIB, 400 * MIB
#: What a full database's disk has left: too little for a table, which grows by 1 MiB once it is as big as that. With a
#: table that is smaller MariaDB 10.11 keeps no reserve: it cannot roll back, and aborts.
SCARCE = MIB // 2
BIG_NAME, BIG = "big.bin", os.urandom(3 * MIB)
ROWS, TASKS = 30_000, 100


# --- the storage folder ----------------------------------------------------------------------------------------------


def test_a_file_that_does_not_fit_leaves_no_part_and_comes_when_there_is_room(
    service: Service, stack: Stack, books: Books
) -> None:
    assert upload(service, BIG_NAME, BIG).status_code == 201
    with disk.small(storage(stack) / "out", SMALL) as out:
        hopeless = compress(service, BIG_NAME, max_retries=0)
        error = service.ended(hopeless, within=LATER_SECONDS)["error"]
        assert (error["type"], error["permanent"]) == ("NoRoom", False)
        assert f"no room left in the storage folder for {hopeless}-{BIG_NAME}.gz: No space left" in error["message"]
        assert list(out.folder.iterdir()) == []

        patient = compress(service, BIG_NAME)
        is_tried_again(books, patient, "No space left")
        others = [compress(service, "your_file.txt"), checksum(service, BIG_NAME)]
        books.all_succeeded(others, within=LATER_SECONDS)
        assert service.state(patient) in ("retrying", "queued", "running")

        out.make_room(ROOMY)
        output = service.succeeded(patient, within=LATER_SECONDS)["result"]["output"]["filename"]
        assert gzip.decompress((out.folder / output).read_bytes()) == BIG
        assert {path.name for path in out.folder.iterdir()} == {output, f"{others[0]}-your_file.txt.gz"}


def test_an_upload_that_does_not_fit_is_refused_and_leaves_nothing(service: Service, stack: Stack) -> None:
    with disk.small(storage(stack) / "in", SMALL) as uploads:
        refused = upload(service, BIG_NAME, BIG)
        assert (refused.status_code, refused.json()["title"]) == (507, "No room left"), refused.text
        assert list(uploads.folder.iterdir()) == []
        assert upload(service, "small.txt", b"fits").status_code == 201
        uploads.make_room(ROOMY)
        assert upload(service, BIG_NAME, BIG).status_code == 201


# --- databases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A MariaDB with a schema of each kind, on a disk of its own."""

    stack: Stack
    disk: Disk

    @property
    def urls(self) -> dict[str, str]:
        return self.stack.environment()


@pytest.fixture(scope="module")
def server(session_stack: Stack) -> Iterator[Server]:
    own = Stack(state("disk-full"))
    if own.layout.credentials.exists():
        own.wipe()
    with disk.small(own.layout.server("mariadb"), ROOMY) as its_disk:
        try:
            own.up(parts=["mariadb"])
            own.migrate()
            yield Server(own, its_disk)
        finally:
            its_disk.make_room(ROOMY)
            own.down()


@pytest.fixture(autouse=True)
def _room_at_the_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test found, the next one begins with room."""
    yield
    if "server" in request.fixturenames:
        request.getfixturevalue("server").disk.make_room(ROOMY)


def test_rows_that_do_not_fit_are_nowhere_and_come_when_there_is_room(server: Server, stack: Stack) -> None:
    known = {"DATA_DATABASES": f"{stack.environment()['DATA_DATABASES']}, small={server.urls['DATA_DATABASE_URL']}"}
    books = Books(stack.environment() | known)
    with away(stack, "data"), beside.worker(stack, "data", **known), beside.api(stack, **known) as service:
        service.succeeded(fan_out(service), within=LATER_SECONDS)
        server.disk.fill(but=SCARCE)
        hopeless = fan_out(service, max_retries=0)
        error = service.ended(hopeless, within=LATER_SECONDS)["error"]
        assert error["message"].startswith("no room left on the database's disk: "), error
        patient = fan_out(service)
        is_tried_again(books, patient, "no room left on the database's disk")
        service.succeeded(service.post("data_processing", {"data": [1]}), within=LATER_SECONDS)
        until(lambda: not any(map(books.is_being_written, [hopeless, patient])), "both undone", within=LATER_SECONDS)
        assert (books.count("data"), books.count("small"), books.in_doubt()) == (ROWS, ROWS, [])

        server.disk.make_room(ROOMY)
        service.succeeded(patient, within=LATER_SECONDS)
        books.at_rest()
        assert (books.count("data"), books.count("small")) == (2 * ROWS, 2 * ROWS)


def test_a_full_ledger_refuses_honestly_still_answers_and_forgets_nothing(server: Server, stack: Stack) -> None:
    urls = {name: server.urls[name] for name in ("LEDGER_DATABASE_URL", "DATA_DATABASE_URL", "DATA_DATABASES")}
    books = Books(urls)
    books.empty()
    let_in(server, stack.environment()["SLUICE_API_KEY"])
    with beside.api(stack, **urls) as service:
        accepted = [task_id for _ in range(3) for task_id in ids(submit(service))]
        server.disk.fill(but=SCARCE)
        refused = first_refusal(service, accepted)
        assert (refused.status_code, refused.json()["title"]) == (503, "Database full"), refused.text
        assert refused.headers["Retry-After"]
        assert submit(service).status_code == 503, "twice as much room as before"
        assert service.task(accepted[0])["task_id"] == accepted[0]
        assert service.get("/api/tasks")["items"] and service.get("/api/queues")

        server.disk.make_room(ROOMY)
        accepted += ids(submit(service))
        # What was refused is not there, and what was accepted waits for its time.
        assert books.everybody() == set(accepted)
        assert books.states(accepted) == {"scheduled": len(accepted)}
        assert server.stack.ledger_command("verify").returncode == 0


# --- what they do ----------------------------------------------------------------------------------------------------


def storage(stack: Stack) -> Path:
    return Path(stack.environment()["SLUICE_STORAGE_DIR"])


def upload(service: Service, name: str, content: bytes) -> requests.Response:
    return service.ask("POST", "/api/files", files={"file": (name, content)})


def compress(service: Service, name: str, max_retries: int = RETRIES) -> str:
    parameters = {"filename": name, "operation": "compress"}
    return service.post("file_processing", parameters, max_retries=max_retries)


def checksum(service: Service, name: str) -> str:
    return service.post("file_processing", {"filename": name, "operation": "checksum"})


def fan_out(service: Service, max_retries: int = RETRIES) -> str:
    return service.post("fan_out_insert", {"rows": ROWS, "databases": ["data", "small"]}, max_retries=max_retries)


def submit(service: Service) -> requests.Response:
    """Many tasks in one go. Each row fits into a page: when MariaDB 10.11 cannot roll back a bigger one it aborts."""
    body = {"task_type": "data_processing", "parameters": {"data": "x" * 6_000}, "delay": 86_400}
    return service.ask("POST", "/api/tasks/batch", json={"tasks": [body] * TASKS})


def ids(answer: requests.Response) -> list[str]:
    assert answer.ok, answer.text
    return list(answer.json()["task_ids"])


def first_refusal(service: Service, accepted: list[str]) -> requests.Response:
    """Submit until nothing is accepted any more."""
    for _ in range(10):
        answer = submit(service)
        if not answer.ok:
            return answer
        accepted += ids(answer)
    raise AssertionError("the ledger's disk is not full")


def let_in(server: Server, key: str) -> None:
    options = ("--stdin", "--owner", "local", "--scope", "admin", "--note", "of a test")
    done = server.stack.ledger_command("keys", "create", *options, text=key)
    assert done.returncode == 0, done.stderr


def is_tried_again(books: Books, task_id: str, why: str) -> None:
    """Wait until an attempt has failed, which must be for want of room."""
    retried = until(lambda: books.events("retried", [task_id]), "a retry", within=LATER_SECONDS)
    assert why in retried[0].remark, books.history(task_id)
