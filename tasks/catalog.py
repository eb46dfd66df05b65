"""The registry of task types. A type is one decorated function with its parameter model beside it.

    @task_type("email_sending", worker="email", parameters=EmailParameters)
    def send(attempt: Attempt, parameters: EmailParameters) -> dict[str, Any]: ...

Types come from `tasks.types` and from the modules that SLUICE_TASK_MODULES names.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

import celery_config
from ledger.callers import Caller, Scope
from settings import settings
from tasks import retry, types
from tasks.attempt import Attempt
from tasks.retry import IfUncertain

P = TypeVar("P", bound=BaseModel)
Handler = Callable[[Attempt, Any], Any]

#: Bounds of a task's own time limit, in seconds.
LONGEST_TIMEOUT_SECONDS = 86_400


class UnknownTaskType(Exception):
    """No such task type; `suggestion` is the closest one that exists."""

    def __init__(self, name: str, suggestion: str | None, known: tuple[str, ...]) -> None:
        self.name, self.suggestion, self.known = name, suggestion, known
        hint = f", did you mean {suggestion!r}?" if suggestion else f"; known are {', '.join(known)}"
        super().__init__(f"unknown task_type {name!r}{hint}")


def _none(parameters: Any) -> int:
    return 0


class NotForYou(Exception):
    """The caller may submit tasks, but none of this type: that wants another scope."""

    def __init__(self, task_type: str, scope: Scope) -> None:
        self.scope = scope
        super().__init__(f"a task of type {task_type!r} wants the scope {scope.value!r}, which this key lacks")


@dataclass(frozen=True)
class TaskType:
    name: str
    worker: str
    parameters: type[BaseModel]
    handler: Handler
    timeout_seconds: int
    #: Writes to business databases, all or nothing, so that a stop can tell how many rows it undid.
    transactional: bool = False
    retry: retry.Policy = field(default_factory=retry.Policy)
    #: What becomes of a task whose last step may have been taken. A task's own parameter `if_uncertain` goes before it.
    if_uncertain: IfUncertain = IfUncertain.RETRY
    #: What a key needs to submit it.
    scope: Scope = Scope.WRITE
    #: How many mails a task sends, by its parameters: owners may have a quota.
    mails: Callable[[Any], int] = _none
    #: Ends within milliseconds, as a rule: a worker may do many of them as a pack (`tasks.pack`).
    short: bool = False

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or "").strip().partition("\n")[0]


_types: dict[str, TaskType] = {}


def task_type(
    name: str,
    *,
    worker: str,
    parameters: type[P],
    timeout_seconds: int = 600,
    transactional: bool = False,
    policy: retry.Policy | None = None,
    if_uncertain: IfUncertain = IfUncertain.RETRY,
    scope: Scope = Scope.WRITE,
    mails: Callable[[P], int] | None = None,
    short: bool = False,
) -> Callable[[Callable[[Attempt, P], Any]], Callable[[Attempt, P], Any]]:
    """Register the decorated function as the handler of a task type.

    Args:
        name: what clients post as `task_type`.
        worker: the kind of worker that does it: data, email or file.
        parameters: a pydantic model; clients' parameters are checked against it before the task is accepted.
        timeout_seconds: the soft limit of one attempt.
        transactional: whether it uses `attempt.database()`.
        policy: how it is retried, `retry.Policy()` by default.
        if_uncertain: what becomes of a task when nobody knows whether its last step took effect. A type whose
            parameters have a field of this name lets each task choose.
        scope: what an API key needs to submit it.
        mails: how many mails a task sends, for the quota of its owner.
        short: whether it ends within milliseconds as a rule. Where many of them wait, a child then claims and settles
            them together; one that takes longer after all costs the others of its pack a new start.
    """
    if worker not in celery_config.WORKERS:
        raise ValueError(f"{name}: no worker {worker!r}; there are {', '.join(celery_config.WORKERS)}")
    if not 1 <= timeout_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise ValueError(f"{name}: timeout_seconds must lie within 1 and {LONGEST_TIMEOUT_SECONDS}")

    def register(handler: Callable[[Attempt, P], Any]) -> Callable[[Attempt, P], Any]:
        if name in _types and _types[name].handler.__module__ != handler.__module__:
            raise ValueError(f"two task types are called {name!r}")
        _types[name] = TaskType(
            name,
            worker,
            parameters,
            handler,
            timeout_seconds,
            transactional,
            policy or retry.Policy(),
            if_uncertain,
            scope,
            mails or _none,
            short,
        )
        return handler

    return register


def load() -> None:
    """Import every module that holds task types."""
    for module in pkgutil.iter_modules(types.__path__, types.__name__ + "."):
        importlib.import_module(module.name)
    for name in settings().task_modules:
        importlib.import_module(name)


def get(name: str) -> TaskType:
    """The type of that name; raises UnknownTaskType."""
    found = _types.get(name)
    if found is None:
        close = difflib.get_close_matches(name, _types, n=1, cutoff=0.5)
        raise UnknownTaskType(name, close[0] if close else None, tuple(sorted(_types)))
    return found


def scope_of(name: str) -> Scope:
    """What a key needs for a task of that type; of one that this process does not know, everything."""
    return _types[name].scope if name in _types else Scope.ADMIN


def types_for(caller: Caller) -> list[str] | None:
    """The names of the types that a caller may submit; None for whoever may submit all, also those that are not known
    here."""
    return None if caller.sees_all else [name for name, each in _types.items() if caller.may(each.scope)]


def insist(name: str, *, caller: Caller) -> None:
    """Raise NotForYou unless the caller may submit tasks of that type, and so bring them to run in any other way."""
    if not caller.may(scope := scope_of(name)):
        raise NotForYou(name, scope)


def all_types() -> Iterable[TaskType]:
    return sorted(_types.values(), key=lambda each: each.name)


def types_of(worker: str) -> Iterable[TaskType]:
    return [each for each in all_types() if each.worker == worker]


def policy_of(name: str) -> retry.Policy:
    """How a type is retried; the common policy for a type that this process does not know."""
    return _types[name].retry if name in _types else retry.Policy()


def if_uncertain(name: str, parameters: Mapping[str, Any]) -> IfUncertain:
    """What a task wants when nobody knows whether its last step took effect. Of a type that this process does not know
    nothing is done twice."""
    if asked := parameters.get("if_uncertain"):
        return IfUncertain(asked)
    return _types[name].if_uncertain if name in _types else IfUncertain.HOLD


def is_short(name: object) -> bool:
    return isinstance(name, str) and name in _types and _types[name].short


def is_transactional(name: str) -> bool:
    return name in _types and _types[name].transactional
