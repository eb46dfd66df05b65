"""What gunicorn's master loads, its workers inherit: a reload takes up new code only if the master has none of ours."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http.unreader import SocketUnreader
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
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n10\r\n\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0;x\r\n\r\nGET / HT", True),
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
        client.sock, client.parser = pair[1], SimpleNamespace(unreader=SocketUnreader(pair[1]))
        assert worker.handle(client) is True, "the connection is kept"
        return len(requests)

    def serve(worker: Any, client: Any) -> bool:
        requests.append(client.parser.unreader.read(len(REQUEST)))
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


@pytest.mark.parametrize(
    ("begun", "said", "whole"),
    [
        (b"", b"", False),
        (REQUEST[:9], b"", False),
        (REQUEST[:9], REQUEST[9:-1], False),
        (REQUEST[:9], REQUEST[9:], True),
        (HEAD + b"Content-Length: 3\r\n\r", b"\nabc", True),
        (REQUEST, b"", True),
    ],
)
def test_a_request_that_began_with_the_last_one_is_waited_for_without_a_thread(
    begun: bytes, said: bytes, whole: bool, pair: tuple[socket.socket, socket.socket]
) -> None:
    client: Any = gunicorn_config.Client.__new__(gunicorn_config.Client)
    client.sock, client.parser = pair[1], SimpleNamespace(unreader=SocketUnreader(pair[1]))
    client.parser.unreader.unread(begun)
    pair[0].sendall(said)
    assert client.has_whole_request() is whole


ANSWER_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture(name="wire")
def _wire(pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> gunicorn_config.Wire:
    """The door's end as gunicorn has it, with a list of what it told the system."""

    def told(name: str) -> Callable[..., Any]:
        ask = getattr(socket.socket, name)

        def asked(wire: Any, *of: Any) -> Any:
            wire.asked.append(name)
            return ask(wire, *of)

        return asked

    for name in ("sendall", "setblocking", "settimeout"):
        monkeypatch.setattr(socket.socket, name, told(name), raising=False)
    wire: Any = gunicorn_config.Wire(fileno=pair[1].detach())
    wire.asked = []
    return wire  # type: ignore[no-any-return]


def test_the_head_of_an_answer_goes_with_its_body(wire: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    with wire:
        wire.sendall(ANSWER_HEAD)
        wire.sendall(b"{}")
        wire.flush()
        assert wire.asked == ["sendall"]
        assert pair[0].recv(100) == ANSWER_HEAD + b"{}"


def test_a_head_without_a_length_goes_at_once(wire: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    with wire:
        wire.sendall(b"HTTP/1.1 204 NO CONTENT\r\n\r\n")
        assert pair[0].recv(100, socket.MSG_DONTWAIT) == b"HTTP/1.1 204 NO CONTENT\r\n\r\n"


def test_a_head_goes_before_the_connection_ends(wire: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    with wire:
        wire.sendall(ANSWER_HEAD)
        wire.shutdown(socket.SHUT_WR)
        assert pair[0].recv(100, socket.MSG_DONTWAIT) == ANSWER_HEAD


def test_a_head_without_a_body_goes_too(
    wire: Any, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker: Any = gunicorn_config.Worker.__new__(gunicorn_config.Worker)
    monkeypatch.setattr(ThreadWorker, "handle_request", lambda worker, req, conn: conn.sock.sendall(ANSWER_HEAD))
    with wire:
        worker.handle_request(None, SimpleNamespace(sock=wire))
        assert pair[0].recv(100, socket.MSG_DONTWAIT) == ANSWER_HEAD


def test_a_head_goes_before_a_file(
    wire: Any, pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    (tmp_path / "answer").write_bytes(b"{}")
    with wire, (tmp_path / "answer").open("rb") as file:
        wire.sendall(ANSWER_HEAD)
        wire.sendfile(file)
        assert pair[0].recv(100, socket.MSG_DONTWAIT) == ANSWER_HEAD + b"{}"


def test_the_system_is_not_told_what_it_knows(wire: Any) -> None:
    with wire:
        wire.setblocking(True)
        wire.settimeout(None)
        assert wire.asked == []
        wire.settimeout(1)
        wire.settimeout(1)
        assert wire.asked == ["settimeout"]
        wire.setblocking(True)
        assert wire.gettimeout() is None


@pytest.mark.parametrize(
    ("left", "failed", "kept"), [(0, False, True), (0, True, False), (5, False, False), (None, False, False)]
)
def test_a_connection_is_kept_when_its_request_has_been_read(left: int | None, failed: bool, kept: bool) -> None:
    worker: Any = gunicorn_config.Worker.__new__(gunicorn_config.Worker)
    body = SimpleNamespace(reader=SimpleNamespace(length=left), failed=failed)
    never_ends = SimpleNamespace(mesg=SimpleNamespace(body=body), finish_body=lambda deadline: False)
    assert worker._keepalive_after(SimpleNamespace(parser=never_ends), True) is kept
