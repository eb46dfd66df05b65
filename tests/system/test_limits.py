"""Limits over real workers: no more at once than may, and whoever has no place lets the others pass."""

from __future__ import annotations

from itertools import pairwise

from cli.stack import Stack
from tests.system.books import Books
from tests.system.conftest import SECOND_DATA_WORKER
from tests.system.patience import until
from tests.system.processes import present
from tests.system.service import Service


def test_a_limited_backlog_lets_others_pass_and_is_worked_off_one_by_one(
    service: Service, books: Books, stack: Stack
) -> None:
    with present(stack, SECOND_DATA_WORKER):
        assert service.ask("PUT", "/api/limits/type/linger_data", json={"most_running": 1}).status_code == 200
        slow = service.post_all([{"task_type": "linger_data", "parameters": {"seconds": 1}}] * 6)
        until(lambda: books.states(slow)["throttled"] > 0, "some of them wait for a place")
        for _ in range(3):
            service.succeeded(service.post("data_processing", {"data": [1]}, priority="low"))
        assert books.states(slow)["succeeded"] < len(slow) - 1, "these did not wait for those"
        [*_, last] = [row.id for row in books.tasks(slow) if row.state == "throttled"]
        why = f"/api/tasks/{last}/explain"
        until(lambda: "1 of at most 1 linger_data tasks run" in service.get(why)["sentence"], "the limit is named")
        books.all_succeeded(slow, within=60)
        ran = sorted((row.started_at, row.finished_at) for row in books.tasks(slow))
        assert all(before[1] <= after[0] for before, after in pairwise(ran)), ran
