"""One request to a webhook, within a bound that holds whatever the other side does.

The connection is made here, to the address that was looked at, and handed to `http.client` as it stands: nothing above
it resolves a name, follows a redirect, heeds a proxy or sends a second request. TLS knows the name all the same, for
the certificate and for SNI. The answer's body is not read: its status says all.

A deadline for each read would let an endless drip of bytes go on for ever, so when the time is up the line is cut from
another thread. Resolving a name cannot be cut off; it has bounds of the system's own, and what comes too late is not
sent.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPConnection, HTTPException
from typing import Any

from tasks.webhooks import destination
from tasks.webhooks.destination import Destination

#: Seconds for all of it, from the name to the answer's last header.
TRY_SECONDS = 10.0
#: Seconds for one of several addresses to take the connection.
CONNECT_SECONDS = 3.0


_Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class NoAnswer(Exception):
    """The webhook did not answer; the message says why, in words that its owner may read."""


@dataclass(frozen=True)
class Answer:
    status: int
    #: Of its `Retry-After`, when that is a number of seconds.
    retry_after_seconds: float | None


@dataclass
class _Deadline:
    at: float
    #: Whether the line was cut because of it.
    has_cut: bool = False

    @property
    def seconds_left(self) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def post(where: Destination, headers: dict[str, str], body: bytes) -> Answer:
    """Send it. Raises NoAnswer, and Refused before anything is connected to."""
    deadline = _Deadline(time.monotonic() + TRY_SECONDS)
    try:
        addresses = _resolved(where)
        destination.checked(str(sockaddr[0]) for _, sockaddr in addresses)
        with _connected(addresses, deadline) as line, _cut_off(line, deadline):
            answer = _exchange(line, where, headers, body)
            if deadline.has_cut:  # in the middle of the headers, which then look as if they had ended
                raise TimeoutError
            return answer
    except (OSError, HTTPException) as error:
        raise NoAnswer(_why(error, deadline)) from error


def _resolved(where: Destination) -> list[_Address]:
    """The one time that the name is asked for."""
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise NoAnswer(f"the name {where.host} has no address") from None
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]


def _connected(addresses: list[_Address], deadline: _Deadline) -> socket.socket:
    """A connection to the first of the addresses that takes one."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return _connect(address, min(CONNECT_SECONDS, deadline.seconds_left))
    return _connect(addresses[-1], min(CONNECT_SECONDS, deadline.seconds_left))


def _connect(address: _Address, seconds: float) -> socket.socket:
    family, sockaddr = address
    line = socket.socket(family, socket.SOCK_STREAM)
    try:
        line.settimeout(seconds)
        line.connect(sockaddr)
    except BaseException:
        line.close()
        raise
    return line


@contextmanager
def _cut_off(line: socket.socket, deadline: _Deadline) -> Iterator[None]:
    """Cut the line when the time is up."""
    line.settimeout(deadline.seconds_left)
    # TLS takes the socket over, but this one stands for the same connection.
    with line.dup() as handle:

        def cut() -> None:
            deadline.has_cut = True
            with suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(deadline.seconds_left, cut)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _exchange(line: socket.socket, where: Destination, headers: dict[str, str], body: bytes) -> Answer:
    if where.is_secure:
        line = _tls().wrap_socket(line, server_hostname=where.host)
    with line:
        http = HTTPConnection(where.host, where.port)
        http.auto_open = 0
        http.sock = line
        http.request("POST", where.target, body, headers | {"Host": where.authority, "Connection": "close"})
        answer = http.getresponse()
        return Answer(answer.status, _seconds(answer.headers.get("Retry-After", "")))


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Checks certificates and names, by the authorities that this system trusts (SSL_CERT_FILE names others)."""
    return ssl.create_default_context()


def _seconds(word: str) -> float | None:
    word = word.strip()
    return float(word) if word.isascii() and word.isdigit() and len(word) < 10 else None


def _why(error: Exception, deadline: _Deadline) -> str:
    match error:
        case _ if deadline.has_cut or isinstance(error, TimeoutError):
            return f"no whole answer within {TRY_SECONDS:g} seconds"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason}"
        case ConnectionRefusedError():
            return "it refuses connections"
        case ConnectionError():
            return "it hung up without an answer"
        case HTTPException():
            return "its answer is no HTTP, or has too long headers"
        case _:
            return f"the connection failed: {type(error).__name__}"

