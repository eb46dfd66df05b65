"""How gunicorn serves the door: `gunicorn --config file:api/gunicorn_config.py 'api:create_app()'`.

As a file and not as a module, and without imports of ours at the top: what gunicorn's master has loaded, its workers
inherit, and a SIGHUP, which starts new workers while the old ones finish, would not take up new code.

A thread takes a request when it is there, and not before. gunicorn's own worker gives each new client a thread that
waits for its first bytes, and for the rest of them: two hundred clients that say half a word keep everybody out.

And as long as nobody else wants it, a thread stays with its client for a moment. The way of a connection back to the
poller, and of its next request to a thread, goes through two other threads and wakes each of them. The system is asked
as seldom as can be: each time other threads run, and Python's lock is waited for again (decision 19).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from selectors import EVENT_READ
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn, ThreadWorker

#: Seconds that a client has for the head of a request and a short body.
REQUEST_SECONDS = 10.0
#: Head and body up to here come whole before a thread takes them. Whoever sends more has shown his key by then.
SHORT_BYTES = 32_768
#: Seconds for the rest of a body that nobody has read.
LEFTOVER_SECONDS = 0.1
#: Seconds for which a thread waits for the next request of its client.
STAY_SECONDS = 0.02
#: Connections with a request in hand, of as many as there are threads, from which on no thread stays.
CROWDED = 0.75
#: The same seconds as the system takes them, and what stands for no bound.
_STAY, _UNBOUND = (struct.pack("ll", 0, round(seconds * 1e6)) for seconds in (STAY_SECONDS, 0))

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
#: The last chunk: after it come trailers, an empty line, and perhaps the next request.
_LAST_CHUNK = re.compile(rb"(?:\A|\r\n)0+[ \t]*(?:;[^\r\n]*)?\r\n")
#: Whoever asks for leave to send his body waits for an answer.
_EXPECTS = re.compile(rb"\r\nexpect:", re.IGNORECASE)


def is_whole(seen: bytes) -> bool:
    """Whether a thread can take the request that begins so, without waiting for its client."""
    head, end, body = seen.partition(b"\r\n\r\n")
    if len(seen) >= SHORT_BYTES or not end:
        return len(seen) >= SHORT_BYTES
    head += b"\r\n"
    if _EXPECTS.search(head):
        return True
    if _CHUNKED.search(head):
        last = _LAST_CHUNK.search(body)
        return last is not None and body.find(b"\r\n\r\n", last.end() - 2) >= 0
    length = _LENGTH.search(head)
    return length is None or len(body) >= int(length[1]) or len(head) + int(length[1]) > SHORT_BYTES


#: The head of an answer whose body is there already. A stream's head goes at once.
_HELD = re.compile(rb"HTTP/1\..*\r\nContent-Length: .*\r\n\r\n", re.DOTALL)


class Wire(socket.socket):
    """A client's end, of which gunicorn asks more than is needed."""

    head = b""

    def sendall(self, data: Any, *flags: int) -> None:
        """The head of an answer with a length goes with what is sent next."""
        if not self.head and _HELD.fullmatch(data):
            self.head = data
        else:
            data, self.head = self.head + data, b""
            super().sendall(data, *flags)

    def flush(self) -> None:
        """Send a head to which nothing came."""
        if self.head:
            self.sendall(b"")

    def shutdown(self, how: int) -> None:
        with suppress(OSError):
            self.flush()
        super().shutdown(how)

    def sendfile(self, *what: Any, **of: Any) -> int:
        self.flush()
        return super().sendfile(*what, **of)

    def setblocking(self, flag: bool) -> None:
        if self.gettimeout() != (None if flag else 0):
            super().setblocking(flag)

    def settimeout(self, value: float | None) -> None:
        if value != self.gettimeout():
            super().settimeout(value)


class Client(TConn):  # type: ignore[misc]
    """A connection, with what has been seen of its next request."""

    seen_bytes = 0

    def has_whole_request(self) -> bool:
        """Looked at and not taken. Until there is more to see, the poller does not tell of it again."""
        begun = b"" if self.parser is None else self.parser.unreader.buf.getvalue()
        try:
            seen = self.sock.recv(SHORT_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return is_whole(begun)
        except OSError:
            return True  # gone, as the thread will find
        has_ended = len(seen) == self.seen_bytes
        whole = has_ended or is_whole(begun + seen)
        self.seen_bytes = 0 if whole else len(seen)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self.seen_bytes + 1)
        return whole

    def comes_again(self) -> bool:
        """Whether the next request is there within a moment. What there is of it is given to the parser."""
        heard = self.parser.unreader.buf
        if not heard.getvalue():
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _STAY)
            try:
                heard.write(self.sock.recv(SHORT_BYTES))
            except BlockingIOError:
                return False
            except OSError:
                return True  # gone, as the thread will find
            finally:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _UNBOUND)
        return is_whole(heard.getvalue())

    def close(self, graceful: bool = False) -> None:
        """gunicorn's waits up to two seconds for the client, and all others with it."""
        if graceful:
            threading.Thread(target=super().close, args=(True,), daemon=True).start()
        else:
            super().close()


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker with threads, where a client that is slow costs a place in the poller and no thread."""

    def accept(self, listener: Any) -> None:
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        wire = Wire(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.enqueue_req(Client(self.cfg, wire, address, listener.getsockname()))

    def enqueue_req(self, conn: Client) -> None:
        if conn.has_whole_request():
            super().enqueue_req(conn)
            return
        conn.timeout = time.monotonic() + REQUEST_SECONDS
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: Client, client: Any) -> None:
        if conn.has_whole_request():
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            conn.data_ready = True
            super().enqueue_req(conn)

    def handle(self, conn: Client) -> Any:
        kept = super().handle(conn)
        while kept is True and self.alive and not self.is_crowded and conn.comes_again():
            kept = super().handle(conn)
        return kept

    def handle_request(self, req: Any, conn: Client) -> Any:
        kept = super().handle_request(req, conn)
        conn.sock.flush()
        return kept

    @property
    def is_crowded(self) -> bool:
        """Whether others may soon want a thread."""
        in_hand = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
        return bool(in_hand > CROWDED * self.cfg.threads)

    def _keepalive_after(self, conn: Client, keepalive: bool) -> bool:
        """Whether the connection can be used again. gunicorn waits five seconds for a body that nobody reads, such as
        that of a request which was refused."""
        body = conn.parser.mesg.body
        if getattr(body.reader, "length", None) == 0 and not body.failed:
            return bool(keepalive)
        return bool(keepalive and conn.parser.finish_body(deadline=time.monotonic() + LEFTOVER_SECONDS))


class Quiet(Logger):  # type: ignore[misc]
    """No line for each request: `api.timing` counts them, and `tasks.log` tells what they did. gunicorn's would put one
    together and throw it away, which is a twentieth of what a post costs."""

    access_log_enabled = False


worker_class = Worker
logger_class = Quiet
workers = 2
#: `api.waiting` shares them out.
threads = 32
timeout = 60
graceful_timeout = 30
keepalive = 5
# It would be made in the home folder, which a service may not have.
control_socket_disable = True


class Line(logging.Formatter):
    """What gunicorn itself says, in the form of `tasks.log`, which its master is not to load."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


logconfig_dict = {
    "formatters": {"generic": {"()": Line}},
    # gunicorn's own way leads each line to two places.
    "root": {"level": "WARNING", "handlers": ["error_console"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "propagate": True}},
}

# Where the processes count their requests, each into a file (`api.timing`). In memory where there is such a folder: it
# is written with every request, and worth nothing to the next master.
_MEMORY = Path("/dev/shm")
_COUNTS = f"sluice-counts-{socket.gethostname()}-"
_folder = (_MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())) / f"{_COUNTS}{os.getpid()}"
raw_env = [f"PROMETHEUS_MULTIPROC_DIR={_folder}"]


def on_starting(server: Any) -> None:
    """Also does away with what masters left that were killed."""
    for left in _folder.parent.glob(f"{_COUNTS}*"):
        pid = left.name.removeprefix(_COUNTS)
        if left == _folder or (pid.isdecimal() and not Path("/proc", pid).exists()):
            shutil.rmtree(left, ignore_errors=True)
    _folder.mkdir(mode=0o700)


def on_exit(server: Any) -> None:
    shutil.rmtree(_folder, ignore_errors=True)


def post_worker_init(worker: Any) -> None:
    from api import waiting
    from tasks import log

    log.setup()
    waiting.remember(worker.wsgi, worker)
