"""What gunicorn's master loads, its workers inherit: a reload takes up new code only if the master has none of ours."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.workers.gthread import ThreadWorker

from api import gunicorn_config, waiting
from tests.conftest import CHECKOUT

#: What gunicorn does with its options before it forks; then the rooms of the house that were loaded for it.
MASTER = """
import sys
from gunicorn.app.wsgiapp import WSGIApplication
sys.argv = ["gunicorn", "--config", "file:api/gunicorn_config.py", "api:create_app()"]
threads = WSGIApplication().cfg.threads
print(threads, *{name.partition(".")[0] for name in sys.modules} & {"api", "tasks", "ledger", "settings"})
"""


def test_gunicorns_master_loads_nothing_of_ours() -> None:
    told = subprocess.run([sys.executable, "-c", MASTER], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(waiting.THREADS)]


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("seen", "whole"),
    [
        (b"", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (HEAD + b"Content-Length: 3\r\n\r\nab", False),
        (HEAD + b"content-length:3\r\n\r\nabc", True),
        (HEAD + b"X: Content-Length: 3\r\n\r\n", True),
        (HEAD + b"Content-Length: 100000\r\n\r\n", True),
        (HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", True),
        (b"x" * gunicorn_config.SHORT_BYTES, True),
    ],
)
def test_a_thread_takes_a_request_when_it_is_there(seen: bytes, whole: bool) -> None:
    assert gunicorn_config.is_whole(seen) is whole


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(name="pair")
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end of a connection, and the door's."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
        yield theirs, ours


@pytest.fixture(name="served")
def _served(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """How many requests a thread serves before it lets go of its client. gunicorn's part only reads them."""

    def served(*, alive: bool = True, in_hand: int = 1) -> int:
        worker: Any = gunicorn_config.Worker.__new__(gunicorn_config.Worker)
        worker.alive, worker.cfg = alive, SimpleNamespace(threads=waiting.THREADS)
        worker.nr_conns, worker.keepalived_conns, worker.pending_conns = in_hand + 2, [None], [None]
        client: Any = gunicorn_config.Client.__new__(gunicorn_config.Client)
        client.sock, client.parser = pair[1], SimpleNamespace(unreader=SimpleNamespace(buf=BytesIO()))
        assert worker.handle(client) is True, "the connection is kept"
        return len(requests)

    def serve(worker: Any, client: Any) -> bool:
        requests.append(client.sock.recv(len(REQUEST)))
        return True

    requests: list[bytes] = []
    monkeypatch.setattr(ThreadWorker, "handle", serve)
    return served


def test_a_thread_stays_with_a_client_who_has_more(
    pair: tuple[socket.socket, socket.socket], served: Callable[..., int]
) -> None:
    pair[0].sendall(REQUEST * 3)
    assert served() == 3


@pytest.mark.parametrize(
    ("said", "condition"),
    [
        (REQUEST, {}),
        (REQUEST + b"GET / HTT", {}),
        (REQUEST * 2, {"alive": False}),
        (REQUEST * 2, {"in_hand": waiting.THREADS - 7}),
    ],
    ids=["nothing more", "half a request more", "the process is to end", "others may want the thread"],
)
def test_a_thread_leaves_its_client_when_there_is_reason_to(
    said: bytes, condition: dict[str, Any], pair: tuple[socket.socket, socket.socket], served: Callable[..., int]
) -> None:
    pair[0].sendall(said)
    began = time.monotonic()
    assert served(**condition) == 1
    assert time.monotonic() - began < gunicorn_config.STAY_SECONDS + 5
