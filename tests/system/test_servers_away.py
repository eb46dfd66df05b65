"""A server is away: what needs none of it is done, what does is refused at once, and all goes on when it is back."""

from __future__ import annotations

import time

import redis

from cli.stack import Stack
from tests.conftest import Tell
from tests.system.books import Books
from tests.system.patience import until
from tests.system.processes import away
from tests.system.service import Service

#: Seconds within which the door must answer, whatever is away. The promise is 2 for a refusal.
ANSWER_SECONDS = 2.5


def test_a_stop_gives_its_verdict_while_rabbitmq_is_stopped(
    service: Service, stack: Stack, books: Books
) -> None:
    running = service.post("slow_insert", {"seconds": 60})
    delayed = service.post("bulk_insert", delay=300)
    until(lambda: books.task(running).progress_done, "the first rows")
    with away(stack, "rabbitmq"):
        assert service.stop(running)["verdict"] == "rolled_back"
        assert service.stop(delayed)["verdict"] == "stopped_before_start"
        assert service.count() == 0
        assert books.in_doubt() == []


def test_what_runs_is_posted_or_falls_due_while_rabbitmq_is_stopped_is_done(
    service: Service, stack: Stack, books: Books, tell: Tell
) -> None:
    running = service.post("slow_insert", {"rows": 1000, "seconds": 6})
    service.running(running)
    with away(stack, "rabbitmq"):
        posted, took = post_one_of_each(service)
        due = service.post("bulk_insert", {"rows": 10}, delay=1)
        until(lambda: books.task(due).state == "queued", "its time has come")
        assert books.states(posted) == {"queued": 3}
    tell(f"posts without RabbitMQ took {max(took):.2f} s at most")
    assert max(took) < ANSWER_SECONDS
    books.all_succeeded([running, *posted, due], within=40)
    assert {row.attempt for row in books.tasks([running, *posted, due])} == {1}


def test_results_come_from_the_ledger_while_redis_is_stopped(
    service: Service, stack: Stack, books: Books, tell: Tell
) -> None:
    before = service.post("data_processing", {"data": "two words"})
    kept = service.succeeded(before)["result"]
    with away(stack, "redis"):
        posted, took = post_one_of_each(service)
        books.all_succeeded(posted, within=30)
        began = time.monotonic()
        assert service.task(before)["result"] == kept
        assert service.task(posted[0])["result"]["processed"] is True
        took.append(time.monotonic() - began)
        assert service.get("/readyz")["status"] == "warn"
    tell(f"requests without Redis took {max(took):.2f} s at most")
    assert max(took) < ANSWER_SECONDS
    assert service.task(posted[0])["result"]["processed"] is True


def test_a_flushed_redis_costs_no_result(service: Service, stack: Stack, books: Books) -> None:
    with redis.Redis.from_url(stack.environment()["CELERY_RESULT_BACKEND"]) as client:
        # A worker that has just missed Redis spares it for some seconds.
        task_id = str(until(lambda: task_with_a_copy(service, client), "a result in Redis", within=20))
        kept = service.task(task_id)["result"]
        client.flushall()
    assert service.task(task_id)["result"] == kept == books.task(task_id).result


def task_with_a_copy(service: Service, client: redis.Redis) -> str | None:
    """A new task that has succeeded; None when Redis got no copy of its result."""
    task_id = service.post("data_processing", {"data": "two words"})
    service.succeeded(task_id)
    return task_id if client.keys(f"*{task_id}*") else None


def test_without_the_database_the_door_says_so_at_once_and_recovers_by_itself(
    service: Service, stack: Stack, books: Books, tell: Tell
) -> None:
    inserting = service.post("slow_insert", {"rows": 1000, "seconds": 4})
    until(lambda: books.task(inserting).progress_done, "the first rows")
    with away(stack, *set(stack.databases.values())):
        took = [
            refused(service, "POST", "/api/tasks", json={"task_type": "bulk_insert"}),
            refused(service, "GET", f"/api/tasks/{inserting}"),
            refused(service, "GET", f"/stop/{inserting}"),
            refused(service, "GET", "/get_data/count"),
            refused(service, "GET", "/readyz"),
        ]
    tell(f"refusals without the databases took {max(took):.2f} s at most")
    assert max(took) < ANSWER_SECONDS
    until(lambda: service.ask("GET", "/readyz").status_code == 200, "a ready service")
    posted, _ = post_one_of_each(service)
    books.all_succeeded([*posted, inserting], within=40)
    assert books.count() == 1000


def refused(service: Service, method: str, path: str, json: object = None) -> float:
    """Ask for something that needs the database; the seconds until its 503."""
    began = time.monotonic()
    answer = service.ask(method, path, json=json)
    seconds = time.monotonic() - began
    assert answer.status_code == 503, f"{method} {path} answered {answer.status_code}: {answer.text}"
    assert int(answer.headers["Retry-After"]) >= 1, dict(answer.headers)
    return seconds


def post_one_of_each(service: Service) -> tuple[list[str], list[float]]:
    """A task for each kind of worker, and the seconds that each post took."""
    posted, took = [], []
    for task_type, parameters in (
        ("data_processing", {"data": "test data"}),
        ("email_sending", {"to": "recipient@example.com"}),
        ("file_processing", {"filename": "your_file.txt"}),
    ):
        began = time.monotonic()
        posted.append(service.post(task_type, parameters))
        took.append(time.monotonic() - began)
    return posted, took
