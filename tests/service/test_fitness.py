"""What is said of a database before the first task finds out: at the start, by `/readyz` and by `migrate`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import DBAPIError

import api.health
from cli import placement
from cli.stack import Stack
from ledger import __main__ as commands
from ledger import db, fitness, schema
from ledger.fitness import Fitness
from tests.service import hands
from workers.monitor import Monitor

NO_DATABASE = "mysql+pymysql://nobody@127.0.0.1:1/none"
BUSINESS = f"data:{db.DATA}"
PASSWORD = "of-a-test"

at_work = pytest.fixture(hands.at_work)


@pytest.fixture(autouse=True)
def _not_looked_at_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.health, "_fit", set())


@pytest.fixture
def root(servers: Stack) -> Engine:
    """On the server of the business database `data`, through the socket in its data folder."""
    server = servers.databases["data"]
    kind = placement.kind_of(server)
    socket = servers.layout.server(server) / "data" / f"{kind}.sock"
    # MariaDB lets the user who installed it in as an administrator, MySQL a root without a password.
    admin = pwd.getpwuid(os.getuid()).pw_name if kind == placement.MARIADB else "root"
    return create_engine(
        # Relative, since a socket's name has 107 characters at most.
        f"mysql+pymysql://{admin}@localhost/?unix_socket={os.path.relpath(socket)}",
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )


@pytest.fixture
def poor(root: Engine) -> Iterator[str]:
    """The URL of `data` for a user who has every right on the tables and no other."""
    account = "'sluice_poor'@'127.0.0.1'"
    with root.connect() as connection:
        connection.exec_driver_sql(f"CREATE USER {account} IDENTIFIED BY '{PASSWORD}'")
        connection.exec_driver_sql(f"GRANT ALL ON `sluice\\_%%`.* TO {account}")
        url = make_url(db.data_url(db.DATA)).set(username="sluice_poor", password=PASSWORD)
        yield url.render_as_string(hide_password=False)
        connection.exec_driver_sql(f"DROP USER {account}")


@pytest.fixture
def bare() -> Iterator[str]:
    """The URL of a database without a table, on the server of `data`."""
    url = make_url(db.data_url(db.DATA))
    with db.data().connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE sluice_data_bare")
        yield url.set(database="sluice_data_bare").render_as_string(hide_password=False)
        connection.exec_driver_sql("DROP DATABASE sluice_data_bare")


@contextmanager
def changed(statement: str, back: str) -> Iterator[None]:
    with db.data().connect() as connection:
        connection.exec_driver_sql(statement)
    try:
        yield
    finally:
        with db.data().connect() as connection:
            connection.exec_driver_sql(back)


def myisam() -> AbstractContextManager[None]:
    return changed("ALTER TABLE data ENGINE=MyISAM", "ALTER TABLE data ENGINE=InnoDB")


def test_databases_as_the_stack_makes_them_are_fit() -> None:
    names = [each.name for each in schema.databases()]
    assert {name: fitness.look(name) for name in names} == dict.fromkeys(names, Fitness())


def test_a_user_that_may_not_see_branches_is_told_the_grant(
    servers: Stack, poor: str, configured: Callable[..., None]
) -> None:
    configured(DATA_DATABASE_URL=poor)
    if placement.kind_of(servers.databases["data"]) == placement.MARIADB:
        assert fitness.look(BUSINESS) == Fitness(), "on MariaDB everybody may"
    else:
        [fault] = fitness.look(BUSINESS).faults
        assert "GRANT XA_RECOVER_ADMIN ON *.* TO 'sluice_poor'@" in fault


def test_a_database_behind_this_version_is_told_the_command(
    bare: str, configured: Callable[..., None]
) -> None:
    configured(DATA_DATABASE_URL=bare)
    [fault] = fitness.look(BUSINESS).faults
    assert "python -m ledger migrate" in fault


def test_a_marker_table_that_is_gone_is_a_fault() -> None:
    with changed("RENAME TABLE sluice_marker TO hidden", "RENAME TABLE hidden TO sluice_marker"):
        [fault] = fitness.look(BUSINESS).faults
    assert fault.startswith("table sluice_marker is gone")


def test_a_table_that_no_rollback_undoes_is_a_fault() -> None:
    with myisam():
        [fault] = fitness.look(BUSINESS).faults
    assert fault.startswith("table data is MyISAM")
    assert fitness.look(BUSINESS) == Fitness()


@pytest.mark.parametrize("wrong", [{"database": "sluice_nowhere"}, {"password": "wrong"}])
def test_a_login_that_is_refused_is_a_fault(wrong: dict[str, str], configured: Callable[..., None]) -> None:
    url = make_url(db.data_url(db.DATA)).set(**wrong)  # type: ignore[arg-type]
    configured(DATA_DATABASE_URL=url.render_as_string(hide_password=False))
    [fault] = fitness.look(BUSINESS).faults
    assert fault.startswith("the server refuses: ")


def test_somebody_elses_connection_cannot_be_ended(poor: str) -> None:
    mine = db.lone_engine(db.data_url(db.DATA), patience_seconds=2)
    with mine.connect() as holder, db.lone_engine(poor, patience_seconds=2).connect() as beside:
        [fault] = fitness.ending_faults(holder, beside)
        assert "KILL" in fault
        assert holder.exec_driver_sql("SELECT 1").scalar() == 1


def test_ones_own_connection_is_found_and_ended() -> None:
    mine = db.lone_engine(db.data_url(db.DATA), patience_seconds=2)
    with mine.connect() as holder, mine.connect() as beside:
        assert list(fitness.ending_faults(holder, beside)) == []
        with pytest.raises(DBAPIError):
            holder.exec_driver_sql("SELECT 1")


def test_a_mariadb_with_a_binary_log_is_warned_of(servers: Stack) -> None:
    if placement.kind_of(servers.databases["data"]) != placement.MARIADB:
        with db.data().connect() as connection:
            assert connection.exec_driver_sql("SELECT @@log_bin").scalar() == 1
        assert fitness.look(BUSINESS).warnings == (), "MySQL's is sound"
        return
    with configured_with(servers, "log-bin = bin"):
        [warning] = fitness.look(BUSINESS).warnings
    assert "docs/explanation/two-phase-commit.md#known-limits" in warning
    assert fitness.look(BUSINESS) == Fitness()


def test_a_server_that_may_forget_commits_is_warned_of(servers: Stack) -> None:
    with configured_with(servers, "innodb-flush-log-at-trx-commit = 2", "sync-binlog = 0"):
        told = [*fitness.look(BUSINESS).warnings, *fitness.look(schema.LEDGER).warnings]
    names = ["innodb_flush_log_at_trx_commit is 2"]
    if placement.kind_of(servers.databases["data"]) == placement.MYSQL:
        names.append("sync_binlog is 0")
    assert len(told) == 2 * len(names)
    assert all(sum(name in warning for warning in told) == 2 for name in names)


@contextmanager
def configured_with(servers: Stack, *lines: str) -> Iterator[None]:
    """The server of `data` with further options; the last of two that contradict each other holds."""
    server = servers.databases["data"]
    options = servers.layout.server(server) / "my.cnf"
    before = options.read_text()
    try:
        options.write_text("\n".join([before, *lines, ""]))
        servers.restart(server)
        yield
    finally:
        options.write_text(before)
        servers.restart(server)


def test_the_monitor_looks_at_a_database_when_it_is_back(
    bare: str, configured: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor()
    configured(DATA_DATABASE_URL=NO_DATABASE)
    monitor._look_at_databases()
    assert monitor.unseen == [BUSINESS]
    configured(DATA_DATABASE_URL=bare)
    monitor._look_at_databases()
    assert monitor.unseen == []
    monitor._look_at_databases()
    assert [getattr(each, "action", "") for each in caplog.records] == ["database_away", "database_unfit"]


def test_a_worker_tells_what_is_missing_and_goes_on(bare: str, at_work: hands.Hands, tmp_path: Path) -> None:
    at_work.start("unfit", DATA_DATABASE_URL=bare)
    at_work.start("away", DATA_DATABASE_URL=NO_DATABASE)
    assert '"database_unfit"' in (tmp_path / "unfit-0.log").read_text()
    assert '"database_away"' in (tmp_path / "away-1.log").read_text()


def test_migrate_tells_what_it_cannot_mend() -> None:
    with myisam():
        done = CliRunner().invoke(commands.main, ["migrate"])
    assert done.exit_code == 1
    assert "data:data: table data is MyISAM" in done.output
    assert CliRunner().invoke(commands.main, ["migrate"]).exit_code == 0


def test_an_unfit_business_database_is_a_warning_of_readyz(door: FlaskClient) -> None:
    with myisam():
        answer = door.get("/readyz")
    assert answer.status_code == 200
    check = answer.get_json()["checks"]["databases"]
    assert (check["status"], "data: table data is MyISAM" in check["detail"]) == ("warn", True)


def test_a_business_database_that_begins_to_refuse_leaves_the_door_open(
    door: FlaskClient, configured: Callable[..., None]
) -> None:
    assert door.get("/readyz").get_json()["checks"]["databases"]["status"] == "pass"
    url = make_url(db.data_url(db.DATA)).set(password="another")
    configured(DATA_DATABASE_URL=url.render_as_string(hide_password=False))
    answer = door.get("/readyz")
    check = answer.get_json()["checks"]["databases"]
    assert (answer.status_code, check["status"]) == (200, "warn")
    assert "refuses (1045)" in check["detail"]


def test_a_business_database_that_is_away_leaves_the_door_open(
    door: FlaskClient, configured: Callable[..., None]
) -> None:
    configured(DATA_DATABASE_URL=NO_DATABASE)
    answer = door.get("/readyz")
    checks = answer.get_json()["checks"]
    assert (answer.status_code, checks["ledger"]["status"], checks["databases"]["status"]) == (
        200,
        "pass",
        "warn",
    )
    assert "does not answer" in checks["databases"]["detail"]
