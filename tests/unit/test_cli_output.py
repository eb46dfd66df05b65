"""What the command says: steps, tables, durations."""

from __future__ import annotations

import io

import pytest

from cli.output import Output, columns, duration


def test_columns_stand_under_each_other() -> None:
    assert columns([("a", "bb", ""), ("ccc", "d", "e")]) == ["a    bb", "ccc  d   e"]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(7, "7 s"), (75, "1 min 15 s"), (3720, "1 h 2 min"), (90_000, "1 d 1 h")]
)
def test_a_duration_reads_as_a_person_says_it(seconds: int, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_step_has_a_tick_and_no_colours_in_a_file() -> None:
    stream = io.StringIO()
    with Output(stream).step("redis", "127.0.0.1:1"):
        pass
    assert stream.getvalue().startswith("  ✓ redis")
    assert "\x1b" not in stream.getvalue()


def test_a_step_that_fails_has_no_tick() -> None:
    stream = io.StringIO()
    with pytest.raises(OSError, match="no"), Output(stream).step("redis"):
        raise OSError("no")
    assert stream.getvalue() == ""
