"""Reads the house itself: the floors hold, and every part that should have a counterpart has it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import celery_config
import failpoints
import settings
from api import told, verdicts
from ledger import grants, models
from ledger.states import ACTIVE, MOVES, State
from tasks import catalog
from tasks.catalog import TaskType
from tasks.revoke import Verdict
from tests.conftest import CHECKOUT
from tests.recording import configure

#: Each room with those that it may look into, besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "settings": set(),
    "failpoints": {"settings"},
    "broker_counts": {"settings"},
    "ledger": {"settings", "failpoints", "broker_counts"},
    "celery_config": {"settings"},
    "tasks": {"settings", "failpoints", "ledger", "celery_config"},
    "api": {"settings", "failpoints", "ledger", "celery_config", "tasks"},
    "workers": {"settings", "failpoints", "ledger", "celery_config", "tasks"},
    "client": set(),
    "cli": {"settings", "client"},
}
#: What the ledger is kept free of: how tasks travel, how they are served, and rows as objects.
NOT_IN_THE_LEDGER = {"celery", "kombu", "amqp", "flask", "werkzeug", "redis"}


def files(*rooms: str) -> Iterator[Path]:
    for room in rooms or MAY_IMPORT:
        single = CHECKOUT / f"{room}.py"
        yield from [single] if single.exists() else sorted((CHECKOUT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


MODULES = {name_of(path): path for path in files()}


def imports(node: ast.AST) -> Iterator[str]:
    """Every module that a piece of code imports, wherever in it the import stands."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            assert each.level == 0, "imports name their module in full"
            for alias in each.names:
                inner = f"{each.module}.{alias.name}"
                yield inner if inner in MODULES else str(each.module)


def room_of(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_downhill_only(room: str) -> None:
    for path in files(room):
        rooms = {room_of(module) for module in imports(tree(path))} & set(MAY_IMPORT)
        assert rooms <= MAY_IMPORT[room] | {room}, path


def test_the_door_and_the_hands_never_meet() -> None:
    assert "workers" not in MAY_IMPORT["api"]
    assert "api" not in MAY_IMPORT["workers"]


def test_no_module_imports_itself_round_a_corner() -> None:
    graph = {
        name: {module for module in imports(tree(path)) if module in MODULES and module != name}
        for name, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()


def test_the_ledger_knows_neither_celery_nor_http() -> None:
    for path in files("ledger"):
        assert not {room_of(module) for module in imports(tree(path))} & NOT_IN_THE_LEDGER, path


def test_only_the_operators_commands_ask_the_broker() -> None:
    asking = {name for name, path in MODULES.items() if "broker_counts" in set(imports(tree(path)))}
    assert asking == {"ledger.operating"}


def test_no_floor_maps_rows_to_objects() -> None:
    for path in files():
        assert not any(module.startswith("sqlalchemy.orm") for module in imports(tree(path))), path


def test_only_handlers_import_in_the_middle() -> None:
    for path in files():
        if path.name == "gunicorn_config.py":  # its top belongs to a process that is to load nothing of ours
            continue
        module = tree(path)
        functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
        hidden = {each for function in functions for each in imports(function) if room_of(each) in MAY_IMPORT}
        assert not hidden or path.parent.name == "types", f"{path}: {hidden}"


@pytest.mark.parametrize("path", [path for path in files() if path.name == "__init__.py"], ids=name_of)
def test_a_package_begins_with_words_only(path: Path) -> None:
    statements = [each for each in tree(path).body if not isinstance(each, ast.ImportFrom)]
    assert len(statements) == 1 or name_of(path) == "api"
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", MODULES.values(), ids=name_of)
def test_the_first_line_of_a_file_says_its_idea(path: Path) -> None:
    assert len((ast.get_docstring(tree(path)) or "").partition("\n")[0]) > 10


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
    assert not {path for path in files() if {path.stem, path.parent.name} & vague}


#: What runs beside the service, where its settings need not be.
BESIDE = {"cli", "client"}


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - {"settings"} - BESIDE))
def test_only_settings_read_the_environment(room: str) -> None:
    for path in files(room):
        for node in ast.walk(tree(path)):
            name = getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None)
            assert name not in {"environ", "getenv", "environb"}, (
                f"{path}, line {getattr(node, 'lineno', '?')}"
            )


def test_every_setting_is_in_the_example() -> None:
    lines = (CHECKOUT / ".env.example").read_text(encoding="utf-8").splitlines()
    shown = {line.lstrip("# ").partition("=")[0] for line in lines if "=" in line}
    assert settings.variables() - shown == set()


@pytest.fixture(scope="module")
def _offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        configure(monkeypatch)
        catalog.load()
        yield
    settings.settings.cache_clear()


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("worker", celery_config.WORKERS)
def test_every_queue_has_a_worker_that_serves_it(worker: str) -> None:
    app = importlib.import_module(f"workers.{worker}").app
    served = {queue.name for queue in app.conf.task_queues}
    assert served == {celery_config.queue_name(worker, priority) for priority in celery_config.PRIORITIES}
    known = {task.name for task in catalog.types_of(worker)}
    assert known
    assert known == {name for name in app.tasks if not name.startswith("celery.")}


def test_every_place_to_fail_is_named_and_reached() -> None:
    reached = {
        node.args[0].value
        for path in files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.reach"
        if isinstance(node.args[0], ast.Constant)
    }
    assert reached == set(failpoints.POINTS)


def test_all_queues_come_with_a_place_for_the_dead() -> None:
    queues = {queue.name: queue for queue in celery_config.all_queues()}
    assert len(queues) == 12
    for name in (
        celery_config.queue_name(w, p) for w in celery_config.WORKERS for p in celery_config.PRIORITIES
    ):
        arguments = queues[name].queue_arguments or {}
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-dead-letter-routing-key"] in queues


def types() -> list[TaskType]:
    catalog.load()
    return [each for each in catalog.all_types() if each.handler.__module__.startswith("tasks.types.")]


@pytest.mark.usefixtures("_offline")
def test_every_task_type_says_what_it_does() -> None:
    assert {"data_processing", "bulk_insert", "email_sending", "file_processing"} <= {
        each.name for each in types()
    }
    for each in types():
        assert each.summary.endswith("."), each.name
        assert each.worker in celery_config.WORKERS
        assert each.parameters.model_config.get("extra") == "forbid", each.name


def test_every_state_and_verdict_has_its_word_at_the_door() -> None:
    assert set(told._STATUS) == set(State)
    assert set(verdicts._SAID) == set(Verdict)


def test_every_end_of_an_attempt_has_a_name() -> None:
    ends = {name for name, move in MOVES.items() if move.leaves <= ACTIVE and move.enters not in ACTIVE}
    assert set(told._ENDINGS) == ends


def test_every_table_of_the_ledger_says_who_may_do_what_to_it() -> None:
    assert set(grants.LEDGER) == set(models.ledger.tables.values())
    # Nobody rewrites what has happened, and only retention forgets it.
    of_events = grants.LEDGER[models.events]
    assert not any("UPDATE" in rights for rights in of_events.values())
    assert [role for role, rights in of_events.items() if "DELETE" in rights] == [grants.Role.MONITOR]
