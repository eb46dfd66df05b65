"""A web server that answers what a test wrote down, one request after the other, and keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: str = "{}"
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


#: The line is cut instead of an answer.
CUT = None


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Scripted:
    def __init__(self, answers: list[Answer | None]) -> None:
        self.asked: list[Asked] = []
        self._answers = answers
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.asked.append(Asked(self.command, self.path, dict(self.headers), body))
                answer = script._answers.pop(0)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                sent = answer.body.encode()
                headers = {"Content-Type": answer.kind, "Content-Length": str(len(sent)), **answer.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                """Not on the screen."""

        return Handler


@contextmanager
def scripted(*answers: Answer | None) -> Iterator[Scripted]:
    script = Scripted(list(answers))
    with script.serving():
        yield script
