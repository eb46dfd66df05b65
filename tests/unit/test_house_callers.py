"""Reads the house for the caller: no route without a scope, no task read or changed without asking whose it is."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

import settings
from api import auth, create_app
from ledger.callers import Scope
from tests.recording import configure
from tests.unit.test_house import files, name_of, tree

#: The views that anybody may call.
PUBLIC = {
    "dataset.index",
    "docs.document",
    "docs.page",
    "docs.page_file",
    "health.livez",
    "health.readyz",
    "ui.page",
    "ui.page_file",
}

#: What the door calls below itself that names no task, or is only called about a task that the caller was shown.
#: Whatever is not here takes a `caller`, and the door must hand it over.
NAMES_NO_TASK = {
    "ledger.db",
    "ledger.fitness",
    "ledger.keys",
    "ledger.leadership",
    "ledger.limits",
    "ledger.pauses",
    "ledger.presence",
    "ledger.schema",
    "ledger.xa",
    "tasks.catalog",
    "tasks.evidence",
    "tasks.explain",
    "tasks.log",
    "tasks.redis_servers",
    "tasks.storage",
    "tasks.tracing",
    "tasks.types.dataset",
    "tasks.webhooks.destination",
    "ledger.backlog.by_queue",
    "ledger.deliveries.message_id",
    "ledger.figures.read",
    "ledger.queries.totals",
    "ledger.schedules.next_ticks",
    "ledger.tallies.read",
    "ledger.transitions.lost",
    "tasks.results.fetch",  # with the id and the attempt of a row that the caller was shown
    "tasks.results.ping",
    "tasks.schedules.kept",
    "tasks.schedules.submission_of",
}
BELOW = ("ledger", "tasks")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    configure(monkeypatch)
    yield create_app()
    monkeypatch.undo()
    settings.settings.cache_clear()


def test_every_route_says_its_scope_or_is_listed_as_public(app: Flask) -> None:
    open_to_all = {name for name, view in app.view_functions.items() if auth.scope_of(view) is None}
    assert open_to_all == PUBLIC


def test_what_changes_something_wants_more_than_a_look(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        scope = auth.scope_of(app.view_functions[rule.endpoint])
        if (rule.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}:
            assert scope in {Scope.WRITE, Scope.STOP, Scope.ADMIN}, rule


def test_a_route_without_a_word_about_its_scope_keeps_the_door_shut() -> None:
    app = Flask(__name__)
    app.add_url_rule("/forgotten", view_func=lambda: "")
    with pytest.raises(auth.UnguardedRoute):
        auth.guard(app)


# --- the caller is handed down --------------------------------------------------------------------------------------


def names_in(module: ast.Module) -> dict[str, str]:
    """What each imported name stands for."""
    found: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def calls(path: Path) -> Iterator[tuple[ast.Call, str, Any]]:
    """The calls of functions of the lower floors in a file, each with the function's full name and itself."""
    module = tree(path)
    names = names_in(module)
    own = name_of(path)
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        word = ast.unparse(node.func)
        head, _, rest = word.partition(".")
        full = names[head] + (f".{rest}" if rest else "") if head in names else f"{own}.{word}"
        function = function_of(full)
        if function is not None and full.partition(".")[0] in BELOW:
            yield node, full, function


def function_of(full: str) -> Any:
    """The function of that name; None when it is none of ours."""
    place, _, name = full.rpartition(".")
    try:
        found = getattr(importlib.import_module(place), name, None)
    except ImportError:
        return None
    return found if inspect.isfunction(found) else None


def takes_a_caller(function: Any) -> bool:
    return "caller" in inspect.signature(function).parameters


def hands_it_over(call: ast.Call) -> bool:
    return any(keyword.arg == "caller" for keyword in call.keywords)


def forgetful_calls_at_the_door(path: Path) -> list[str]:
    found = []
    for call, full, function in calls(path):
        if full in NAMES_NO_TASK or full.rpartition(".")[0] in NAMES_NO_TASK:
            continue
        if not takes_a_caller(function):
            found.append(f"line {call.lineno}: {full} does not ask for a caller (or belongs into NAMES_NO_TASK)")
        elif not hands_it_over(call):
            found.append(f"line {call.lineno}: {full} is not given the caller")
    return found


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("path", list(files("api")), ids=name_of)
def test_the_door_says_for_whom_it_asks(path: Path) -> None:
    assert forgetful_calls_at_the_door(path) == []


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("path", list(files("ledger", "tasks")), ids=name_of)
def test_who_is_given_a_caller_hands_it_on(path: Path) -> None:
    of_functions = [
        (inner.lineno, inner.end_lineno or 0)
        for inner in ast.walk(tree(path))
        if isinstance(inner, ast.FunctionDef)
        and any(each.arg == "caller" for each in (*inner.args.args, *inner.args.kwonlyargs))
    ]
    for call, full, function in calls(path):
        inside = any(first <= call.lineno <= last for first, last in of_functions)
        if inside and takes_a_caller(function) and full != "ledger.callers.owned":
            given = hands_it_over(call) or any(ast.unparse(each) == "caller" for each in call.args)
            assert given, f"{path}, line {call.lineno}: {full} is not given the caller"


def test_a_forgetful_call_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api").mkdir()
    path = tmp_path / "api" / "forgetful.py"
    path.write_text("from ledger import queries\nfrom tasks import revoke\nqueries.task('x')\nrevoke.undo('x', 1)\n")
    monkeypatch.setattr("tests.unit.test_house.CHECKOUT", tmp_path)
    assert [told.partition(":")[0] for told in forgetful_calls_at_the_door(path)] == ["line 3", "line 4"]


def test_no_view_reads_the_ledgers_tables_itself() -> None:
    for path in files("api"):
        assert "ledger.models" not in names_in(tree(path)).values(), path
        assert not any(full.startswith("ledger.models.") for full in names_in(tree(path)).values()), path
