"""What keeps a task from starting holds over all kinds of workers, and over the end of any process."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from cli.stack import Stack
from tests.system.books import Books
from tests.system.patience import until
from tests.system.service import Service

QUICK: dict[str, Any] = {"task_type": "data_processing", "parameters": {"data": [1]}}


def test_a_diamond_over_three_kinds_of_workers_starts_in_its_order(service: Service, books: Books) -> None:
    top = service.post("bulk_insert", {"rows": 2_000})
    mail = service.post("email_sending", {"to": "somebody@example.com"}, depends_on=[top])
    file = service.post("file_processing", {"filename": "your_file.txt"}, depends_on=[top], delay=0.5)
    bottom = service.post(**QUICK, depends_on=[mail, file], priority="high")
    service.succeeded(bottom)
    rows = [books.task(task_id) for task_id in (top, mail, file, bottom)]
    assert all(row.state == "succeeded" for row in rows)
    assert all(above.finished_at <= below.started_at for above, below in pairwise([rows[0], rows[2], rows[3]]))
    assert rows[1].finished_at <= rows[3].started_at


def test_a_pause_outlives_the_processes_and_the_others_flow(service: Service, stack: Stack) -> None:
    assert service.ask("POST", "/api/queues/data.high/pause", json={"reason": "a test"}).status_code == 200
    paused = service.post(**QUICK, priority="high")
    for name in ("data", "monitor"):
        stack.restart(name)
    service.succeeded(service.post(**QUICK, priority="low"))
    assert service.get(f"/api/tasks/{paused}/explain")["cause"] == "queue_paused"
    assert service.task(paused)["attempt"] == 0
    assert service.ask("POST", "/api/queues/data/resume").status_code == 200
    service.succeeded(paused)
    assert service.metric("sluice_inversions_total") == 0


def test_a_task_that_nobody_took_in_time_expires(service: Service) -> None:
    service.ask("POST", "/api/queues/data/pause")
    late = service.post(**QUICK, expires_in=1)
    child = service.post(**QUICK, depends_on=[late])
    until(lambda: service.state(late) == "expired", "it has expired", within=15)
    service.ask("POST", "/api/queues/data/resume")
    assert service.ended(child)["error"]["type"] == "ParentFailed"
