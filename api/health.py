"""Whether this process lives, and whether the service can do its work."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify

from ledger import db, queries, schema, xa
from settings import settings
from tasks import results

blueprint = Blueprint("health", __name__)

_PROBE_SECONDS = 1.0
_AMQP_HELLO = b"AMQP\x00\x00\x09\x01"


@blueprint.get("/livez")
@blueprint.get("/healthz")
def livez() -> Response:
    """This process answers."""
    return _uncached(jsonify({"status": "pass"}))


@blueprint.get("/readyz")
def readyz() -> Response:
    """Tasks can be accepted (the ledger is there and up to date); what else is missing is a warning."""
    checks = {
        "ledger": _check(_ledger, needed=True),
        "databases": _check(_databases, needed=False),
        "broker": _check(_broker, needed=False),
        "redis": _check(_redis, needed=False),
    }
    found = {check["status"] for check in checks.values()}
    status = "fail" if "fail" in found else "warn" if "warn" in found else "pass"
    response = jsonify({"status": status, "checks": checks})
    response.status_code = 503 if status == "fail" else 200
    if status == "fail":
        response.headers["Retry-After"] = "1"
    return _uncached(response)


def _check(probe: Callable[[], str | None], *, needed: bool) -> dict[str, Any]:
    began = time.monotonic()
    try:
        fault = probe()
    except (db.Unavailable, OSError) as error:
        fault = f"does not answer ({type(error).__name__})"
    except xa.MissingPrivilege as error:
        fault = str(error)
    found: dict[str, Any] = {"status": "pass", "ms": round(1000 * (time.monotonic() - began), 1)}
    if fault:
        found |= {"status": "fail" if needed else "warn", "detail": fault}
    return found


_is_migrated = False


def _ledger() -> str | None:
    global _is_migrated
    queries.state("none")
    if not _is_migrated:
        behind = schema.pending()
        if behind:
            return f"run `python -m ledger migrate`: {', '.join(behind)} behind"
        _is_migrated = True
    return None


def _databases() -> str | None:
    """Every business database lets us see the branches that may have to be settled."""
    for name in db.data_names():
        xa.recover(name)
    return None


def _broker() -> str | None:
    """Ask RabbitMQ for its first frame; that it takes the password is for the relay to find out."""
    url = urlsplit(settings().broker_url.get_secret_value())
    if url.scheme == "amqps":
        return None
    with socket.create_connection((url.hostname or "localhost", url.port or 5672), timeout=_PROBE_SECONDS) as peer:
        peer.settimeout(_PROBE_SECONDS)
        peer.sendall(_AMQP_HELLO)
        return None if peer.recv(1) else "closed the connection"


def _redis() -> str | None:
    return None if results.ping() else "does not answer; results come from the ledger"


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
