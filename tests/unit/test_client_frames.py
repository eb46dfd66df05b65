"""A stream of Server-Sent Events as its frames."""

from __future__ import annotations

import pytest

from client.frames import Frame, frames


def read(text: str) -> list[Frame]:
    return list(frames(text.encode().split(b"\n")))


def test_a_block_is_a_frame() -> None:
    assert read("id: 7\nevent: task.running\ndata: {}\n\n") == [Frame("task.running", "{}", "7")]


def test_a_block_that_was_cut_off_is_none() -> None:
    assert read("data: 1\n\nevent: end\ndata: 2") == [Frame(data="1")]


def test_a_sign_of_life_says_nothing() -> None:
    assert read(": ping\n\ndata: 1\n\n") == [Frame(data="1")]


@pytest.mark.parametrize(("word", "told"), [("3000", 3000), ("soon", None), ("-1", None)])
def test_the_pause_before_coming_back_is_a_number(word: str, told: int | None) -> None:
    assert read(f"retry: {word}\n\n") == [Frame(retry_milliseconds=told)]


def test_lines_of_data_are_one_text() -> None:
    assert read("data: a\ndata:b\ndata\n\n") == [Frame(data="a\nb\n")]
