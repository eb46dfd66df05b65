"""A webhook's receiver on this machine, which answers as a test wants it to and keeps what it got."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks import WebhookVerificationError as WebhookVerificationError  # noqa: PLC0414  beside its receiver


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """What it says, once the standard's own library is content with it."""
        read: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return read


#: What the receiver does with a request instead of answering it.
Act = Callable[[BaseHTTPRequestHandler], None]
Reply = int | Act


@dataclass
class Receiver:
    port: int
    got: list[Got] = field(default_factory=list)
    #: Replies to the first requests; after them come those of `usual`.
    replies: list[Reply] = field(default_factory=list)
    usual: Reply = 204
    #: Those that TLS asked for.
    names: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [each.message_id for each in self.got]


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            names = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                receiver.got.append(Got(self.path, names, body))
                reply = receiver.replies.pop(0) if receiver.replies else receiver.usual
            with suppress(OSError):
                reply(self) if callable(reply) else answer(reply)(self)

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *arguments: object) -> None:
            """A client that does not trust us, or has had enough."""

    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answer(status: int, **headers: str) -> Act:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return act


def hang(receiver: Receiver) -> Act:
    """Say nothing until the test is over."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        receiver.over.wait(60)

    return act


def drip(receiver: Receiver) -> Act:
    """Send a header that never ends, a byte at a time."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not receiver.over.wait(0.05):
            handler.wfile.write(b"x")

    return act


def pour(handler: BaseHTTPRequestHandler) -> None:
    """Send a body without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        handler.wfile.write(b"x" * 65_536)


def headers_without_end(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-More: x\r\n" * 1_000)


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Hang up without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)
