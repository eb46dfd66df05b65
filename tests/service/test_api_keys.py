"""Who comes in at the door, who does not, and what each of them is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from api import auth, create_app
from ledger import db, keys
from ledger.callers import Scope
from ledger.keys import Key
from ledger.models import api_keys
from tests import life, task_types  # noqa: F401  registers the types
from tests.doors import door_for, key

A_TASK = {"task_type": "test_quick"}


def row_of(shown: str) -> Any:
    with db.reading() as connection:
        return connection.execute(select(api_keys).where(api_keys.c.id == shown.split("_")[1])).one()


@pytest.mark.parametrize("header", ["X-API-Key: {}", "Authorization: Bearer {}", "Authorization: bearer {}"])
def test_a_key_opens_by_either_header(servers: object, header: str) -> None:
    name, _, value = header.format(key("ada")).partition(": ")
    assert door_for(None).get("/api/tasks", headers={name: value}).status_code == 200


@pytest.mark.parametrize("path", ["/api/tasks?api_key={0}", "/api/tasks?X-API-Key={0}", "/get_data?key={0}"])
def test_a_key_in_the_url_opens_nothing(servers: object, path: str) -> None:
    assert door_for(None).get(path.format(key("ada"))).status_code == 401


def test_without_a_key_the_way_to_show_one_is_told(servers: object) -> None:
    answer = door_for(None).post("/api/tasks", json=A_TASK)
    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert "X-API-Key" in answer.get_json()["detail"]


def test_where_no_key_exists_the_way_to_make_one_is_told(servers: object) -> None:
    with db.transaction() as connection:
        rows = connection.execute(select(api_keys)).mappings().all()
        connection.execute(api_keys.delete())
    try:
        answer = door_for(None).get("/api/tasks")
    finally:
        with db.transaction() as connection:
            connection.execute(api_keys.insert(), [dict(row) for row in rows])
    assert answer.status_code == 401
    assert "python -m ledger keys create" in answer.get_json()["detail"]


def wrong(shown: str) -> dict[str, str]:
    return {
        "another secret": shown[:-1] + ("A" if shown[-1] != "A" else "B"),
        "another id": "sluice_00000000" + shown[15:],
        "no form": "let me in",
        "half of it": shown[:20],
        "a space after it": shown + "x",
        "not ascii": "sluice_ä",
    }


@pytest.mark.parametrize("fault", list(wrong("sluice_12345678_" + 43 * "x")))
def test_a_wrong_key_opens_nothing_and_is_not_repeated(servers: object, fault: str) -> None:
    shown = wrong(key("ada"))[fault]
    answer = door_for(shown).get("/api/tasks")
    assert answer.status_code == 401
    assert shown not in answer.get_data(as_text=True)
    assert "WWW-Authenticate" in answer.headers


def test_a_revoked_key_opens_nothing_after_a_moment(
    servers: object, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    shown = key("ada")
    door = door_for(shown)
    assert door.get("/api/tasks").status_code == 200
    assert keys.revoke(shown.split("_")[1])
    assert auth.TRUST_SECONDS <= 4
    eventually(lambda: door.get("/api/tasks").status_code == 401, within=5)
    assert "revoked" in door.get("/api/tasks").get_json()["detail"]


def test_an_expired_key_opens_nothing(servers: object) -> None:
    shown = key("ada", expires_in_seconds=60)
    assert door_for(shown).get("/api/tasks").status_code == 200
    with db.transaction() as connection:
        connection.execute(
            update(api_keys).where(api_keys.c.id == shown.split("_")[1]).values(expires_at=db.earlier(1))
        )
    auth.forget()
    assert "expired" in door_for(shown).get("/api/tasks").get_json()["detail"]


def test_a_missing_scope_is_named(servers: object) -> None:
    answer = door_for(key("ada", Scope.READ)).post("/api/tasks", json=A_TASK)
    assert answer.status_code == 403
    assert answer.get_json()["missing_scope"] == "write"
    assert 'scope="write"' in answer.headers["WWW-Authenticate"]


def test_emptying_a_table_by_a_task_takes_an_admin_too(servers: object) -> None:
    body = {"task_type": "truncate_table", "parameters": {"table": "data"}}
    answer = door_for(key("ada", Scope.WRITE, Scope.STOP)).post("/api/tasks", json=body)
    assert (answer.status_code, answer.get_json()["missing_scope"]) == (403, "admin")


def test_many_wrong_keys_end_in_a_pause_for_their_address_only(servers: object) -> None:
    good = door_for(key("ada"))
    assert good.get("/api/tasks").status_code == 200
    app = create_app()
    answers = [door_for(keys.make().words, app).get("/api/tasks") for _ in range(1_000)]
    assert {answer.status_code for answer in answers[: auth.MOST_FAILURES]} == {401}
    assert Counter(answer.status_code for answer in answers)[401] <= 2 * auth.MOST_FAILURES, "a minute may be over"
    assert answers[-1].status_code == 429
    assert answers[-1].headers["Retry-After"] == "60"
    assert good.get("/api/tasks").status_code == 200, "a key that was good here goes on opening"
    elsewhere = door_for(keys.make().words)
    elsewhere.environ_base["REMOTE_ADDR"] = "192.0.2.7"
    assert elsewhere.get("/api/tasks").status_code == 401


@pytest.mark.parametrize(
    ("proxies", "told", "status"),
    [
        ("10.9.0.0/16", "192.0.2.7", 401),  # of the address that the proxy has seen there is nothing bad to say
        ("10.9.0.0/16", "192.0.2.7, 198.51.100.1", 429),  # what its client says of himself counts for nothing
        ("10.9.0.0/16, 10.8.0.1", "192.0.2.7, 10.8.0.1", 401),  # one of ours behind another
        ("10.9.0.0/16", "198.51.100.1, 10.8.0.1", 401),  # of the second, not ours, there is nothing bad to say
        ("10.8.0.0/16", "192.0.2.7", 429),  # not a proxy of ours
        ("", "192.0.2.7", 429),
    ],
)
def test_who_failed_is_known_behind_a_proxy_of_ours_only(
    configured: Callable[..., None], proxies: str, told: str, status: int
) -> None:
    configured(SLUICE_PROXIES=proxies)
    app = create_app()
    guesses = [guess(app, proxy="10.9.0.1", told="198.51.100.1") for _ in range(auth.MOST_FAILURES + 1)]
    assert guesses[-1] == 429
    assert guess(app, proxy="10.9.0.1", told=told) == status


def guess(app: Flask, *, proxy: str, told: str) -> int:
    """What a wrong key is answered that comes by a proxy."""
    door = door_for(keys.make().words, app)
    door.environ_base |= {"REMOTE_ADDR": proxy, "HTTP_X_FORWARDED_FOR": told}
    return door.get("/api/tasks").status_code


def test_the_database_has_no_key_in_the_clear(servers: object) -> None:
    shown = key("ada")
    row = row_of(shown)
    assert shown not in str(row)
    assert shown.split("_", 2)[2] not in str(row)


def test_the_use_of_a_key_is_noted_once_in_a_while(servers: object) -> None:
    shown = key("ada")
    door = door_for(shown)
    door.get("/api/tasks")
    first = row_of(shown).last_used_at
    auth.forget()
    door.get("/api/tasks")
    assert first is not None
    assert row_of(shown).last_used_at == first


def test_requests_in_a_row_ask_the_ledger_for_their_key_once(
    servers: object, door: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    find = keys.find

    def noting(key_id: str) -> Key | None:
        asked.append(key_id)
        return find(key_id)

    monkeypatch.setattr(keys, "find", noting)
    for _ in range(5):
        assert door.post("/api/tasks", json=A_TASK).status_code == 202
    assert len(asked) == 1


# --- whose task it is -----------------------------------------------------------------------------------------------


def test_another_owners_task_is_as_if_it_never_was(servers: object) -> None:
    task_id = _of_ada()
    emmy = door_for(key("emmy", Scope.READ, Scope.WRITE, Scope.STOP))
    answer = emmy.get(f"/api/tasks/{task_id}")
    assert answer.status_code == 404
    assert life.state(task_id) == "queued"


def _of_ada() -> str:
    answer = door_for(key("ada", Scope.READ, Scope.WRITE)).post("/api/tasks", json=A_TASK)
    return str(answer.get_json()["task_id"])


def test_a_list_and_its_counts_show_the_callers_own(servers: object) -> None:
    task_id = _of_ada()
    life.accept()
    shown = door_for(key("ada", Scope.READ)).get("/api/tasks?counts=1").get_json()
    assert [each["task_id"] for each in shown["items"]] == [task_id]
    assert sum(shown["counts"].values()) == 1
    assert len(door_for(key("root", Scope.ADMIN)).get("/api/tasks").get_json()["items"]) == 2


def test_two_keys_of_one_owner_see_the_same(servers: object) -> None:
    task_id = _of_ada()
    assert door_for(key("ada", Scope.READ)).get(f"/api/tasks/{task_id}").status_code == 200


@pytest.mark.parametrize(
    ("scopes", "told"),
    [([Scope.READ], ["read"]), ([Scope.READ, Scope.STOP], ["read", "stop"]), ([Scope.ADMIN], sorted(Scope))],
)
def test_a_key_is_told_what_it_may_do(servers: object, scopes: list[Scope], told: list[str]) -> None:
    shown = key("ada", *scopes)
    answer = door_for(shown).get("/api/keys/mine").get_json()
    assert answer == {"id": shown.split("_")[1], "owner": "ada", "scopes": told}
