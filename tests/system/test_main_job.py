"""The main job as a client meets it: each type of task does its work, and nobody else gets to read its parameters."""

from __future__ import annotations

import gzip
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import requests

import celery_config
from cli.stack import Stack
from tests.system.patience import until
from tests.system.service import Service

EXAMPLES = (
    ("data_processing", {"data": "test data"}, "processed"),
    ("email_sending", {"to": "recipient@example.com"}, "sent"),
    ("file_processing", {"filename": "your_file.txt"}, "processed"),
    ("truncate_table", {"table": "data"}, "table"),
)


@pytest.mark.parametrize(("task_type", "parameters", "field"), EXAMPLES, ids=[each[0] for each in EXAMPLES])
def test_an_example_works_as_it_stands(
    service: Service, task_type: str, parameters: dict[str, str], field: str
) -> None:
    answer = service.ask("POST", "/api/tasks", json={"task_type": task_type, "parameters": parameters})
    assert answer.status_code == 202, answer.text
    accepted = answer.json()
    assert accepted["status"] == "pending"
    assert accepted["message"] == "Task submitted successfully. Will start in 0 seconds."
    assert answer.headers["Location"] == f"/api/tasks/{accepted['task_id']}"

    task = service.succeeded(accepted["task_id"])
    assert task["status"] == "completed"
    assert field in task["result"], task["result"]


def test_the_endpoints_of_the_table_insert_count_list_and_delete(service: Service) -> None:
    answer = service.ask("GET", "/insert/2500")
    assert answer.status_code == 202, answer.text
    service.succeeded(answer.json()["task_id"])

    assert service.count() == 2500
    assert {len(row) for row in service.get("/get_data?limit=3")["data"]} == {3}
    assert service.get(f"/status/{answer.json()['task_id']}")["status"] == "completed"
    deleted = service.ask("DELETE", "/delete_all").json()
    assert (deleted["success"], deleted["num_rows_deleted"], service.count()) == (True, 2500, 0)


def test_a_mail_arrives_once_for_each_recipient_under_a_stable_message_id(
    service: Service, stack: Stack
) -> None:
    task_id = service.post(
        "email_sending",
        {"to": ["ada@example.com", "grace@example.com"], "subject": "Good news", "html": "<p>It works.</p>"},
    )
    result = service.succeeded(task_id)["result"]

    [mail] = until(lambda: mails_about(stack, task_id), "the mail in its folder")
    assert mail["Message-ID"] == result["message_id"] == f"<{task_id}@localhost>"
    assert mail.get_all("X-Envelope-To") == ["ada@example.com", "grace@example.com"]
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]


def mails_about(stack: Stack, task_id: str) -> list[EmailMessage]:
    folder = Path(stack.environment()["SLUICE_MAIL_DIR"])
    mails = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in folder.glob("*.eml")]
    return [mail for mail in mails if task_id in str(mail["Message-ID"])]


def test_an_uploaded_file_comes_back_compressed(service: Service) -> None:
    content = b"one line after another\n" * 1000
    uploaded = service.ask("POST", "/api/files", files={"file": ("lines.txt", content)})
    assert uploaded.status_code == 201, uploaded.text

    result = service.succeeded(
        service.post("file_processing", {"filename": "lines.txt", "operation": "compress"})
    )["result"]
    downloaded = service.ask("GET", f"/api/files/out/{result['output']['filename']}")
    assert downloaded.status_code == 200
    assert gzip.decompress(downloaded.content) == content


def test_flower_shows_tasks_by_readable_names(service: Service, stack: Stack) -> None:
    task_id = service.post("data_processing", {"data": "anything"})
    service.succeeded(task_id)
    flower = stack.environment()["FLOWER_URL"]

    def shown() -> dict[str, Any]:
        return dict(requests.get(f"{flower}/api/tasks", timeout=10).json().get(task_id, {}))

    until(lambda: shown().get("state") == "SUCCESS", "success in Flower", seen=shown)
    assert shown()["name"] == "data_processing"
    until(lambda: workers_online(flower) >= {"data", "email", "file"}, "the workers in Flower")


def workers_online(flower: str) -> set[str]:
    shown = requests.get(f"{flower}/workers?json=1", timeout=10).json()["data"]
    return {worker["hostname"].partition("@")[0] for worker in shown if worker["status"]}


def test_rabbitmqs_page_lists_nine_queues_and_their_dead_letter_queues(stack: Stack) -> None:
    answer = requests.get(f"{stack.environment()['RABBITMQ_URL']}/api/queues/sluice", timeout=10)
    listed = {queue["name"]: queue for queue in answer.json()}

    names = [
        celery_config.queue_name(worker, priority)
        for worker in celery_config.WORKERS
        for priority in celery_config.PRIORITIES
    ]
    dead = [celery_config.dead_letter_name(worker) for worker in celery_config.WORKERS]
    assert len(names) == 9
    assert set(names + dead) <= set(listed), sorted(listed)
    assert {listed[name]["arguments"]["x-queue-type"] for name in names + dead} == {"quorum"}
    assert {listed[name]["arguments"]["x-dead-letter-routing-key"] for name in names} == set(dead)
