"""Webhooks at the door: taken with a task or refused, looked at, asked for again, and the secrets that sign them."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from ledger import deliveries, webhook_secrets
from ledger.callers import EVERYBODY, Caller, Scope
from tasks.counting import Counting
from tasks.webhooks import tries
from tests import life, receiver, task_types  # noqa: F401  registers the types
from tests.doors import door_for, key
from tests.receiver import Receiver
from tests.service.posting import ENDS, deliver, only, told


@pytest.fixture
def ada(servers: object, empty: None) -> FlaskClient:
    return door_for(key("ada", Scope.READ, Scope.WRITE, Scope.STOP))


def asked(door: FlaskClient, hook: Any, **more: Any) -> Any:
    return door.post("/api/tasks", json={"task_type": "test_quick", "webhook": hook, **more})


def test_from_the_door_to_the_receiver(hook: Receiver, ada: FlaskClient) -> None:
    refused = asked(ada, {"url": hook.url})
    assert (refused.status_code, "/api/webhooks/secrets" in refused.text) == (422, True)
    made = ada.post("/api/webhooks/secrets").get_json()
    task_id = asked(ada, {"url": hook.url}).get_json()["task_id"]
    assert ada.get(f"/api/tasks/{task_id}").get_json()["webhook"] == {"url": hook.url, "events": ENDS}
    life.work(task_id)
    deliver()
    [got] = hook.got
    assert got.verified(made["secret"])["data"]["task_id"] == task_id
    [item] = ada.get(f"/api/tasks/{task_id}/deliveries").get_json()["items"]
    assert (item["id"], item["state"], item["type"]) == (got.message_id, "delivered", "task.succeeded")
    assert [(each["number"], each["status"]) for each in item["tries"]] == [(1, 204)]


def test_a_batch_may_have_webhooks_too(hook: Receiver, ada: FlaskClient) -> None:
    ada.post("/api/webhooks/secrets")
    task = {"task_type": "test_quick", "webhook": {"url": hook.url}}
    ids = ada.post("/api/tasks/batch", json={"tasks": [task, task]}).get_json()["task_ids"]
    for each in ids:
        life.work(each)
    deliver()
    assert len(set(hook.ids)) == 2


@pytest.mark.parametrize(
    ("wrong", "pointer", "said"),
    [
        ("http://example.com/", "#/webhook", "dictionary"),
        ({}, "#/webhook/url", "required"),
        ({"url": "http://2130706433/"}, "#/webhook/url", "four decimal numbers"),
        ({"url": "http://user:pw@example.com/"}, "#/webhook/url", "user or a password"),
        ({"url": "http://10.0.0.1/"}, "#/webhook/url", "no public address"),
        ({"url": "https://example.com/", "events": []}, "#/webhook/events", "at least 1"),
        ({"url": "https://example.com/", "events": ["task.done"]}, "#/webhook/events/0", "task.succeeded"),
        ({"ulr": "https://example.com/"}, "#/webhook/ulr", "did you mean 'url'?"),
        ({"url": "https://example.com/", "secret": "x"}, "#/webhook/secret", "no such field"),
    ],
)
def test_a_wrong_webhook_is_refused_at_its_field(wrong: Any, pointer: str, said: str, ada: FlaskClient) -> None:
    answer = asked(ada, wrong)
    assert answer.status_code == 422
    found = {each["pointer"]: each["detail"] for each in answer.get_json()["errors"]}
    assert said in found[pointer]
    assert "pw" not in answer.text.replace("user or a password", "")


def test_a_webhook_that_is_gone_is_refused_with_the_way_out(hook: Receiver, ada: FlaskClient) -> None:
    ada.post("/api/webhooks/secrets")
    hook.replies = [410]
    life.work(asked(ada, {"url": hook.url}).get_json()["task_id"])
    deliver()
    refused = asked(ada, {"url": hook.url})
    assert (refused.status_code, refused.get_json()["errors"][0]["pointer"]) == (422, "#/webhook/url")
    assert "410 Gone" in refused.text
    assert "/retry" in refused.text


def test_asking_again_is_one_more_try_with_the_same_id(hook: Receiver, ada: FlaskClient) -> None:
    ada.post("/api/webhooks/secrets")
    task_id = asked(ada, {"url": hook.url}).get_json()["task_id"]
    life.work(task_id)
    deliver()
    seq = only(task_id).row.seq
    again = ada.post(f"/api/tasks/{task_id}/deliveries/{seq}/retry")
    assert (again.status_code, again.get_json()["state"]) == (202, "pending")
    hook.usual = 500
    deliver()
    assert (len(set(hook.ids)), len(hook.ids), only(task_id).row.outcome) == (1, 2, "given_up")


def test_what_waits_is_tried_at_once_and_what_is_under_way_is_not(hook: Receiver, door: FlaskClient) -> None:
    hook.replies = [500]
    task_id = told(hook)
    life.work(task_id)
    deliver()
    path = f"/api/tasks/{task_id}/deliveries/{only(task_id).row.seq}/retry"
    assert door.post(path).status_code == 202
    [lane] = deliveries.due_lanes()
    [taken] = deliveries.take(lane, 1)
    assert door.post(path).status_code == 409
    tries.run(taken)
    assert only(task_id).row.outcome == "delivered"


def test_nobody_sees_or_repeats_anothers_deliveries(hook: Receiver, ada: FlaskClient) -> None:
    ada.post("/api/webhooks/secrets")
    task_id = asked(ada, {"url": hook.url}).get_json()["task_id"]
    life.work(task_id)
    seq, emmy = only(task_id).row.seq, door_for(key("emmy", Scope.READ, Scope.WRITE))
    assert emmy.get(f"/api/tasks/{task_id}/deliveries").status_code == 404
    assert emmy.post(f"/api/tasks/{task_id}/deliveries/{seq}/retry").status_code == 404
    assert ada.post(f"/api/tasks/{task_id}/deliveries/{seq + 1}/retry").status_code == 404
    assert ada.post(f"/api/tasks/{task_id}/deliveries/x/retry").status_code == 404


class TestSecrets:
    def test_both_sign_while_one_takes_the_others_place(self, hook: Receiver, ada: FlaskClient) -> None:
        old, new = (ada.post("/api/webhooks/secrets").get_json()["secret"] for _ in range(2))
        life.work(asked(ada, {"url": hook.url}).get_json()["task_id"])
        deliver()
        for secret in (old, new):
            assert hook.got[0].verified(secret)

    def test_one_that_leaked_signs_no_more(self, hook: Receiver, ada: FlaskClient) -> None:
        old = ada.post("/api/webhooks/secrets").get_json()
        ada.post("/api/webhooks/secrets", json={"overlap": 0})
        assert [each["id"] for each in ada.get("/api/webhooks/secrets").get_json()["items"]] != [old["id"]]
        life.work(asked(ada, {"url": hook.url}).get_json()["task_id"])
        deliver()
        assert hook.got[0].headers["webhook-signature"].count("v1,") == 1
        with pytest.raises(receiver.WebhookVerificationError):
            hook.got[0].verified(old["secret"])

    def test_no_more_than_a_few_sign_at_a_time(self, ada: FlaskClient) -> None:
        made = [ada.post("/api/webhooks/secrets").get_json()["id"] for _ in range(5)]
        listed = ada.get("/api/webhooks/secrets").get_json()["items"]
        assert [each["id"] for each in listed] == made[: -1 - webhook_secrets.MOST_AT_ONCE : -1]
        assert [each["expires_at"] is None for each in listed] == [True, False, False]

    def test_they_are_shown_once_and_logged_never(
        self, hook: Receiver, ada: FlaskClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        shown = ada.post("/api/webhooks/secrets").get_json()["secret"].removeprefix("whsec_")
        task_id = asked(ada, {"url": f"{hook.url}?token=hush"}).get_json()["task_id"]
        life.work(task_id)
        hook.usual = 500
        deliver()
        paths = ("/api/webhooks/secrets", f"/api/tasks/{task_id}/deliveries", f"/api/tasks/{task_id}/history")
        told = "".join(ada.get(path).text for path in paths) + caplog.text
        assert "webhook of event" in caplog.text
        assert shown not in told
        assert "hush" not in told

    def test_they_are_their_owners_alone(self, ada: FlaskClient, door: FlaskClient) -> None:
        made = ada.post("/api/webhooks/secrets").get_json()["id"]
        emmy = door_for(key("emmy", Scope.READ, Scope.WRITE))
        assert emmy.get("/api/webhooks/secrets").get_json()["items"] == []
        for other in (emmy, door):
            assert other.delete(f"/api/webhooks/secrets/{made}").status_code == 404
        assert ada.delete(f"/api/webhooks/secrets/{made}").status_code == 204
        assert ada.delete(f"/api/webhooks/secrets/{made}").status_code == 404

    def test_without_one_nothing_is_sent_unsigned(self, hook: Receiver, secret: str) -> None:
        task_id = told(hook)
        life.work(task_id)
        [only_one] = webhook_secrets.listed(caller=EVERYBODY)
        webhook_secrets.revoke(only_one.id, caller=EVERYBODY)
        deliver()
        assert ("no secret" in only(task_id).tries[0].error, hook.got) == (True, [])


def test_the_figures_tell_of_deliveries(hook: Receiver, door: FlaskClient) -> None:
    hook.replies = [500]
    for _ in range(2):
        life.work(told(hook))
    deliver()
    Counting().count()
    figures = door.get("/metrics").text
    for line in ("webhooks_delivered_total 1.0", "webhooks_failed_total 1.0", "webhooks_waiting 1.0"):
        assert f"sluice_{line}" in figures


def test_a_caller_without_an_owner_has_secrets_of_its_own() -> None:
    """What the operator's commands and the service itself submit belongs to nobody, and is signed too."""
    somebody = Caller("somebody", frozenset({Scope.WRITE}))
    webhook_secrets.make(overlap_seconds=1, caller=somebody)
    assert list(webhook_secrets.listed(caller=EVERYBODY)) == []
