"""`.env`: what a line means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import dotenv


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("  A = some words  ", {"A": "some words"}),
        ("A=1 # a remark", {"A": "1"}),
        ("A=pass#word", {"A": "pass#word"}),
        ("A='it # stays'", {"A": "it # stays"}),
        ('A="x=y"  # a remark', {"A": "x=y"}),
        ("A=", {}),
        ("A=''", {}),
        ("# A=1", {}),
        ("", {}),
    ],
)
def test_a_line_of_dotenv_means_what_it_says(line: str, expected: dict[str, str]) -> None:
    assert dotenv.parse(line) == expected


def test_a_line_that_is_no_setting_is_refused_with_its_number() -> None:
    with pytest.raises(dotenv.DotenvError, match="line 2"):
        dotenv.parse("A=1\nB: 2")


def test_a_missing_dotenv_sets_nothing(tmp_path: Path) -> None:
    assert dotenv.read(tmp_path / ".env") == {}
