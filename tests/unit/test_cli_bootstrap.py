"""What makes the machine ready leaves alone what is not this checkout's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import bootstrap
from cli.output import Output


def test_an_environment_that_is_only_linked_to_is_not_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, link = tmp_path / "theirs", tmp_path / ".venv"
    theirs.mkdir()
    (theirs / "kept").touch()
    link.symlink_to(theirs)
    monkeypatch.setattr(bootstrap, "VENV", link)
    monkeypatch.setattr(bootstrap, "STAMP", link / ".requirements")
    with pytest.raises(bootstrap.BootstrapFailed, match="is a link to"):
        bootstrap.make_venv(["requirements.txt"], Output())
    assert (theirs / "kept").exists()
