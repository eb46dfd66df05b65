"""Whether the service is ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

import api.health
from ledger import db, leadership
from ledger.models import leadership as leadership_row
from tasks import results
from tests import broker
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
