"""The HTTP door on a real socket, in a process of its own that can be killed and started again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from werkzeug.serving import make_server

from api import create_app
from tests import life
from tests.conftest import eventually


class Door:
    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port: int = listener.getsockname()[1]
        self._process = ExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        self._process.enter_context(life.child(self._serve))
        eventually(self._answers, what="an open door")

    def kill(self) -> None:
        """By SIGKILL: whatever it was answering is cut off."""
        self._process.close()

    def _serve(self) -> None:
        make_server("127.0.0.1", self._port, create_app(), threaded=True).serve_forever()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False


def open_door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """For a fixture. Streams that were cut off come back soon."""
    monkeypatch.setattr("api.streams._RETRY_MILLISECONDS", 50)
    door = Door()
    door.open()
    try:
        yield door
    finally:
        door.kill()
