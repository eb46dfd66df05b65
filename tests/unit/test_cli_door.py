"""A command finds its service: that of the environment, or the stack on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import credentials, door, ports
from cli.__main__ import MODULES, main
from cli.credentials import Credentials
from client import errors
from client.sluice import KEY, URL


@pytest.fixture(autouse=True)
def _nobody_said_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (URL, KEY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLUICE_STATE_DIR", str(tmp_path))


@pytest.fixture
def stack(tmp_path: Path) -> Credentials:
    """What a stack on this machine leaves in its folder."""
    ports.keep(tmp_path / "ports.json", {"api": 5005})
    return credentials.keep(tmp_path / "credentials.json")


def test_without_a_word_it_is_the_stack_on_this_machine(stack: Credentials) -> None:
    assert door.address() == ("http://127.0.0.1:5005", stack.api_key)


def test_the_environment_wins_over_the_stack(stack: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "mine")
    assert door.address() == ("http://127.0.0.1:5005", "mine")
    monkeypatch.setenv(URL, "http://elsewhere")
    monkeypatch.delenv(KEY)
    # The key of the stack is not for others.
    assert door.address() == ("http://elsewhere", None)


def test_where_there_is_neither_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(errors.BadAddress):
        door.address()
    with pytest.raises(SystemExit) as left:
        main(["list"])
    assert left.value.code == 4
    assert "make up" in capsys.readouterr().err


# `keys` hands it on to the command of the stack.
@pytest.mark.parametrize("name", sorted(set(MODULES) - {"keys"}))
def test_every_command_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert "Usage: sluice" in capsys.readouterr().out
