"""Failpoints: armed by a file, taken once, and not before its words are written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import failpoints


@pytest.fixture(name="folder")
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(failpoints, "settings", lambda: SimpleNamespace(failpoint_dir=tmp_path))
    return tmp_path


def test_the_first_to_come_takes_it(folder: Path) -> None:
    (folder / "f8").write_text("raise")
    with pytest.raises(failpoints.FailpointReached):
        failpoints.reach("f8")
    failpoints.reach("f8")
    assert [path.suffix for path in folder.iterdir()] == [".hit"]


def test_nothing_happens_while_its_words_are_being_written(folder: Path) -> None:
    (folder / "f8").touch()
    failpoints.reach("f8")
    assert [path.name for path in folder.iterdir()] == ["f8"]
