"""Traces from a request to the attempts at its task, by OpenTelemetry, which is loaded only where somebody wants them.

    request ── a span ── its place in the trace goes into the task's row ── claim ── the attempt's span, linked to it

Linked, and not its child: an attempt may begin days after the request has ended, and there may be many. The place lies
in the row and not in the ticket, because whoever sends a ticket again knows the row only.

No span has a parameter, a result or the message of an error: those are in the ledger, for who may see the task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ledger.states import State
from ledger.transitions import Claim
from settings import settings

log = logging.getLogger(__name__)

#: Seconds between two exports, and for which who leaves waits for the last one.
EXPORT_SECONDS = 1.0
#: Who is asked again and again, and has nothing to do with tasks.
UNTOLD = "livez,healthz,readyz,metrics"

#: OpenTelemetry's provider of this process; None where nobody wants traces.
_provider: Any = None


def begin(service: str) -> None:
    """In each process, after its fork. What is missing for it must not keep the process from its work."""
    global _provider
    if not settings().otlp_endpoint:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.error("no traces: pip install -r requirements-otel.txt (%s)", error, extra={"action": "no_traces"})
        return
    exporter = OTLPSpanExporter(f"{settings().otlp_endpoint.rstrip('/')}/v1/traces", headers=settings().otlp_header_map)
    _provider = TracerProvider(resource=Resource.create({"service.name": service}))
    _provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_SECONDS * 1000))


def flush() -> None:
    """Before a process leaves that nobody lets tidy up."""
    if _provider is not None:
        _provider.force_flush(round(EXPORT_SECONDS * 1000))


def watch(app: Any) -> None:
    """A span for each request; one that comes with a `traceparent` goes on with its caller's trace."""
    if _provider is not None:
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        instrumentor: Any = FlaskInstrumentor()
        instrumentor.instrument_app(app, tracer_provider=_provider, excluded_urls=UNTOLD)


def place() -> str | None:
    """Where in a trace we are now, in the words of W3C's `traceparent`."""
    if _provider is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    told: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(told)
    return told.get("traceparent")


@contextmanager
def attempt(claim: Claim) -> Iterator[Callable[[str | None], None]]:
    """A span for an attempt; gives a function to call with the state that it left its task in."""
    if _provider is None:
        yield lambda state: None
        return
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    submitted = trace.get_current_span(
        TraceContextTextMapPropagator().extract({"traceparent": claim.trace or ""}, context=Context())
    ).get_span_context()
    attributes = {
        "sluice.task_id": claim.task_id,
        "sluice.attempt": claim.attempt,
        "sluice.queue": claim.queue,
        "sluice.task_type": claim.task_type,
    }
    with _provider.get_tracer("sluice").start_as_current_span(
        claim.task_type,
        context=Context(),
        kind=trace.SpanKind.CONSUMER,
        links=[trace.Link(submitted)] if submitted.is_valid else [],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:

        def ended(state: str | None) -> None:
            span.set_attribute("sluice.state", state or "unknown")
            if state in (State.FAILED, State.RETRYING):
                span.set_status(trace.StatusCode.ERROR)

        yield ended
