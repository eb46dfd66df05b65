"""Each server is stopped, frozen, slow or in alarm in turn: the door answers in time, whatever is the matter.

A broker, a Redis or a mail server at fault is nobody's business at the door. Without its database it can promise
nothing, and says so. How fast is compared with how fast the same door was just before: a machine may be busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import pytest
import requests

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import beside, processes
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.patience import until
from tests.system.processes import away
from tests.system.proof import percentile
from tests.system.proxy import Proxy
from tests.system.service import CLIENTS, Service

#: Seconds that the slow wire takes, each way.
DELAY_SECONDS = 0.1
#: What is promised: of an answer that needs nothing that is away, of a refusal, and of any request at all.
ANSWER_SECONDS, REFUSAL_SECONDS, EVER_SECONDS = 0.5, 2.0, 5.0

#: How many times as long as just before a machine may take that others use too.
BUSY = 3

#: The variable that names each server. The databases are one: they may lie on one server, or on several.
VARIABLES = {
    "rabbitmq": "CELERY_BROKER_URL",
    "redis": "CELERY_RESULT_BACKEND",
    "smtp": "SMTP_URL",
    "ledger": "LEDGER_DATABASE_URL",
    "data": "DATA_DATABASE_URL",
}
DATABASES = ("ledger", "data")

#: Retries enough to outlast any fault.
RETRIES = 30
MAIL = {"to": "somebody@example.com", "if_uncertain": "retry"}
BODIES = (
    {"task_type": "data_processing", "parameters": {"data": "test data"}, "max_retries": RETRIES},
    {"task_type": "email_sending", "parameters": MAIL, "max_retries": RETRIES},
    {"task_type": "file_processing", "parameters": {"filename": "your_file.txt"}, "max_retries": RETRIES},
)

Call = tuple[str, str, object]


@dataclass(frozen=True)
class Answer:
    call: Call
    response: requests.Response
    seconds: float


@dataclass(frozen=True)
class Wires:
    """A door that reaches every server through a wire of its own."""

    door: Service
    proxies: dict[str, Proxy]

    @contextmanager
    def slow(self, *servers: str) -> Iterator[None]:
        for server in servers:
            self.proxies[server].delay_seconds = DELAY_SECONDS
        try:
            yield
        finally:
            for server in servers:
                self.proxies[server].delay_seconds = 0


@pytest.fixture(scope="module")
def wires(session_stack: Stack) -> Iterator[Wires]:
    urls = session_stack.environment()
    with ExitStack() as all_of_them:
        proxies = {each: all_of_them.enter_context(Proxy(urls[name])) for each, name in VARIABLES.items()}
        variables = {name: proxies[each].url for each, name in VARIABLES.items()}
        yield Wires(all_of_them.enter_context(beside.api(session_stack, **variables)), proxies)


def down(stack: Stack, wires: Wires, *servers: str) -> AbstractContextManager[None]:
    return away(stack, *parts(stack, servers))


def frozen(stack: Stack, wires: Wires, *servers: str) -> AbstractContextManager[None]:
    return processes.frozen(*map(stack.pid, parts(stack, servers)))


def slow(stack: Stack, wires: Wires, *servers: str) -> AbstractContextManager[None]:
    return wires.slow(*servers)


@contextmanager
def disk_alarm(stack: Stack, wires: Wires, *servers: str) -> Iterator[None]:
    """RabbitMQ takes no message any more, and lets publishers wait without a word."""
    with alarm(stack, "disk", ("set_disk_free_limit", "500000GB"), ("set_disk_free_limit", "200MB")):
        yield


@contextmanager
def memory_alarm(stack: Stack, wires: Wires, *servers: str) -> Iterator[None]:
    much = ("set_vm_memory_high_watermark", "absolute", "512MB")
    with alarm(stack, "emory", ("set_vm_memory_high_watermark", "0.00001"), much):
        yield


@contextmanager
def alarm(stack: Stack, word: str, raised: Sequence[str], over: Sequence[str]) -> Iterator[None]:
    stack.rabbitmqctl(*raised)
    until(lambda: word in stack.rabbitmqctl("status").partition("Alarms")[2].partition("Tags")[0], f"the {word} alarm")
    try:
        yield
    finally:
        stack.rabbitmqctl(*over)


def parts(stack: Stack, servers: Sequence[str]) -> list[str]:
    return sorted({stack.databases.get(each, each) for each in servers})


@pytest.mark.parametrize(
    ("server", "fault"),
    [
        *((server, fault) for server in ("rabbitmq", "redis", "smtp") for fault in (down, frozen, slow)),
        ("rabbitmq", disk_alarm),
        ("rabbitmq", memory_alarm),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_nobody_at_the_door_waits_for(
    server: str,
    fault: Callable[..., AbstractContextManager[None]],
    service: Service,
    stack: Stack,
    wires: Wires,
    books: Books,
    scale: Scale,
    tell: Tell,
) -> None:
    door = wires.door if fault is slow else service
    known = service.post("data_processing", {"data": "two words"})
    service.succeeded(known)
    calls = submits_and_reads(known, scale.of(30, 600))
    usual = ask(door, calls)
    with fault(stack, wires, server):
        answers = ask(door, calls)
    assert {each.response.status_code for each in answers} == {200, 202}, told(answers)
    in_time(answers, ANSWER_SECONDS, 0.99, usual, tell)
    in_time(answers, EVER_SECONDS, 1, usual)
    books.all_succeeded([each.response.json()["task_id"] for each in [*usual, *answers]], within=90)


def submits_and_reads(known: str, number: int) -> list[Call]:
    calls: list[Call] = []
    for place in range(number):
        calls += [("POST", "/api/tasks", BODIES[place % len(BODIES)]), ("GET", f"/api/tasks/{known}", None)]
    return calls


@pytest.mark.parametrize("fault", [down, frozen])
def test_without_its_database_the_door_refuses_in_time(
    fault: Callable[..., AbstractContextManager[None]],
    service: Service,
    stack: Stack,
    wires: Wires,
    books: Books,
    scale: Scale,
    tell: Tell,
) -> None:
    known = service.post("slow_insert", {"rows": 1_000, "seconds": 3}, max_retries=RETRIES)
    usual = ask(service, readings(known) * 3)
    with fault(stack, wires, *DATABASES):
        answers = ask(service, (readings(known) + writings(known)) * scale.of(3, 60))
    for each in answers:
        assert each.response.status_code == 503, told([each])
        assert int(each.response.headers["Retry-After"]) >= 1, dict(each.response.headers)
    in_time(answers, REFUSAL_SECONDS, 1, usual, tell)
    until(lambda: service.ask("GET", "/readyz").status_code == 200, "a ready service", within=30)
    books.all_succeeded([known], within=60)
    assert books.count() == 1_000


def test_a_slow_database_makes_the_door_slow_or_honest_and_never_hang(
    stack: Stack, wires: Wires, books: Books, scale: Scale, tell: Tell
) -> None:
    known = wires.door.post("data_processing", {"data": "two words"})
    usual = ask(wires.door, readings(known))
    with wires.slow(*DATABASES):
        answers = ask(wires.door, [("POST", "/api/tasks", BODIES[0]), *readings(known)] * scale.of(4, 60))
    for each in answers:
        assert each.response.ok or "Retry-After" in each.response.headers, told([each])
    assert any(each.response.status_code == 202 for each in answers), told(answers)
    in_time(answers, EVER_SECONDS, 1, usual, tell)
    books.all_succeeded(books.everybody(), within=60)


def readings(known: str) -> list[Call]:
    paths = ("/api/tasks?limit=5", f"/api/tasks/{known}", f"/status/{known}", "/get_data/count", "/get_data", "/readyz")
    return [("GET", path, None) for path in paths]


def writings(known: str) -> list[Call]:
    return [
        ("POST", "/api/tasks", BODIES[0]),
        ("POST", f"/api/tasks/{known}/stop", None),
        ("PATCH", f"/api/tasks/{known}", {"status": "canceled"}),
        ("DELETE", "/delete_all", None),
    ]


def ask(door: Service, calls: Sequence[Call]) -> list[Answer]:
    """Several clients side by side. No answer at all within twice the longest time fails at once."""

    def one(call: Call) -> Answer:
        method, path, body = call
        began = time.monotonic()
        response = door.ask(method, path, json=body, timeout=2 * EVER_SECONDS)
        return Answer(call, response, time.monotonic() - began)

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(one, calls))


def in_time(
    answers: Sequence[Answer],
    seconds: float,
    share: float,
    usual: Sequence[Answer],
    tell: Tell | None = None,
) -> None:
    """This share of the answers took no longer than promised, beside what a busy machine takes anyway, by fits."""
    anyway = percentile([each.seconds for each in usual], share)
    took = percentile([each.seconds for each in answers], share)
    slowest = max(answers, key=lambda each: each.seconds)
    words = f"{share:.0%} of {len(answers)} answers within {took:.2f} s (before: {anyway:.2f} s)"
    words += f", the slowest {' '.join(slowest.call[:2])}"
    if tell is not None:
        tell(words)
    assert took <= seconds + BUSY * anyway, words


def told(answers: Sequence[Answer]) -> str:
    return "\n".join(
        f"{each.call} was answered {each.response.status_code} after {each.seconds:.2f} s: {each.response.text[:300]}"
        for each in answers
        if not each.response.ok
    )
