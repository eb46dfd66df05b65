"""The door: HTTP in, the ledger behind it. It never meets the workers."""

from __future__ import annotations

import re

import uuid_utils
from flask import Flask, Response, request

from api import (
    auth,
    browsers,
    dataset,
    deprecation,
    docs,
    errors,
    explain,
    failures,
    files,
    health,
    keys,
    limits,
    metrics,
    proxies,
    queues,
    quotas,
    schedules,
    streams,
    tasks,
    timing,
    ui,
    webhooks,
    workers,
)
from ledger import db
from settings import settings
from tasks import catalog, log, tracing

#: Seconds the door waits for the database before it says that it is away.
PATIENCE_SECONDS = 0.8

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def create_app() -> Flask:
    """The WSGI application. Opens no connection before the first request, so that it may be made before a fork."""
    settings()
    catalog.load()
    db.be_patient(PATIENCE_SECONDS)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings().body_bytes
    app.config["TRUSTED_HOSTS"] = list(settings().hosts) or None
    app.url_map.strict_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    tracing.begin("sluice-api")
    tracing.watch(app)
    timing.watch(app)
    app.before_request(_name_request)
    app.before_request(browsers.refuse_foreign_pages)
    app.after_request(_finish)
    app.after_request(quotas.tell)
    app.register_blueprint(errors.blueprint)
    deprecation.register(app)
    rooms = (
        *(dataset, tasks, streams, failures, explain, schedules, webhooks, queues, limits, workers, files, keys),
        *(health, metrics, docs, ui),
    )
    for room in rooms:
        app.register_blueprint(room.blueprint)
    auth.guard(app)
    app.wsgi_app = proxies.Believed(app.wsgi_app, settings().proxy_networks)  # type: ignore[assignment]
    return app


def _name_request() -> None:
    """The caller's request id, if it is one, on every log line and in the answer."""
    asked = request.headers.get("X-Request-ID", "")
    log.request_id.set(asked if _REQUEST_ID.fullmatch(asked) else uuid_utils.uuid4().hex)


def _finish(response: Response) -> Response:
    response.headers["X-Request-ID"] = log.request_id.get() or ""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
