"""Who may come in: every request shows a key, and the key must have the scope that its route asks for.

A route says beside its definition what it needs, or that anybody may call it:

    @blueprint.post("")
    @auth.needs(Scope.WRITE)
    def create() -> Response: ...

`create_app` refuses to start with a route that says neither, so that none is open by oversight.

A key is looked up in the ledger and remembered for TRUST_SECONDS, which bounds how long a revoked one still opens. No
request waits for more than that one read, and none writes for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from flask import Flask, g, request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from api import quotas
from ledger import keys
from ledger.callers import Caller, Scope
from ledger.keys import Key, Secret

logger = logging.getLogger(__name__)

#: Seconds for which what the ledger said of a key is believed.
TRUST_SECONDS = 3.0
#: Keys that one process remembers.
MOST_REMEMBERED = 10_000
#: Wrong keys that one address may show in a minute; after that only keys that were good here before are looked at.
MOST_FAILURES = 30

HOW_TO_MAKE_ONE = "`python -m ledger keys create --owner NAME`, or `./sluice keys create --owner NAME` beside `make up`"

View = TypeVar("View", bound=Callable[..., object])


class Unauthorized(Exception):
    """The request shows no key, or none that opens anything; the message says which."""


class MissingScope(Exception):
    """The key is good, but not for this."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        super().__init__(f"this key lacks the scope {scope.value!r}")


class TooManyFailures(Exception):
    """This address has shown too many wrong keys."""


class UnguardedRoute(Exception):
    """A route says neither which scope it needs nor that it is public."""


def needs(scope: Scope) -> Callable[[View], View]:
    """Marks a view as one for keys with that scope."""

    def mark(view: View) -> View:
        vars(view)["scope"] = scope
        return view

    return mark


def public(view: View) -> View:
    """Marks a view as one for everybody."""
    vars(view)["scope"] = None
    return view


def scope_of(view: Callable[..., object]) -> Scope | None:
    """What a view was marked with; None for a public one."""
    if "scope" not in vars(view):
        raise UnguardedRoute(f"{view}: mark it with auth.needs(...) or auth.public")
    scope: Scope | None = vars(view)["scope"]
    return scope


def guard(app: Flask) -> None:
    """To be called once all routes are there."""
    for view in app.view_functions.values():
        scope_of(view)
    app.before_request(lambda: _admit(app))


def lasting() -> Callable[[], bool]:
    """For an answer that goes on for long: a function that tells whether the key it was asked with still opens."""
    secret = keys.parse(_shown())

    def opens() -> bool:
        key = _known(secret) if secret else None
        return secret is not None and key is not None and key.opens_for(secret)

    return opens


def still_opens() -> bool:
    """After a wait: whether the key that the request came with opens still."""
    return lasting()()


def insist() -> None:
    """After a long wait: the key that the request came with must open still."""
    g.caller = _authenticated()


def caller() -> Caller:
    """On whose behalf this request acts."""
    found: Caller = g.caller
    return found


def also_needs(scope: Scope) -> None:
    """For a route that needs one more scope for some of what it does."""
    if not caller().may(scope):
        raise MissingScope(scope)


def _admit(app: Flask) -> None:
    if request.endpoint is None:
        return  # there is no such route, which everybody may know
    scope = scope_of(app.view_functions[request.endpoint])
    if scope is None:
        return
    g.caller = _authenticated()
    if not g.caller.may(scope):
        raise MissingScope(scope)
    quotas.spend(g.caller)


def _authenticated() -> Caller:
    secret = keys.parse(_shown())
    key = _look_up(secret) if secret else None
    if secret is None or key is None or not key.is_of(secret):
        raise _failure("this is no key that opens anything here")
    if key.is_revoked:
        raise _failure("this key was revoked")
    if key.is_expired:
        raise _failure("this key has expired")
    _remembered[secret.key_id].was_good = True
    return key.caller


def _shown() -> str:
    """The key in `X-API-Key` or `Authorization: Bearer`; never one in the URL, which everything on its way logs."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    shown = request.headers.get("X-API-Key") or (bearer.strip() if scheme.lower() == "bearer" else "")
    if not shown:
        words = "show an API key in the header X-API-Key, or as Authorization: Bearer <key>"
        raise Unauthorized(words if _keys_are_there() else f"there is no API key yet; make one: {HOW_TO_MAKE_ONE}")
    return shown


def _keys_are_there() -> bool:
    """Asked until it is so: who shows no key costs no read of the ledger."""
    global _some_key_exists
    _some_key_exists = _some_key_exists or keys.are_there()
    return _some_key_exists


_some_key_exists = False


# --- what was looked up ---------------------------------------------------------------------------------------------


@dataclass
class _Memory:
    key: Key | None
    since: float
    was_good: bool = False

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.since < TRUST_SECONDS


_remembered: dict[str, _Memory] = {}


def _look_up(secret: Secret) -> Key | None:
    memory = _remembered.get(secret.key_id)
    if not (memory and (memory.is_fresh or memory.was_good)):
        _refuse_who_failed_often()
    return _known(secret)


def _known(secret: Secret) -> Key | None:
    """What the ledger says of a key, or said a moment ago."""
    memory = _remembered.get(secret.key_id)
    if memory is not None and memory.is_fresh:
        return memory.key
    since = time.monotonic()
    key = keys.find(secret.key_id)
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    _remembered[secret.key_id] = _Memory(key, since, was_good=bool(memory and memory.was_good and key))
    return key


def forget() -> None:
    """Look every key up again, and forgive every failure."""
    global _failures, _some_key_exists
    _remembered.clear()
    _some_key_exists = False
    _failures = FixedWindowRateLimiter(MemoryStorage())


# --- who failed too often -------------------------------------------------------------------------------------------

_failures = FixedWindowRateLimiter(MemoryStorage())
_PER_ADDRESS = RateLimitItemPerMinute(MOST_FAILURES)


def _failure(words: str) -> Exception:
    if not _failures.hit(_PER_ADDRESS, request.remote_addr or ""):
        return TooManyFailures(TooManyFailures.__doc__)
    logger.info("refused: %s", words, extra={"action": "key_refused"})
    return Unauthorized(words)


def _refuse_who_failed_often() -> None:
    if not _failures.test(_PER_ADDRESS, request.remote_addr or ""):
        raise TooManyFailures(TooManyFailures.__doc__)
