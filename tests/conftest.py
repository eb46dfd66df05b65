"""What every room of the tests shares: waiting for a condition, and where the checkout is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

CHECKOUT = Path(__file__).parent.parent

Eventually = Callable[..., object]


def eventually(condition: Callable[[], T], *, within: float = 15, every: float = 0.05, what: str = "") -> T:
    """The condition's first truthy value; fails when there is none in time."""
    until = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {within} s: {what or condition}; last seen {value!r}")
        time.sleep(every)


@pytest.fixture(name="eventually")
def _eventually() -> Eventually:
    return eventually
