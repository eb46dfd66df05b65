"""Which variable comes from where, and which server is therefore ours to start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import settings
from cli import environment
from cli.credentials import Credentials
from cli.layout import CHECKOUT, Layout
from cli.site import Site

KNOWN = ("CELERY_BROKER_URL", "MAIL_FROM")


def chosen(
    dotenv: dict[str, str], environ: dict[str, str], printed: dict[str, str] | None = None
) -> dict[str, str]:
    return environment.chosen(dotenv=dotenv, environ=environ, known=KNOWN, printed=printed or {})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    names = ("mariadb", "rabbitmq", "rabbitmq-ui", "redis", "smtp")
    return Site(Layout(tmp_path), {name: 20_000 + number for number, name in enumerate(names)}, Credentials())


def test_the_real_environment_wins_over_dotenv() -> None:
    assert chosen({"MAIL_FROM": "a@x"}, {"MAIL_FROM": "b@x"}) == {"MAIL_FROM": "b@x"}


def test_a_real_secret_file_wins_over_the_value_in_dotenv() -> None:
    found = chosen({"CELERY_BROKER_URL": "amqp://old"}, {"CELERY_BROKER_URL_FILE": "/run/secrets/broker"})
    assert found == {"CELERY_BROKER_URL_FILE": "/run/secrets/broker"}


def test_strange_and_empty_variables_are_left_out() -> None:
    assert chosen({}, {"HOME": "/root", "MAIL_FROM": ""}) == {}


def test_addresses_that_env_printed_do_not_count_as_chosen() -> None:
    url = "amqp://sluice:x@127.0.0.1:20001/sluice"
    assert chosen({}, {"CELERY_BROKER_URL": url}, printed={"CELERY_BROKER_URL": url}) == {}


def test_mariadb_is_external_only_with_both_databases_given() -> None:
    one = {"LEDGER_DATABASE_URL": "mysql+pymysql://h/l"}
    both = {**one, "DATA_DATABASE_URL_FILE": "/run/secrets/data"}
    assert not environment.is_external(one, "mariadb")
    assert environment.is_external(both, "mariadb")


def test_processes_get_the_private_server_unless_another_is_given(site: Site) -> None:
    found = environment.of_processes(site, {"SMTP_URL": "smtp://elsewhere:25", "SLUICE_API_PORT": "81"})
    assert found["SMTP_URL"] == "smtp://elsewhere:25"
    assert found["CELERY_BROKER_URL"].endswith("@127.0.0.1:20001/sluice")
    assert "SLUICE_API_PORT" not in found


def test_a_value_is_read_from_its_secret_file(tmp_path: Path) -> None:
    secret = tmp_path / "broker"
    secret.write_text("amqp://from-file\n")
    assert (
        environment.value({"CELERY_BROKER_URL_FILE": str(secret)}, "CELERY_BROKER_URL") == "amqp://from-file"
    )


@pytest.mark.parametrize("value", ["plain", "two words", "it's", "$HOME `id` \\", 'a"b'])
def test_exports_survive_the_shell(value: str) -> None:
    script = environment.exports({"X": value}) + '\nprintf %s "$X"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == value


def test_the_example_lists_every_setting() -> None:
    text = (CHECKOUT / ".env.example").read_text()
    named = {line.lstrip("#").partition("=")[0] for line in text.splitlines() if "=" in line}
    assert settings.variables() | environment.STACK_ONLY <= named


def test_no_node_of_a_broker_is_shown_with_its_password() -> None:
    shown = environment.without_password("amqp://user:secret@one:5672/vhost;amqp://user:secret@two:5672/vhost")
    assert shown == "amqp://one:5672/vhost; amqp://two:5672/vhost"
