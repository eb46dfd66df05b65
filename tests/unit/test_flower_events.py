"""Flower shows what became of a task, not that a child process came back."""

from __future__ import annotations

import pytest

from workers import settle


@pytest.mark.parametrize(
    ("state", "event"),
    [
        ("succeeded", "task-succeeded"),
        ("failed", "task-failed"),
        ("revoked", "task-revoked"),
        ("revoking", "task-revoked"),
        ("retrying", "task-retried"),
        ("queued", "task-retried"),
    ],
)
def test_an_attempts_end_is_shown_as_its_tasks_state(state: str, event: str) -> None:
    shown, _ = settle._shown({"result": repr(state), "runtime": 0.1})
    assert shown == event


def test_a_dropped_ticket_shows_nothing() -> None:
    assert settle._shown({"result": repr(None), "runtime": 0.1}) == ("", {})
