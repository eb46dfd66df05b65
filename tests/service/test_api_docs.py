"""The page at `/docs`: from our own files, and under a strict policy; and the examples of its document work."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from api.docs import POLICY
from tests import life


def test_the_page_needs_nothing_from_elsewhere(door: FlaskClient) -> None:
    answer = door.get("/docs")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "//" not in answer.text
    named = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert "docs/swagger-ui-bundle.js" in named
    for path in named:
        assert door.get(f"/{path}").status_code == 200, path


def test_the_page_has_no_script_or_style_inside(door: FlaskClient) -> None:
    assert not re.search(r"<script>|<style|style=|onload=", door.get("/docs").text)


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fdocs.py", "index.html", "docs.html"])
def test_no_other_file_is_served(name: str, door: FlaskClient) -> None:
    answer = door.get(f"/docs/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_the_examples_of_the_document_are_accepted(door: FlaskClient) -> None:
    document = door.get("/openapi.json").get_json()
    content = document["paths"]["/api/tasks"]["post"]["requestBody"]["content"]["application/json"]
    examples = [each["value"] for each in content["examples"].values()]
    assert {"email_sending", "bulk_insert", "file_processing"} <= {each["task_type"] for each in examples}
    for example in examples:
        answer = door.post("/api/tasks", json=example)
        assert answer.status_code == 202, answer.text
        assert life.task(answer.get_json()["task_id"]).task_type == example["task_type"]
