"""The containers of docker-compose.yml under a real Docker Engine.

    pytest tests/containers

Nothing else collects them: they want an engine, its compose plugin, and some minutes. Without an engine they are
skipped and say so. Where the images of the servers cannot be pulled, `python -m tests.containers.images` makes
stand-ins first; what those cannot show stands in docs/howto/run-with-docker.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cli.containers import secrets
from tests.conftest import Tell
from tests.containers import engine
from tests.system.service import Service


@pytest.fixture(scope="session")
def containers() -> Iterator[float]:
    """All of them, up and healthy; the seconds that this took."""
    if reason := engine.why_not():
        pytest.skip(f"the containers are not tried: {reason}")
    secrets.write()
    engine.compose("down", "--volumes", "--remove-orphans")
    began = time.monotonic()
    try:
        try:
            engine.compose("up", "--build", "--wait", "--wait-timeout", "600")
        except engine.Failed as failed:
            raise AssertionError(f"{failed}\n{engine.compose('logs', '--tail', '30')}") from failed
        yield time.monotonic() - began
    finally:
        engine.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


@pytest.fixture
def service(containers: float) -> Service:
    return Service(engine.url(), engine.key())


@pytest.fixture
def told_of_images(containers: float, tell: Tell) -> None:
    for name, image in engine.image_names().items():
        if engine.is_standin(image):
            tell(f"{image} is a stand-in ({name})")
