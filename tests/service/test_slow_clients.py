"""Clients that send slowly, or nothing at all, keep nobody else from being served, and are sent away in time."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest
import requests

from api import gunicorn_config, waiting
from tests import doors, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

CLIENTS = 200
#: Seconds in which others want their answers, on a busy machine.
ANSWER_SECONDS = 5
KEY = f"X-API-Key: {doors.MASTER.words}\r\n"
HEAD = "POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SLOW = {
    "nothing": "",
    "half a line": "GET /api/tas",
    "half a head": HEAD + KEY,
    "half a body": HEAD + KEY + "Content-Length: 500\r\n\r\n{",
    "half a body without a key": HEAD + "Content-Length: 500\r\n\r\n{",
    "half a body in chunks": HEAD + KEY + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "half a request after a whole one": "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /liv",
    "half a big body without a key": HEAD + "Content-Length: 200000\r\n\r\n{",
}


@contextmanager
def connected(url: str, words: str, number: int) -> Iterator[list[socket.socket]]:
    """So many clients that have said this much, and say no more."""
    place = urlsplit(url)
    with ExitStack() as clients:
        found = [
            clients.enter_context(socket.create_connection((place.hostname, place.port), timeout=30))
            for _ in range(number)
        ]
        for client in found:
            client.sendall(words.encode())
        yield found


@pytest.mark.parametrize("words", SLOW.values(), ids=SLOW)
def test_slow_clients_keep_nobody_waiting(words: str, gunicorn: tuple[subprocess.Popen[bytes], str]) -> None:
    _, url = gunicorn
    assert CLIENTS > waiting.THREADS
    with connected(url, words, CLIENTS):
        for _ in range(5):
            began = time.monotonic()
            answer = requests.post(
                f"{url}/api/tasks",
                json={"task_type": "data_processing", "parameters": {"data": "x"}, "delay": 60},
                headers={"X-API-Key": doors.MASTER.words},
                timeout=ANSWER_SECONDS,
            )
            assert answer.status_code == 202
            assert time.monotonic() - began < ANSWER_SECONDS


def test_a_slow_client_is_sent_away_in_time(gunicorn: tuple[subprocess.Popen[bytes], str]) -> None:
    with connected(gunicorn[1], SLOW["half a head"], 1) as [client]:
        client.settimeout(gunicorn_config.REQUEST_SECONDS + 15)
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_a_request_in_small_pieces_is_answered(gunicorn: tuple[subprocess.Popen[bytes], str]) -> None:
    body = '{"task_type": "data_processing", "parameters": {"data": "x"}, "delay": 60}'
    request = f"{HEAD}{KEY}Content-Length: {len(body)}\r\n\r\n{body}"
    with connected(gunicorn[1], "", 1) as [client]:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):  # the second on the same connection
            for start in range(0, len(request), 7):
                client.sendall(request[start : start + 7].encode())
                time.sleep(0)
            answer = HTTPResponse(client)
            answer.begin()
            assert answer.status == 202
            assert "task_id" in answer.read().decode()


def test_more_quick_clients_than_threads_are_all_served(gunicorn: tuple[subprocess.Popen[bytes], str]) -> None:
    _, url = gunicorn

    def ask_again_and_again(number: int) -> float:
        """The longest that one answer took."""
        longest = 0.0
        with requests.Session() as session:
            for _ in range(20):
                answer = session.get(f"{url}/livez", timeout=ANSWER_SECONDS)
                assert answer.status_code == 200
                longest = max(longest, answer.elapsed.total_seconds())
        return longest

    with ThreadPoolExecutor(3 * waiting.THREADS) as clients:
        assert max(clients.map(ask_again_and_again, range(3 * waiting.THREADS))) < ANSWER_SECONDS


CHUNKED = "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"


@pytest.mark.parametrize(
    "words",
    [CHUNKED + "\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", CHUNKED + "X-Trailer: 1\r\n\r\n"],
    ids=["another request", "a trailer"],
)
@pytest.mark.parametrize("before", ["", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "later"])
def test_a_body_in_chunks_is_whole_whatever_follows_it(
    before: str, words: str, gunicorn: tuple[subprocess.Popen[bytes], str]
) -> None:
    with connected(gunicorn[1], before + HEAD + KEY + words, 1) as [client]:
        client.settimeout(ANSWER_SECONDS)
        heard = bytearray()

        def is_refused() -> bool:
            heard.extend(client.recv(4096))
            return b"HTTP/1.1 400 " in heard

        eventually(is_refused)


def test_requests_sent_together_are_all_answered(gunicorn: tuple[subprocess.Popen[bytes], str]) -> None:
    with connected(gunicorn[1], "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5, 1) as [client]:
        heard = bytearray()

        def all_of_them() -> bool:
            heard.extend(client.recv(4096))
            return heard.count(b"HTTP/1.1 200 ") == 5

        eventually(all_of_them)
