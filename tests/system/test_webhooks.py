"""Webhooks through the door and the processes that there really are, one of them killed at the worst moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from cli.stack import Stack
from tests import receiver
from tests.receiver import Receiver
from tests.system import failpoint
from tests.system.books import Books
from tests.system.patience import until
from tests.system.service import Service


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver.receiving() as found:
        yield found


def test_a_killed_deliverer_delivers_again_under_the_same_id(
    hook: Receiver, service: Service, stack: Stack, books: Books
) -> None:
    secret = service.ask("POST", "/api/webhooks/secrets").json()["secret"]
    failpoint.arm("f23")
    pid = stack.pid("webhooks")
    task_id = service.post("data_processing", {"data": "test data"}, webhook={"url": hook.url})
    until(lambda: hook.got, "the first delivery")
    assert failpoint.hit("f23") == pid
    stack.wait("webhooks", after_pid=pid)
    lease_is_over(books)
    until(lambda: deliveries(service, task_id)[0]["state"] == "delivered", "a settled delivery")
    assert len(hook.ids) == 2
    assert len(set(hook.ids)) == 1
    assert {each.verified(secret)["data"]["task_id"] for each in hook.got} == {task_id}
    assert [each["status"] for each in deliveries(service, task_id)[0]["tries"]] == [None, 204]


def deliveries(service: Service, task_id: str) -> list[dict[str, Any]]:
    return list(service.get(f"/api/tasks/{task_id}/deliveries")["items"])


def lease_is_over(books: Books) -> None:
    """As if it had run out."""
    with books.ledger.connect() as connection:
        connection.execute(text("UPDATE webhook_deliveries SET next_at = UTC_TIMESTAMP(6)"))
