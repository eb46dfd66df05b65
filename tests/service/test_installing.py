"""The first start of a database server."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.credentials import Credentials
from cli.layout import Layout
from cli.servers import mariadb
from cli.site import Site


def test_mariadb_is_installed_without_the_systems_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    layout = Layout(tmp_path / "state")
    layout.create()

    mariadb.prepare(Site(layout, {mariadb.NAME: 20_000}, Credentials()))

    assert (layout.server(mariadb.NAME) / "data" / "mysql").is_dir()
