"""What every room of the tests shares: waiting for a condition, where the checkout is, and which databases to use.

    pytest --databases mysql                                        all on a MySQL of `make mysql`
    pytest --databases ledger=mariadb,data=mysql,archive=mariadb-2  on three servers
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import pytest

from cli import mysql_packages, placement
from cli.trouble import Trouble

T = TypeVar("T")

CHECKOUT = Path(__file__).parent.parent
#: Ports for the tests' stacks: away from those that people expect a stack of their own on, and from those of another
#: checkout's tests.
PORTS = range(16_000 + crc32(str(CHECKOUT).encode()) % 1_000 * 4, 20_000)[:4]

Eventually = Callable[..., object]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--databases",
        default=placement.MARIADB,
        help="the server of all databases (mariadb, mysql), or of each: ledger=mariadb,data=mysql,archive=mariadb-2",
    )
    parser.addoption(
        "--examples", type=int, default=2, help="requests that test_fuzz makes up for each operation, of each sort"
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
