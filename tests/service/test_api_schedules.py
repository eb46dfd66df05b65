"""Schedules over HTTP: kept, shown, changed, run, and nobody else's."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import create_app
from cli.stack import Stack
from ledger import keys, schedules, webhook_secrets
from ledger.callers import Scope
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types
from tests.doors import door_for, key
from tests.service.ticks import TESTS, come, go_round

STRANGER = "019aa5c0-0000-7000-8000-000000000001"
PATH = "/api/schedules"
EMPTYING = {"task_type": "truncate_table", "parameters": {"table": "data"}}


@pytest.fixture
def app(servers: Stack) -> Flask:
    return create_app()


def body(**more: Any) -> dict[str, Any]:
    return {"name": "nightly", "cron": "30 2 * * *", "task": {"task_type": "test_quick"}} | more


def kept(door: FlaskClient, **more: Any) -> str:
    answer = door.post(PATH, json=body(**more))
    assert answer.status_code == 201, answer.text
    return str(answer.get_json()["schedule_id"])


def listed(door: FlaskClient) -> list[str]:
    return [each["name"] for each in door.get(PATH).get_json()["items"]]


def test_a_schedule_is_kept_and_shown(door: FlaskClient) -> None:
    task = {"task_type": "data_processing", "parameters": {"data": [1]}, "priority": "low", "tags": ["eu"]}
    asked = body(timezone="Europe/Berlin", task=task, misfire_policy="skip", overlap_policy="skip")
    answer = door.post(PATH, json=asked)
    told = answer.get_json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{PATH}/{told['schedule_id']}")
    assert {name: told[name] for name in asked} == asked
    assert told["enabled"] is True
    assert (told["last"], told["remark"], told["in_words"]) == (None, None, "At 02:30 every day")
    ticks = [datetime.fromisoformat(tick).astimezone(ZoneInfo("Europe/Berlin")) for tick in told["next_ticks"]]
    assert len(ticks) == 5
    assert {(tick.hour, tick.minute) for tick in ticks} <= {(2, 30), (3, 0)}
    assert {later.date() - earlier.date() for earlier, later in pairwise(ticks)} == {timedelta(1)}
    assert door.get(answer.headers["Location"]).get_json() == told
    assert door.get(PATH).get_json() == {"items": [told], "next_after": None}


@pytest.mark.parametrize(
    ("wrong", "pointer", "said"),
    [
        ({"cron": "61 2 * * *"}, "#/cron", "bad minute"),
        ({"cron": "30 2 * *"}, "#/cron", "at least 9"),
        ({"cron": "30 2 * * * * * *"}, "#/cron", "'30 2 * * MON-FRI'"),
        ({"cron": "* * */20 * 1L"}, "#/cron", "within the next 50 years"),
        ({"cron": "1," * 60 + "1 * * * *"}, "#/cron", "at most 100"),
        ({"timezone": "Europe/Berln"}, "#/timezone", "did you mean 'Europe/Berlin'"),
        ({"timezone": "../../etc/passwd"}, "#/timezone", "there is no time zone"),
        ({"name": "two words"}, "#/name", "match pattern"),
        ({"name": "x" * 65}, "#/name", "match pattern"),
        ({"misfire_policy": "all"}, "#/misfire_policy", "'skip', 'run_once' or 'run_all'"),
        ({"enabled": "yes"}, "#/enabled", "boolean"),
        ({"crons": "x"}, "#/crons", "did you mean 'cron'"),
        ({"owner": "emmy"}, "#/owner", "no such field"),
        ({"next_tick": "x"}, "#/next_tick", "no such field"),
        ({"task": {}}, "#/task/task_type", "required"),
        ({"task": {"task_type": "test_quik"}}, "#/task/task_type", "did you mean 'test_quick'"),
        ({"task": {"task_type": "test_quick", "parameters": {"x": 1}}}, "#/task/parameters/x", "no such field"),
        ({"task": {"task_type": "test_quick", "delay": 5}}, "#/task/delay", "no such field"),
        ({"task": {"task_type": "test_quick", "prioritty": "low"}}, "#/task/prioritty", "did you mean 'priority'"),
        ({"task": {"task_type": "test_quick", "tags": ["two words"]}}, "#/task/tags/0", "a tag has"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_kept(
    wrong: dict[str, Any], pointer: str, said: str, door: FlaskClient
) -> None:
    schedule_id = kept(door, name="as-it-was")
    before = door.get(f"{PATH}/{schedule_id}").get_json()
    for method, path in (("POST", PATH), ("PATCH", f"{PATH}/{schedule_id}")):
        answer = door.open(path, method=method, json=body(**wrong) if method == "POST" else wrong)
        assert answer.status_code == 422, answer.text
        faults = {fault["pointer"]: fault["detail"] for fault in answer.get_json()["errors"]}
        assert said in faults[pointer]
    assert listed(door) == ["as-it-was"]
    assert door.get(f"{PATH}/{schedule_id}").get_json() == before


def test_an_owner_has_one_schedule_of_a_name(app: Flask) -> None:
    ada, emmy = door_for(key("ada"), app), door_for(key("emmy"), app)
    kept(ada)
    kept(emmy)
    again = ada.post(PATH, json=body())
    assert (again.status_code, again.get_json()["detail"]) == (409, "there is a schedule 'nightly' already")
    other = kept(ada, name="other")
    assert ada.patch(f"{PATH}/{other}", json={"name": "nightly"}).status_code == 409


def test_what_is_given_is_changed_and_nothing_else(door: FlaskClient) -> None:
    schedule_id = kept(door)
    before = door.get(f"{PATH}/{schedule_id}").get_json()
    told = door.patch(f"{PATH}/{schedule_id}", json={"name": "daily", "misfire_policy": "run_all"}).get_json()
    changed = {name for name in before if told[name] != before[name]}
    assert changed == {"name", "misfire_policy", "changed_at"}
    told = door.patch(f"{PATH}/{schedule_id}", json={"cron": " 0  0 1 1 * ", "timezone": "Asia/Tokyo"}).get_json()
    assert (told["cron"], told["next_ticks"][0][4:]) == ("0 0 1 1 *", "-12-31T15:00:00.000000Z")
    told = door.patch(f"{PATH}/{schedule_id}", json={"task": {"task_type": "test_failing"}}).get_json()
    assert told["task"] == {"task_type": "test_failing", "parameters": {}, "priority": "normal", "tags": []}
    assert door.patch(f"{PATH}/{schedule_id}", json={}).status_code == 422


def test_a_pause_lets_ticks_pass_and_a_resumption_goes_on(door: FlaskClient) -> None:
    schedule_id = kept(door)
    for _ in range(2):
        told = door.post(f"{PATH}/{schedule_id}/pause").get_json()
        assert (told["enabled"], told["next_ticks"]) == (False, [])
    told = door.post(f"{PATH}/{schedule_id}/resume").get_json()
    assert (told["enabled"], len(told["next_ticks"])) == (True, 5)
    assert door.patch(f"{PATH}/{schedule_id}", json={"enabled": False}).get_json()["enabled"] is False
    assert kept(door, name="later", enabled=False)


def test_a_deleted_schedule_is_gone_and_its_tasks_stay(door: FlaskClient) -> None:
    schedule_id = kept(door)
    come(schedule_id)
    go_round()
    assert door.delete(f"{PATH}/{schedule_id}").status_code == 204
    assert door.get(f"{PATH}/{schedule_id}").status_code == 404
    assert door.delete(f"{PATH}/{schedule_id}").status_code == 404
    [task] = door.get(f"/api/tasks?schedule={schedule_id}").get_json()["items"]
    told = door.get(f"/api/tasks/{task['task_id']}").get_json()
    assert (told["schedule"]["name"], told["state"]) == ("nightly", "queued")


def test_a_schedules_tasks_are_listed_counted_and_explained(door: FlaskClient) -> None:
    schedule_id = kept(door)
    life.accept()
    tick = come(schedule_id)
    go_round()
    told = door.get(f"/api/tasks?schedule={schedule_id}&counts=1").get_json()
    assert {state: number for state, number in told["counts"].items() if number} == {"queued": 1}
    [task_id] = [each["task_id"] for each in told["items"]]
    assert door.get(f"{PATH}/{schedule_id}").get_json()["last"] == {
        "tick": f"{tick.isoformat()}.000000Z",
        "at": door.get(f"{PATH}/{schedule_id}").get_json()["last"]["at"],
        "task_id": task_id,
        "state": "queued",
    }
    explained = door.get(f"/api/tasks/{task_id}/explain").get_json()
    assert explained["sentence"].endswith(f"The schedule nightly submitted it at its tick of {tick} UTC.")
    assert explained["evidence"]["schedule"]["schedule_id"] == schedule_id


def test_a_schedule_is_run_beside_its_ticks_also_while_paused(door: FlaskClient) -> None:
    schedule_id = kept(door, enabled=False)
    answer = door.post(f"{PATH}/{schedule_id}/run")
    told = answer.get_json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/tasks/{told['task_id']}")
    shown = door.get(answer.headers["Location"]).get_json()
    assert shown["schedule"] == {"schedule_id": schedule_id, "name": "nightly", "tick": None}
    assert "when somebody asked it to" in door.get(f"/api/tasks/{told['task_id']}/explain").get_json()["sentence"]
    assert door.get(f"{PATH}/{schedule_id}").get_json()["last"] is None
    life.work(told["task_id"])
    assert life.state(told["task_id"]) is State.SUCCEEDED


def test_a_run_may_be_asked_for_again_with_its_key(door: FlaskClient) -> None:
    schedule_id = kept(door)
    first, second = (door.post(f"{PATH}/{schedule_id}/run", headers={"Idempotency-Key": "once"}) for _ in range(2))
    assert first.get_json()["task_id"] == second.get_json()["task_id"]
    assert second.headers["Idempotency-Replayed"] == "true"


def test_a_task_that_is_none_any_more_is_told_when_it_is_to_run(door: FlaskClient) -> None:
    schedule_id = kept(door)
    row = schedules.get(schedule_id)
    assert schedules.change(schedule_id, {"task": {"task_type": "gone"}}, revision=row.revision)
    for what in ("run", "resume"):
        answer = door.post(f"{PATH}/{schedule_id}/{what}")
        assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (409, "#/task/task_type")


# --- who may -------------------------------------------------------------------------------------------------------


def calls(schedule_id: str) -> list[tuple[str, str, Any]]:
    here = f"{PATH}/{schedule_id}"
    posts = [("POST", f"{here}/{what}", None) for what in ("run", "pause", "resume")]
    return [("GET", here, None), ("PATCH", here, {"cron": "0 0 * * *"}), *posts, ("DELETE", here, None)]


def told(answer: TestResponse, schedule_id: str) -> Any:
    given = answer.get_json(silent=True) or {}
    return {name: str(value).replace(schedule_id, "<id>") for name, value in given.items() if name != "request_id"}


def test_anothers_schedule_is_answered_like_none(app: Flask) -> None:
    ada, emmy = door_for(key("ada"), app), door_for(key("emmy", *keys.USUAL_SCOPES), app)
    schedule_id = kept(ada)
    before = schedules.get(schedule_id)
    for (method, path, given), (_, nowhere, _) in zip(calls(schedule_id), calls(STRANGER), strict=True):
        real, none = (emmy.open(each, method=method, json=given) for each in (path, nowhere))
        assert (real.status_code, told(real, schedule_id)) == (404, told(none, STRANGER)), (method, path)
    assert listed(emmy) == []
    assert emmy.get(f"/api/tasks?schedule={schedule_id}").get_json()["items"] == []
    after = schedules.get(schedule_id)
    assert [after[n] for n in range(len(after) - 1)] == [before[n] for n in range(len(before) - 1)]
    for word in ("no-id", "%00", STRANGER + "0"):
        assert emmy.get(f"{PATH}/{word}").status_code == 404


def test_looking_is_no_setting(app: Flask) -> None:
    reader = door_for(key("ada", Scope.READ), app)
    schedule_id = kept(door_for(key("ada"), app))
    assert listed(reader) == ["nightly"]
    for method, path, given in [*calls(schedule_id), ("POST", PATH, body(name="mine"))]:
        if method != "GET":
            assert reader.open(path, method=method, json=given).status_code == 403


def test_a_type_that_wants_more_is_not_to_be_had_by_a_schedule(app: Flask) -> None:
    admin, usual = door_for(key("ada", Scope.ADMIN), app), door_for(key("ada", *keys.USUAL_SCOPES), app)
    harmless, emptying = kept(usual), kept(admin, name="emptying", task=EMPTYING)
    refused = [
        usual.post(PATH, json=body(name="mine", task=EMPTYING)),
        usual.patch(f"{PATH}/{harmless}", json={"task": EMPTYING}),
        usual.patch(f"{PATH}/{emptying}", json={"cron": "* * * * *"}),
        usual.post(f"{PATH}/{emptying}/run"),
        usual.post(f"{PATH}/{emptying}/resume"),
    ]
    assert [(each.status_code, each.get_json()["missing_scope"]) for each in refused] == [(403, "admin")] * 5
    assert admin.post(f"{PATH}/{emptying}/run").status_code == 202


def test_an_admins_run_of_anothers_schedule_makes_a_task_of_that_owner(app: Flask) -> None:
    ada, admin = door_for(key("ada", *keys.USUAL_SCOPES), app), door_for(app=app)
    schedule_id = kept(ada)
    task_id = admin.post(f"{PATH}/{schedule_id}/run").get_json()["task_id"]
    assert life.task(task_id).owner == "ada"
    assert ada.get(f"/api/tasks/{task_id}").status_code == 200


def test_a_run_over_quota_is_refused(app: Flask) -> None:
    ada = door_for(key("ada", most_open_tasks=1), app)
    schedule_id = kept(ada)
    assert ada.post(f"{PATH}/{schedule_id}/run").status_code == 202
    assert ada.post(f"{PATH}/{schedule_id}/run").status_code == 429


HOOK = {"url": "https://example.com/hooks/sluice", "events": ["task.failed"]}


def test_a_schedules_tasks_tell_its_webhook(door: FlaskClient) -> None:
    task = {"task_type": "test_quick", "webhook": HOOK}
    refused = door.post(PATH, json=body(task=task))
    assert (refused.status_code, refused.get_json()["errors"][0]["pointer"]) == (422, "#/task/webhook")
    webhook_secrets.make(overlap_seconds=60, caller=TESTS)
    schedule_id = kept(door, task=task)
    assert door.get(f"{PATH}/{schedule_id}").get_json()["task"]["webhook"] == HOOK
    come(schedule_id)
    go_round()
    [each] = door.get(f"/api/tasks?schedule={schedule_id}").get_json()["items"]
    assert life.task(each["task_id"]).webhook == HOOK


def test_a_list_goes_page_by_page(door: FlaskClient) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        kept(door, name=name)
    found, after = [], ""
    while True:
        told = door.get(f"{PATH}?limit=2{after}").get_json()
        found += [each["name"] for each in told["items"]]
        if told["next_after"] is None:
            break
        after = f"&after={told['next_after']}"
    assert found == names
