"""The containers of docker-compose.yml under a real Docker Engine.

    pytest tests/containers

Nothing else collects them: they want an engine, its compose plugin, and some minutes. Without an engine they are
skipped and say so. Where the images of the servers cannot be pulled, `python -m tests.containers.images` makes
stand-ins first; what those cannot show stands in docs/howto/run-with-docker.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Tell
from tests.containers import engine
from tests.system.service import Service


@pytest.fixture(scope="module")
def containers() -> Iterator[float]:
    """All of them, up and healthy; the seconds that this took."""
    with engine.up() as seconds:
        yield seconds


@pytest.fixture
def service(containers: float) -> Service:
    return Service(engine.url(), engine.key())


@pytest.fixture
def told_of_images(containers: float, tell: Tell) -> None:
    for name, image in engine.image_names().items():
        if engine.has_image(image) and engine.is_standin(image):
            tell(f"{image} is a stand-in ({name})")
