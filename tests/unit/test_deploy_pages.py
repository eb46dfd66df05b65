"""The pages of docs/deploy say what the code says: messages, settings, files, commands and causes."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

import settings
from cli.containers import secrets
from cli.credentials import Credentials
from cli.layout import Layout
from cli.servers import mariadb
from cli.site import Site
from tests.conftest import CHECKOUT

DEPLOY = CHECKOUT / "docs" / "deploy"
PAGES = sorted({*DEPLOY.glob("*.md"), CHECKOUT / "docs" / "howto" / "scale.md", CHECKOUT / "docs" / "quickstart.md"})
TROUBLESHOOTING = (DEPLOY / "troubleshooting.md").read_text(encoding="utf-8")
ROOMS = ("ledger", "tasks", "workers", "api", "cli", "settings.py", "broker_counts.py", "celery_config.py")
#: What servers and libraries say, and how the page names them: not in our code.
FOREIGN = re.compile(r"PRECONDITION_FAILED|delivery ack|consumer_timeout|ERROR 1|XAER_|Lock wait|Field req|Bad Request")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


@cache
def our_text() -> str:
    """All of our code on one line, with a literal that is broken over lines in one piece."""
    paths = [path for room in ROOMS for path in ([CHECKOUT / room] if "." in room else (CHECKOUT / room).rglob("*.py"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(paths))
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its own first line."""
    below = TROUBLESHOOTING.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def pieces(message: str) -> list[str]:
    """What is constant in a message whose other parts are written as an ellipsis."""
    return [piece.strip() for piece in message.split("…") if len(piece.strip(" :")) > 2]


@pytest.mark.parametrize("heading", ["Nothing starts", "A request is refused", "A task does not go on", "In the logs"])
def test_every_quoted_message_is_in_the_code(heading: str) -> None:
    found = rows(heading)
    assert len(found) >= 6
    for cells in found:
        # In the logs the second cell has the words, the first one the action.
        for message in (each for cell in cells[: 2 if heading == "In the logs" else 1] for each in quoted(cell)):
            for piece in pieces(message):
                assert FOREIGN.search(piece) or piece in our_text(), f"{heading}: {piece!r}"


def test_every_action_is_one_that_is_logged() -> None:
    for cells in rows("In the logs"):
        assert all(f'"action": "{action}"' in our_text() for action in quoted(cells[0])), cells[0]


def test_every_status_stands_with_its_title() -> None:
    for cells in rows("A request is refused"):
        for status, title in re.findall(r"(\d{3}) `([^`]+)`", cells[0]):
            # Those that Flask names have its name.
            assert f'{status}, "{title}"' in our_text() or (status, title) in {
                ("400", "Bad Request"),
                ("422", "Validation failed"),
                ("503", "Database unavailable"),
            }


def test_every_cause_is_one() -> None:
    causes = (CHECKOUT / "docs" / "reference" / "causes.md").read_text(encoding="utf-8")
    for cells in rows("A task does not go on"):
        assert all(f"| `{cause}` |" in causes for cause in quoted(cells[0])), cells[0]


@each_page
def test_every_setting_is_one(page: Path) -> None:
    known = settings.variables() | settings._STACK_VARIABLES | {"SLUICE_"}
    named = set(re.findall(r"\bSLUICE_[A-Z_]*", page.read_text(encoding="utf-8")))
    assert {name.removesuffix("_FILE") for name in named} <= known


@each_page
def test_every_test_and_command_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"\b((?:tests|docs|containers|cli)/[\w/.*-]+\.\w+)", text):
        assert list(CHECKOUT.glob(path)), path
    for target in re.findall(r"`make ([a-z-]+)", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), target
    for command in re.findall(r"(?:python -m ledger|sluice-ledger) ([a-z][a-z-]+)", text):
        assert re.search(rf'"{command}"|def {command.replace("-", "_")}\(', our_text()), command
    for command in re.findall(r"\./sluice ([a-z]+)", text):
        assert re.search(rf'command\("{command}"\)|def {command}\(|"{command}"', our_text()), command


def test_the_units_that_are_started_are_there() -> None:
    page = (DEPLOY / "one-server.md").read_text(encoding="utf-8")
    for unit in set(re.findall(r"\bsluice-(?:worker@|[a-z]+)(?=\w*\b)", page)) - {"sluice-ledger"}:
        assert list((DEPLOY / "systemd").glob(f"{unit}*.service")) or unit in ("sluice-secrets",), unit


def test_the_servers_of_one_machine_listen_to_nobody_else() -> None:
    """RabbitMQ has two more doors than its own port: the one for other nodes, and their list."""
    page = (DEPLOY / "one-server.md").read_text(encoding="utf-8")
    for line in (
        "bind-address = 127.0.0.1",
        "listeners.tcp.1 = 127.0.0.1:5672",
        "management.tcp.ip = 127.0.0.1",
        "inet_dist_use_interface {127,0,0,1}",
        "ListenStream=\\nListenStream=127.0.0.1:4369",
    ):
        assert line in page, line


def test_mariadb_gets_the_users_that_make_up_gives_it(tmp_path: Path) -> None:
    """By the page's own sed, from the file for MySQL."""
    page = (DEPLOY / "one-server.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^(sed .*) /etc/sluice/secrets/mysql_users.sql \| mariadb$", page, re.MULTILINE)
    kept = Credentials()
    users = secrets.files(kept)["mysql_users.sql"]
    done = subprocess.run(["sh", "-c", command], input=users, capture_output=True, text=True, check=True)
    shown = done.stdout.splitlines()
    databases = dict.fromkeys(("ledger", "data", "archive"), mariadb.NAME)
    wanted = mariadb._first_statements(Site(Layout(tmp_path), {}, kept, databases), mariadb.NAME)
    passwords = re.compile(r"IDENTIFIED BY '\w+'")
    assert [passwords.sub("", line) for line in shown] == [
        passwords.sub("", line.replace("'127.0.0.1'", "'%'")) for line in wanted.splitlines()
    ]


def test_settings_files_of_the_pages_are_yaml_or_shell() -> None:
    """A page's blocks are of a language that something here reads."""
    languages = {found for page in PAGES for found in re.findall(r"^```(\w*)$", page.read_text("utf-8"), re.MULTILINE)}
    assert languages - {""} <= {"sh", "ini", "sql", "yaml", "json"}
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            assert yaml.safe_load(block)
