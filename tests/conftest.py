"""What every room of the tests shares: waiting for a condition, where the checkout is, and which databases to use.

    pytest -n 2 --dist loadfile                                     in two processes, each with servers of its own
    pytest --databases mysql                                        all on a MySQL of `make mysql`
    pytest --databases ledger=mariadb,data=mysql,archive=mariadb-2  on three servers
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import hypothesis
import pytest

from cli import mysql_packages, placement
from cli.trouble import Trouble
from tests.browser import chromium, tab  # noqa: F401  fixtures of more than one room

T = TypeVar("T")

# What takes long on a busy machine is no fault of the example's.
hypothesis.settings.register_profile("sluice", deadline=None)
hypothesis.settings.load_profile("sluice")

CHECKOUT = Path(__file__).parent.parent
#: Empty, or which one of several processes that share the tests this is.
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")
#: Ports for the tests' stacks: away from those that people expect a stack of their own on, and from those of another
#: process's and another checkout's tests.
PORTS = range(16_000 + crc32(f"{CHECKOUT}{PROCESS}".encode()) % 1_000 * 4, 20_000)[:4]

Eventually = Callable[..., object]
Tell = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--databases",
        default=placement.MARIADB,
        help="the server of all databases (mariadb, mysql), or of each: ledger=mariadb,data=mysql,archive=mariadb-2",
    )
    parser.addoption(
        "--examples",
        type=int,
        default=2,
        help="requests that test_fuzz makes up for each operation, of each sort",
    )


def pytest_configure(config: pytest.Config) -> None:
    try:
        servers = databases(config).values()
    except Trouble as trouble:
        raise pytest.UsageError(str(trouble)) from trouble
    if placement.MYSQL in map(placement.kind_of, servers) and not mysql_packages.is_there():
        raise pytest.UsageError("MySQL is not here: `make mysql` brings its packages")


def databases(config: pytest.Config) -> dict[str, str]:
    """The server of each database."""
    return placement.parsed(config.getoption("--databases"))


def state(name: str) -> Path:
    """The folder of a stack of this process's own."""
    return CHECKOUT / ".sluice" / "-".join(filter(None, (name, PROCESS)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = properties(terminalreporter, "told")
    if told:
        terminalreporter.section("what the tests have measured")
    for test, words in told:
        terminalreporter.write_line(test)
        for line in words.splitlines():
            terminalreporter.write_line(f"    {line}")


def properties(terminalreporter: pytest.TerminalReporter, name: str) -> list[tuple[str, Any]]:
    """What tests have noted under a name, with the test; also when they ran in other processes."""
    reports = [each for reports in terminalreporter.stats.values() for each in reports]
    ended = [each for each in reports if getattr(each, "when", "") == "teardown"]
    # One that failed in its end stands there twice.
    return list(
        dict.fromkeys(
            (each.nodeid, value) for each in ended for key, value in each.user_properties if key == name
        )
    )


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Writes a figure down that is to be read at the end of the run, and at once with `-s`."""

    def told(words: str) -> None:
        print(words)
        request.node.user_properties.append(("told", words))

    return told


def eventually(condition: Callable[[], T], *, within: float = 15, every: float = 0.05, what: str = "") -> T:
    """The condition's first truthy value; fails when there is none in time."""
    until = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {within} s: {what or condition}; last seen {value!r}")
        time.sleep(every)


@pytest.fixture(name="eventually")
def _eventually() -> Eventually:
    return eventually
