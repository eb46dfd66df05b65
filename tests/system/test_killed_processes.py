"""kill -9 of each process, and of all at once: the service is well again by itself, and whatever was accepted ends."""

from __future__ import annotations

import pytest
import requests

import celery_config
from cli import credentials, placement
from cli import processes as marked
from cli.stack import Stack
from tests.conftest import databases
from tests.system import processes
from tests.system.books import Books
from tests.system.conftest import RESTING
from tests.system.patience import until
from tests.system.service import Service

VICTIMS = ("api", "data", "email", "file", "monitor", "flower", "redis", "rabbitmq", "smtp")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The processes that are killed: which database servers there are, the command line says."""
    if "victim" in metafunc.fixturenames:
        metafunc.parametrize("victim", [*VICTIMS, *placement.servers(databases(metafunc.config))])


def test_the_service_recovers_from_the_death_of(
    victim: str, service: Service, stack: Stack, books: Books
) -> None:
    in_flight = post_work(service, books)
    children = processes.children(stack.pid(victim))
    pid = stack.kill(victim)
    for child in children:
        processes.gone(child, within=15)  # or it would go on in the name of a process that is no more
    stack.wait(victim, after_pid=pid, seconds=60)
    until(lambda: is_well(service, stack), "a service that is well", within=60)

    after = post_work(service, books)
    books.all_succeeded(in_flight + after, within=60)
    assert books.count() == 2 * 1000


def test_everything_killed_at_once_comes_back_with_all_that_was_accepted(
    service: Service, stack: Stack, books: Books
) -> None:
    in_flight = post_work(service, books)
    delayed = service.post("bulk_insert", {"rows": 500}, delay=5)
    until(lambda: books.running("data"), "a running task")
    kill_all_of(stack)
    # Bringing it up again is all that an operator does.
    stack.up()
    for name in RESTING:
        stack.stop(name)

    after = post_work(service, books)
    books.all_succeeded([*in_flight, delayed, *after], within=60)
    assert books.count() == 2 * 1000 + 500


def post_work(service: Service, books: Books) -> list[str]:
    """Work for every kind of worker: some that is done at once, some that is going on when something is killed."""
    posted = [
        service.post("slow_insert", {"rows": 1000, "seconds": 2}, max_retries=10),
        service.post("data_processing", {"data": "test data"}, max_retries=10),
        service.post("email_sending", {"to": "recipient@example.com", "if_uncertain": "retry"}, max_retries=10),
        service.post("file_processing", {"filename": "your_file.txt"}, max_retries=10),
    ]
    posted += [service.post(f"linger_{kind}", {"seconds": 1}) for kind in celery_config.WORKERS]
    until(lambda: len(books.events("claimed", posted[-3:])) >= 3, "work for everybody")
    return posted


def is_well(service: Service, stack: Stack) -> bool:
    try:
        ready = service.ask("GET", "/readyz").json()["status"] == "pass"
        flower = requests.get(f"{stack.environment()['FLOWER_URL']}/healthcheck", timeout=5).ok
    except requests.RequestException:
        return False
    return ready and flower


def kill_all_of(stack: Stack) -> None:
    """Every process of the stack, the keeper of the processes first, so that none is started again."""
    kept = credentials.load(stack.layout.credentials)
    assert kept is not None
    keepers_first = sorted(marked.of_stack(kept.stack_id), key=lambda each: each.program != "supervisord")
    for each in keepers_first:
        processes.kill(each.pid)
    for each in keepers_first:
        processes.gone(each.pid, within=20)
