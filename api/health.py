"""Whether this process lives, and whether the service can do its work."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import SplitResult, urlsplit

from flask import Blueprint, Response, jsonify
from sqlalchemy.exc import DBAPIError

from api import answers, auth
from api.described import describe
from ledger import db, fitness, leadership, queries, schema, xa
from ledger.callers import EVERYBODY
from ledger.grants import Role
from settings import settings
from tasks import results

blueprint = Blueprint("health", __name__)

_PROBE_SECONDS = 1.0
#: Seconds after which an answer is given, with what is known by then: some servers answer slowly, one after the other.
_ANSWER_SECONDS = 1.5
#: Where the looks happen, side by side. Each ends by a deadline of its own, whether somebody still waits for it or not.
_probes = ThreadPoolExecutor(8, "probe")
_AMQP_HELLO = b"AMQP\x00\x00\x09\x01"


@blueprint.get("/livez")
@blueprint.get("/healthz")
@describe({200: answers.Alive}, needs_ledger=False)
@auth.public
def livez() -> Response:
    """This process answers."""
    return _uncached(jsonify({"status": "pass"}))


@blueprint.get("/readyz")
@describe({200: answers.Ready, 503: answers.Ready}, needs_ledger=False)
@auth.public
def readyz() -> Response:
    """Tasks can be accepted (the ledger is there and up to date); what else is missing is a warning."""
    asked = {name: _probes.submit(_check, probe) for name, probe in _PROBES.items()}
    wait(asked.values(), timeout=_ANSWER_SECONDS)
    checks = {name: _found(name, answer) for name, answer in asked.items()}
    found = {check["status"] for check in checks.values()}
    status = "fail" if "fail" in found else "warn" if "warn" in found else "pass"
    response = jsonify({"status": status, "checks": checks})
    response.status_code = 503 if status == "fail" else 200
    if status == "fail":
        response.headers["Retry-After"] = "1"
    return _uncached(response)


def _check(probe: Callable[[], str | None]) -> tuple[str | None, float]:
    """What is wrong, and the milliseconds until that was known."""
    began = time.monotonic()
    try:
        fault = probe()
    except (db.Unavailable, OSError) as error:
        fault = f"does not answer ({type(error).__name__})"
    except DBAPIError as error:
        fault = f"refuses ({db.error_code(error)})"
    return fault, round(1000 * (time.monotonic() - began), 1)


def _found(name: str, answer: Future[tuple[str | None, float]]) -> dict[str, Any]:
    late = f"does not answer within {_ANSWER_SECONDS:g} s", 1000 * _ANSWER_SECONDS
    fault, milliseconds = answer.result() if answer.done() else late
    status = "pass" if fault is None else "fail" if name in _NEEDED else "warn"
    return {"status": status, "ms": milliseconds} | ({"detail": fault} if fault else {})


#: The databases that were looked at and found fit; that they are there is asked each time.
_fit: set[str] = set()


def _ledger() -> str | None:
    faults = _faults(schema.LEDGER)
    if not faults:
        queries.state("none", caller=EVERYBODY)
    return "; ".join(faults) or None


def _databases() -> str | None:
    """What is wrong with business databases, with all of them."""
    wrong = (f"{name}: {fault}" for name in db.data_names() for fault in _faults_of_business(name))
    return "; ".join(wrong) or None


def _faults_of_business(name: str) -> tuple[str, ...]:
    try:
        return _faults(f"{schema.BUSINESS}{name}") or _faults_of_branches(name)
    except db.Unavailable as error:
        return (str(error),)
    except DBAPIError as error:
        return (f"refuses ({db.error_code(error)})",)


def _faults_of_branches(name: str) -> tuple[str, ...]:
    """Privileges come and go."""
    try:
        xa.recover(name)
    except xa.MissingPrivilege as error:
        return (str(error),)
    return ()


def _faults(name: str) -> tuple[str, ...]:
    if name in _fit:
        return ()
    found = fitness.look(name, Role.API).faults
    if not found:
        _fit.add(name)
    return found


def _broker() -> str | None:
    """Ask each node of RabbitMQ for its first frame; that it takes the password is for the relay to find out."""
    faults = ((url, _fault_of_node(url)) for url in map(urlsplit, settings().broker_urls))
    return "; ".join(f"{url.hostname}:{url.port or 5672} {fault}" for url, fault in faults if fault) or None


def _fault_of_node(url: SplitResult) -> str | None:
    if url.scheme == "amqps":
        return None
    try:
        with socket.create_connection((url.hostname or "localhost", url.port or 5672), timeout=_PROBE_SECONDS) as peer:
            peer.settimeout(_PROBE_SECONDS)
            peer.sendall(_AMQP_HELLO)
            return None if peer.recv(1) else "closed the connection"
    except OSError as error:
        return f"does not answer ({type(error).__name__})"


def _redis() -> str | None:
    return None if results.ping() else "does not answer; results come from the ledger"


def _monitor() -> str | None:
    """Whether somebody sees to what is due, lost or in doubt. A lease that has just run out is not told at once: the
    next monitor takes over within moments."""
    leader = leadership.leader()
    if leader is not None and leader.seconds_left > -_SUCCESSION_SECONDS:
        return None
    return "none leads: delays, retries and lost tickets wait; start one: python -m workers.monitor"


#: Seconds that a monitor has to take over.
_SUCCESSION_SECONDS = 5.0

#: What is looked at, and without which of it no task can be accepted.
_PROBES: dict[str, Callable[[], str | None]] = {
    "ledger": _ledger,
    "databases": _databases,
    "broker": _broker,
    "redis": _redis,
    "monitor": _monitor,
}
_NEEDED = frozenset({"ledger"})


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
