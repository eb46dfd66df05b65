"""The files of `/ui`: all of them our own, under a policy that leaves no way in for a script."""

from __future__ import annotations

import re
from importlib.resources import files
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from api.ui import POLICY

PAGE_FILES = sorted(file.name for file in (files("api") / "pages" / "ui").iterdir())


def test_the_page_and_all_it_names_come_from_here(door: FlaskClient) -> None:
    answer = door.get("/ui")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    named = re.findall(r'(?:src|href)="(ui/[^"]+)"', answer.text)
    assert {"ui/main.js", "ui/ui.css", "ui/favicon.svg"} <= set(named)
    for path in named:
        assert door.get(f"/{path}").status_code == 200, path


@pytest.mark.parametrize("name", [name for name in PAGE_FILES if name.endswith(".js")])
def test_a_script_imports_only_what_is_here(name: str, door: FlaskClient) -> None:
    script = door.get(f"/ui/{name}")
    assert script.mimetype in ("text/javascript", "application/javascript")
    for imported in re.findall(r'from "([^"]+)"', script.text):
        assert imported.removeprefix("./") in PAGE_FILES, imported


@pytest.mark.parametrize("name", PAGE_FILES)
def test_nothing_is_fetched_from_elsewhere_or_made_of_text(name: str, door: FlaskClient) -> None:
    text = door.get("/ui" if name == "ui.html" else f"/ui/{name}").text
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    made_of_text = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|<script>|\son\w+=\"|style=\""
    assert not re.search(made_of_text, text)


@pytest.mark.parametrize("path", ["/ui", "/ui/main.js"])
def test_the_policy_lets_no_script_in(path: str, door: FlaskClient) -> None:
    assert door.get(path).headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "require-trusted-types-for 'script'" in POLICY


def test_a_file_is_asked_for_anew_but_sent_once(door: FlaskClient) -> None:
    first = door.get("/ui/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = door.get("/ui/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("page", ["/ui", "/docs"])
def test_with_a_slash_the_way_to_the_page_is_told(page: str, door: FlaskClient) -> None:
    answer = door.get(f"{page}/")
    assert (answer.status_code, urljoin(f"{page}/", answer.headers["Location"])) == (308, page)


@pytest.mark.parametrize("name", ["nothing.js", "..%2F..%2Fui.py", "ui.html", "docs.css", ".."])
def test_no_other_file_is_served(name: str, door: FlaskClient) -> None:
    answer = door.get(f"/ui/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
