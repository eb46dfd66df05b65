"""Whether the service is ready, and the figures that it exports."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

import api.health
from ledger import db, leadership, transitions
from ledger.models import leadership as leadership_row
from tasks import results
from tests import broker, life, task_types  # noqa: F401  registers the types
from tests.doors import door_for

NO_DATABASE = "mysql+pymysql://nobody@127.0.0.1:1/none"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_client", None)
    monkeypatch.setattr(results, "_rests_until", 0.0)
    monkeypatch.setattr(api.health, "_fit", set())


@pytest.fixture
def led() -> Iterator[None]:
    term = leadership.claim("monitor@test")
    assert term is not None
    yield
    leadership.release(term)


def test_a_whole_service_is_ready(door: FlaskClient, led: None) -> None:
    answer = door.get("/readyz")
    body = answer.get_json()
    assert (answer.status_code, body["status"]) == (200, "pass")
    assert {name: check["status"] for name, check in body["checks"].items()} == {
        "ledger": "pass",
        "databases": "pass",
        "broker": "pass",
        "redis": "pass",
        "monitor": "pass",
    }


def test_a_service_that_nobody_sees_to_is_ready_with_a_warning(door: FlaskClient, led: None) -> None:
    with db.transaction() as connection:
        connection.execute(update(leadership_row).values(lease_until=db.earlier(1)))
    assert door.get("/readyz").get_json()["checks"]["monitor"]["status"] == "pass", "somebody takes over in a moment"
    with db.transaction() as connection:
        connection.execute(update(leadership_row).values(lease_until=db.earlier(10)))
    answer = door.get("/readyz")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "warn")
    assert "python -m workers.monitor" in answer.get_json()["checks"]["monitor"]["detail"]


@pytest.mark.parametrize(
    ("away", "part"),
    [
        ({"CELERY_BROKER_URL": broker.NOWHERE}, "broker"),
        ({"CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/0"}, "redis"),
    ],
)
def test_without_broker_or_redis_it_is_ready_with_a_warning(
    away: dict[str, str], part: str, configured: Callable[..., None]
) -> None:
    configured(**away)
    answer = door_for().get("/readyz")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "warn")
    assert answer.get_json()["checks"][part]["status"] == "warn"


def test_without_the_ledger_it_is_not_ready_but_alive(configured: Callable[..., None]) -> None:
    configured(LEDGER_DATABASE_URL=NO_DATABASE)
    client = door_for()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.get_json()["checks"]["ledger"]["status"] == "fail"
    assert client.get("/livez").status_code == 200
    assert client.get("/healthz").status_code == 200


def test_an_old_schema_is_not_ready(door: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.schema.version_table", lambda line: f"no_such_{line}")
    answer = door.get("/readyz")
    assert answer.status_code == 503
    assert "python -m ledger migrate" in answer.get_json()["checks"]["ledger"]["detail"]


def figures(door: FlaskClient) -> dict[tuple[str, str], float]:
    answer = door.get("/metrics")
    assert answer.mimetype == "text/plain"
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_figures_are_the_ledgers(door: FlaskClient) -> None:
    first, _ = life.accept(), life.accept(delay_seconds=60)
    transitions.mark_dispatched([life.ticket(first)])
    life.let_pass(1)
    transitions.count("inversions", 3)
    found = figures(door)
    assert found["sluice_tasks", "queued"] == 1
    assert found["sluice_tasks", "scheduled"] == 1
    assert found["sluice_tasks", "failed"] == 0
    assert found["sluice_queue_waiting", "data.normal"] == 1
    assert found["sluice_inversions_total", ""] == 3
    assert found["sluice_redispatched_total", ""] == 0


def test_figures_without_the_ledger_are_refused(configured: Callable[..., None]) -> None:
    configured(LEDGER_DATABASE_URL=NO_DATABASE)
    answer = door_for().get("/metrics")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
