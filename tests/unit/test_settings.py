"""Settings: from the environment, from files and from `.env`, checked at once with every fault named."""

from __future__ import annotations

from pathlib import Path

import pytest

import settings
from settings import SettingsError

SOUND = {
    "LEDGER_DATABASE_URL": "mysql+pymysql://me:word-1@db/ledger",
    "DATA_DATABASE_URL": "mysql+pymysql://me:word-2@db/data",
    "CELERY_BROKER_URL": "amqp://me:word-3@rabbit/",
    "CELERY_RESULT_BACKEND": "redis://:word-4@redis/0",
}


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment with the four variables that are required, and no `.env`."""
    for name in settings.variables():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    for name, value in SOUND.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_the_required_four_are_enough() -> None:
    found = settings.load()
    assert found.ledger_database_url.get_secret_value() == SOUND["LEDGER_DATABASE_URL"]
    assert (found.lease_seconds, found.stop_grace_seconds, found.shutdown_grace_seconds) == (15, 1, 10)
    assert (found.tables, found.task_modules, found.legacy_get) == (("data",), (), False)


@pytest.mark.parametrize("missing", SOUND)
def test_a_missing_variable_is_named(missing: str, operator: pytest.MonkeyPatch) -> None:
    operator.delenv(missing)
    with pytest.raises(SettingsError, match=rf"{missing}: Field required"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LEDGER_DATABASE_URL", "postgresql://me@db/ledger", "must start with mysql"),
        ("DATA_DATABASE_URL", "sqlite://", "must start with mysql"),
        ("CELERY_BROKER_URL", "redis://redis/0", "must start with amqp"),
        ("CELERY_RESULT_BACKEND", "amqp://rabbit", "must start with redis"),
        ("SLUICE_LEASE_SECONDS", "0", "greater than or equal to 1"),
        ("SLUICE_LEASE_SECONDS", "soon", "valid number"),
        ("SLUICE_STOP_GRACE_SECONDS", "nan", "should be"),
        ("SLUICE_CONCURRENCY", "0", "greater than or equal to 1"),
        ("CELERY_RESULT_BACKEND", "redis+sentinel://one:26379,two:26379", "host:26379/name/0"),
        ("CELERY_RESULT_BACKEND", "redis+sentinel://one:x/name", "host:26379/name/0"),
        ("SLUICE_LEGACY_GET", "perhaps", "valid boolean"),
        ("SLUICE_LOG_LEVEL", "LOUD", "'DEBUG'"),
        ("SLUICE_LOG_FORMAT", "xml", "'json'"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(
    name: str, value: str, said: str, operator: pytest.MonkeyPatch
) -> None:
    operator.setenv(name, value)
    with pytest.raises(SettingsError) as fault:
        settings.load()
    assert f"  {name}: " in str(fault.value)
    assert said in str(fault.value)


def test_all_faults_stand_in_one_message(operator: pytest.MonkeyPatch) -> None:
    operator.delenv("DATA_DATABASE_URL")
    operator.setenv("SLUICE_LEASE_SECONDS", "-1")
    operator.setenv("SLUICE_LOG_FORMAT", "xml")
    operator.setenv("SLUICE_LEASE_SECOND", "15")
    operator.setenv("CELERY_BROKER_URL_FILE", "/nowhere/broker")
    operator.delenv("CELERY_BROKER_URL")
    with pytest.raises(SettingsError) as fault:
        settings.load()
    for name in (
        "DATA_DATABASE_URL",
        "SLUICE_LEASE_SECONDS",
        "SLUICE_LOG_FORMAT",
        "SLUICE_LEASE_SECOND:",
        "CELERY_BROKER_URL_FILE",
    ):
        assert name in str(fault.value)


def test_a_misspelt_variable_is_refused(operator: pytest.MonkeyPatch) -> None:
    operator.setenv("SLUICE_LEASE_SECOND", "15")
    with pytest.raises(SettingsError, match="SLUICE_LEASE_SECOND"):
        settings.load()


@pytest.mark.parametrize(
    "name", ["SLUICE_URL", "SLUICE_RUN_DIR", "SLUICE_STATE_DIR", "SLUICE_LEASE_SECONDS_FILE"]
)
def test_variables_of_the_stack_and_of_files_are_let_through(
    name: str, operator: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "word").write_text("15\n")
    operator.setenv(name, str(tmp_path / "word"))
    assert settings.load().lease_seconds == 15


def test_a_secret_may_lie_in_a_file(operator: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("amqp://from-a-file/\n")
    operator.delenv("CELERY_BROKER_URL")
    operator.setenv("CELERY_BROKER_URL_FILE", str(tmp_path / "broker"))
    assert settings.load().broker_url.get_secret_value() == "amqp://from-a-file/"


def test_the_environment_goes_before_file_and_dotenv(operator: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLUICE_CONCURRENCY=3\nSLUICE_LEASE_SECONDS=3\nMAIL_FROM=dotenv@x\n")
    (tmp_path / "word").write_text("5")
    operator.setenv("SLUICE_CONCURRENCY_FILE", str(tmp_path / "word"))
    operator.setenv("SLUICE_LEASE_SECONDS_FILE", str(tmp_path / "word"))
    operator.setenv("SLUICE_LEASE_SECONDS", "7")
    found = settings.load()
    assert (found.lease_seconds, found.concurrency, found.mail_from) == (7, 5, "dotenv@x")


def test_an_empty_variable_counts_as_not_given(operator: pytest.MonkeyPatch) -> None:
    operator.setenv("SLUICE_LEASE_SECONDS", "")
    assert settings.load().lease_seconds == 15


def test_lists_are_words_between_commas(operator: pytest.MonkeyPatch) -> None:
    operator.setenv("SLUICE_TABLES", " data, people ,,orders")
    operator.setenv("SLUICE_TASK_MODULES", "ours.types")
    found = settings.load()
    assert (found.tables, found.task_modules) == (("data", "people", "orders"), ("ours.types",))


def test_no_secret_is_shown_by_settings_or_faults(operator: pytest.MonkeyPatch) -> None:
    assert "word-" not in repr(settings.load()) + str(settings.load())
    operator.setenv("LEDGER_DATABASE_URL", "postgresql://me:word-5@db/ledger")
    operator.setenv("SMTP_URL", "smtp://me:word-6@mail")
    with pytest.raises(SettingsError) as fault:
        settings.load()
    assert "word-" not in str(fault.value)
    assert fault.value.__cause__ is None


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.load().lease_seconds = 1


def test_the_nodes_of_a_broker_are_several_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://one/vhost;amqps://two/vhost")
    assert settings.load().broker_urls == ("amqp://one/vhost", "amqps://two/vhost")
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://one/vhost;redis://two")
    with pytest.raises(settings.SettingsError, match="separated by semicolons"):
        settings.load()
