"""Traces: from the request to each attempt, sent to a receiver; and nothing at all where nobody wants them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tasks import tracing
from tests import life, task_types  # noqa: F401  registers the types
from tests.doors import MASTER, door_for

#: A caller's own trace.
TRACE = "0af7651916cd43dd8448eb211c80319c"
QUICK = {"task_type": "test_quick"}


class Spans(list[Any]):
    """What a receiver of OTLP got."""

    url = ""

    def named(self, name: str) -> Any:
        tracing.flush()
        [found] = [span for span in self if span.name == name]
        return found


@pytest.fixture
def spans(configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Where traces go for this test."""
    with receiving() as got:
        configured(OTEL_EXPORTER_OTLP_ENDPOINT=got.url, OTEL_EXPORTER_OTLP_HEADERS="x-token=word")
        monkeypatch.setattr(tracing, "_provider", None)
        yield got
        tracing._provider.shutdown()


@contextmanager
def receiving() -> Iterator[Spans]:
    got = Spans()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert (self.path, self.headers["x-token"]) == ("/v1/traces", "word")
            told = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            got.extend(
                span for each in told.resource_spans for scope in each.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        got.url = f"http://127.0.0.1:{server.server_address[1]}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield got
        server.shutdown()


def told(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_an_attempt_is_linked_to_the_request_that_submitted_it(spans: Spans) -> None:
    door = door_for()
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    task_id = door.post("/api/tasks", json=QUICK, headers=headers).get_json()["task_id"]
    life.work(task_id)
    request, attempt = spans.named("POST /api/tasks"), spans.named("test_quick")
    assert request.trace_id.hex() == TRACE
    assert [(link.trace_id, link.span_id) for link in attempt.links] == [(request.trace_id, request.span_id)]
    assert attempt.trace_id != request.trace_id
    assert (told(attempt)["sluice.task_id"], told(attempt)["sluice.attempt"]) == (task_id, 1)
    assert told(attempt)["sluice.state"] == "succeeded"


def test_each_attempt_has_a_span_and_a_failed_one_says_so(spans: Spans) -> None:
    task_id = door_for().post("/api/tasks", json={"task_type": "test_failing"}).get_json()["task_id"]
    life.work(task_id)
    life.release(task_id)
    life.work(task_id, 2)
    tracing.flush()
    attempts = [span for span in spans if span.name == "test_failing"]
    assert [(told(span)["sluice.attempt"], told(span)["sluice.state"]) for span in attempts] == [
        (1, "retrying"),
        (2, "retrying"),
    ]
    assert all(span.status.code == span.status.STATUS_CODE_ERROR and span.links for span in attempts)


def test_no_span_has_a_key_or_a_parameter(spans: Spans) -> None:
    body = {"task_type": "data_processing", "parameters": {"data": "canary words", "operation": "canary"}}
    door = door_for()
    door.post("/api/tasks", json=body)
    body["parameters"] = {"data": "canary words"}
    life.work(door.post("/api/tasks", json=body).get_json()["task_id"])
    spans.named("data_processing")
    text = "".join(map(str, spans))
    assert "POST /api/tasks" in text
    assert "canary" not in text
    assert MASTER.words not in text


def test_a_receiver_that_is_away_delays_nobody(
    configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    monkeypatch.setattr(tracing, "_provider", None)
    task_id = door_for().post("/api/tasks", json=QUICK).get_json()["task_id"]
    life.work(task_id)
    assert life.state(task_id) == "succeeded"


def test_nothing_of_it_is_loaded_where_nobody_wants_traces(servers: object) -> None:
    """What redis loads by itself, where it finds it, is not ours."""
    code = (
        "import sys; from api import create_app; create_app(); from workers import data; from tasks import tracing;"
        "tracing.begin('x'); ours = ('opentelemetry.exporter', 'opentelemetry.instrumentation');"
        "sys.exit(tracing._provider is not None or any(name.startswith(ours) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert tracing.place() is None


def test_without_the_packages_it_works_and_says_what_is_missing(
    configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configured(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    monkeypatch.setattr(tracing, "_provider", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    assert door_for().post("/api/tasks", json=QUICK).status_code == 202
    assert "requirements-otel.txt" in caplog.text
