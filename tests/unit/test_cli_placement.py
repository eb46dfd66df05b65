"""Which database lies on which server, and what follows: what is started, and where the service is told to look."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import environment, mysql_packages, placement
from cli.credentials import Credentials
from cli.layout import Layout
from cli.output import Output
from cli.servers import databases, mariadb
from cli.site import Site

THREE = "ledger=mariadb,data=mysql,archive=mariadb-2"


def site(folder: Path, text: str) -> Site:
    layout = Layout(folder)
    layout.create()
    names = ("mariadb", "mysql", "mariadb-2", "rabbitmq", "rabbitmq-ui", "redis", "smtp")
    ports = {name: 20_000 + number for number, name in enumerate(names)}
    return Site(layout, ports, Credentials(), placement.parsed(text))


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("mysql", ["mysql", "mysql", "mysql"]),
        ("data=mysql", ["mariadb", "mysql", "mariadb"]),
        ("ledger=mariadb-2, archive = mysql-2", ["mariadb-2", "mariadb", "mysql-2"]),
    ],
)
def test_databases_that_nobody_placed_lie_on_mariadb(text: str, servers: list[str]) -> None:
    assert placement.parsed(text) == dict(zip(("ledger", "data", "archive"), servers, strict=True))


@pytest.mark.parametrize("text", ["oracle", "mysql-", "mysql-1", "data=", "accounts=mysql", "", "mysql-x"])
def test_a_server_or_database_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(placement.Misplaced):
        placement.parsed(text)


def test_each_server_keeps_its_own_databases_only(tmp_path: Path) -> None:
    three = site(tmp_path, THREE)
    (tmp_path / "mariadb-2" / "data").mkdir(parents=True)
    databases.prepare(three, "mariadb-2")
    statements = (tmp_path / "mariadb-2" / "init.sql").read_text()
    assert [word for word in placement.SCHEMAS.values() if word in statements] == ["sluice_archive"]
    assert mariadb.program(three, "mariadb-2").ports == ("mariadb-2",)


def test_the_service_is_told_each_databases_own_server(tmp_path: Path) -> None:
    told = environment.private(site(tmp_path, THREE))
    ports = [
        told[name].rpartition("/")[0].rpartition(":")[2]
        for name in ("LEDGER_DATABASE_URL", "DATA_DATABASE_URL", "DATA_DATABASES")
    ]
    assert ports == ["20000", "20001", "20002"]


def test_a_server_is_external_when_all_that_lies_on_it_is_elsewhere(tmp_path: Path) -> None:
    given = {"DATA_DATABASE_URL": "mysql+pymysql://h/d"}
    three = placement.parsed(THREE)
    assert environment.is_external(given, "mysql", three)
    assert not environment.is_external(given, "mariadb", three)
    assert not environment.is_external(given, "mariadb-2", three)
    assert "DATA_DATABASES" in environment.of_processes(site(tmp_path, THREE), given)


def test_the_mirror_is_debians_own_and_the_first() -> None:
    told = (
        "Debian|Debian-Security|http://security/\nElse|Debian|http://else/\n"
        "Debian|Debian|http://first/\nDebian|Debian|http://first/\nDebian|Debian|http://second/\n"
    )
    assert mysql_packages.mirrors(told) == ["http://first/", "http://second/"]


def test_packages_that_cannot_be_fetched_leave_no_server_behind(tmp_path: Path) -> None:
    folder = tmp_path / "mysql-server"
    with pytest.raises(mysql_packages.NotFetched, match="cannot be fetched from"):
        mysql_packages.bring(folder, Output(), mirror=f"file://{tmp_path}/no-mirror")
    assert not mysql_packages.is_there(folder)


def test_what_was_interrupted_is_no_server(tmp_path: Path) -> None:
    unfinished = tmp_path / "mysql-server.unfinished" / mysql_packages.SERVER
    unfinished.parent.mkdir(parents=True)
    unfinished.touch()
    with pytest.raises(mysql_packages.NotFetched):
        mysql_packages.bring(tmp_path / "mysql-server", Output(), mirror=f"file://{tmp_path}/no-mirror")
    assert not unfinished.exists()
