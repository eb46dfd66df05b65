"""A worker dies over a mail's last byte, and nobody knows whether it was taken: what follows is what the task says."""

from __future__ import annotations

from typing import Any

import pytest

from cli.stack import Stack
from tests.system import effects, failpoint
from tests.system.service import Service

#: Right after the mail server has the last byte.
TAKEN = "f22"


@pytest.mark.parametrize(
    ("policy", "state", "copies"), [("hold", "failed", 1), ("treat_as_done", "succeeded", 1), ("retry", "succeeded", 2)]
)
def test_a_mail_that_may_have_been_sent(policy: str, state: str, copies: int, service: Service, stack: Stack) -> None:
    failpoint.arm(TAKEN)
    task_id = service.post("email_sending", {"to": "somebody@example.com", "if_uncertain": policy})
    failpoint.hit(TAKEN)
    task = service.ended(task_id, within=40)
    assert task["state"] == state, task
    assert effects.mails(stack, [task_id]) == {task_id: copies}
    if policy == "hold":
        is_held_until_somebody_decides(task, service, stack)


def is_held_until_somebody_decides(task: dict[str, Any], service: Service, stack: Stack) -> None:
    task_id = task["task_id"]
    assert (task["error"]["type"], task["error"]["permanent"]) == ("Uncertain", True)
    assert service.ask("POST", f"/api/tasks/{task_id}/retry").ok
    service.succeeded(task_id)
    assert effects.mails(stack, [task_id]) == {task_id: 2}
