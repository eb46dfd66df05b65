"""Waiting for something, with a deadline, and saying what was there instead when it did not come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tests.conftest import eventually

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    what: str,
    *,
    within: float = 15,
    seen: Callable[[], object] | None = None,
    every: float = 0.05,
) -> T:
    """The condition's first truthy value; without one in time a failure that tells what was `seen`."""
    try:
        return eventually(condition, within=within, every=every, what=what)
    except AssertionError as error:
        raise AssertionError(f"{error}; seen: {seen() if seen else 'nothing else'}") from None
