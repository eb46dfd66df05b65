"""The whole system: all servers and all processes of the service are real, and killed, frozen and cut off on purpose.

One stack serves the session. Every test begins with empty tables, and after every test all that was accepted must end
and all invariants must hold (`tests.invariants`), whatever was done to the processes.

    pytest tests/system                     the short form, some minutes
    pytest tests/system --long              with the full numbers, for a quiet machine
    pytest tests/system --seed 7            with the random choices of an earlier run
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from _pytest.mark import ParameterSet

from cli.stack import Stack
from tests.conftest import PORTS, databases, properties
from tests.system import failpoint, processes, proof
from tests.system.books import Books
from tests.system.service import Service
from tests.system.storm import Storm

LEASE_SECONDS = 3
STOP_GRACE_SECONDS = 1
SHUTDOWN_GRACE_SECONDS = 3
#: Seconds that one test may take in the long form.
LONG_TIMEOUT_SECONDS = 3600
#: The second ones rest unless a test asks for them.
SECOND_DATA_WORKER = "data-2"
SECOND_MONITOR = "monitor-2"
RESTING = frozenset({SECOND_DATA_WORKER, SECOND_MONITOR})

_OVERRIDES = {
    "SLUICE_FAILPOINT_DIR": str(failpoint.FOLDER),
    "SLUICE_LEASE_SECONDS": str(LEASE_SECONDS),
    "SLUICE_STOP_GRACE_SECONDS": str(STOP_GRACE_SECONDS),
    "SLUICE_SHUTDOWN_GRACE_SECONDS": str(SHUTDOWN_GRACE_SECONDS),
    "SLUICE_TASK_MODULES": "tests.system.odd_types",
    "SLUICE_API_PORT": str(PORTS[0]),
    "SLUICE_FLOWER_PORT": str(PORTS[1]),
    "SLUICE_RABBITMQ_UI_PORT": str(PORTS[2]),
}


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    is_long: bool

    def of(self, short: int, long: int) -> int:
        return long if self.is_long else short


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="system tests with their full numbers")
    parser.addoption(
        "--seed", type=int, default=None, help="the system tests' random choices, as printed before"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: only with --long")
    if config.getoption("--seed", None) is None:
        config.option.seed = random.SystemRandom().randrange(1_000_000)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long", False):
        for item in items:
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_SECONDS))
    else:
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def long_only(*values: object) -> ParameterSet:
    """A case of a parametrized test that the short form leaves out."""
    return pytest.param(*values, marks=pytest.mark.long)


def pytest_report_header(config: pytest.Config) -> str:
    form = "long" if config.getoption("--long", False) else "short"
    return f"system tests: {form} form, --seed {config.option.seed}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if storms := properties(terminalreporter, "storm"):
        terminalreporter.section("what the storms have shown")
        for text in proof.table(cells for _, cells in storms):
            terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> Scale:
    return Scale(bool(pytestconfig.getoption("--long", False)))


@pytest.fixture
def chance(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> random.Random:
    """The same numbers for the same test and seed, whatever ran before."""
    return random.Random(f"{pytestconfig.option.seed} {request.node.name}")


@pytest.fixture(scope="session")
def session_stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """A new stack each time: what an interrupted session left is not to be met again."""
    stack = Stack(
        failpoint.STATE,
        overrides=_OVERRIDES,
        replicas={"data": 2, "monitor": 2},
        databases=databases(pytestconfig),
    )
    if stack.layout.credentials.exists():
        stack.wipe()
    failpoint.FOLDER.mkdir(parents=True)
    try:
        stack.up()
        for name in RESTING:
            stack.stop(name)
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def books(session_stack: Stack) -> Books:
    return Books(session_stack.environment())


@pytest.fixture(scope="session")
def service(session_stack: Stack) -> Service:
    environment = session_stack.environment()
    return Service(environment["SLUICE_URL"], environment["SLUICE_API_KEY"])


@pytest.fixture(autouse=True)
def stack(session_stack: Stack, books: Books) -> Iterator[Stack]:
    """The stack with empty tables; after the test it is healed, comes to rest, and must hold every invariant."""
    failpoint.disarm()
    books.empty()
    yield session_stack
    processes.heal(session_stack, resting=RESTING)
    books.at_rest()


@pytest.fixture
def storm(
    stack: Stack,
    books: Books,
    service: Service,
    chance: random.Random,
    request: pytest.FixtureRequest,
) -> Iterator[Storm]:
    """A storm with a line of its own in the table at the end."""
    engines = proof.engines({"ledger": books.ledger, **books.databases})
    line = proof.Line(proof.title(request.node.name), engines)
    yield Storm(stack, books, service, line, chance)
    request.node.user_properties.append(("storm", line.cells))
