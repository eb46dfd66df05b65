"""The pages at `/ui` and `/docs`, as somebody uses them: in a real browser, over HTTP, on a real ledger."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from werkzeug.serving import make_server

from api import create_app, waiting
from cli.stack import Stack
from ledger import acceptance, db, keys, pauses, presence, transitions
from ledger.callers import Scope
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types
from tests.browser import sign_in
from tests.conftest import CHECKOUT
from tests.doors import MASTER, key

#: What somebody might put wherever a text of his is shown.
HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


class Door:
    """The API over HTTP, in this process; it can be shut, and opened again at the same address."""

    def __init__(self) -> None:
        self._port = 0
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        app = create_app()
        self._worker = SimpleNamespace(alive=True)
        waiting.remember(app, self._worker)
        self._server = make_server("127.0.0.1", self._port, app, threaded=True)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()

    def shut(self) -> None:
        self._worker.alive = False  # streams end
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def being_shut(self) -> Iterator[None]:
        self.shut()
        try:
            yield
        finally:
            self.open()


@pytest.fixture
def served(servers: Stack) -> Iterator[Door]:
    door = Door()
    yield door
    door.shut()


@pytest.fixture
def page(tab: Page, served: Door) -> Page:
    """The page, for somebody who may do everything."""
    sign_in(tab, served.url, MASTER.words)
    return tab


def go(page: Page, place: str) -> None:
    page.evaluate("place => { location.hash = place }", place)


def rows(page: Page) -> Locator:
    return page.locator(".tasks tbody tr")


def row_of(page: Page, task_id: str) -> Locator:
    return page.locator(f'.tasks tbody tr[data-key="{task_id}"]')


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


# --- signing in -----------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_told_plainly(tab: Page, served: Door) -> None:
    tab.goto(f"{served.url}/ui")
    tab.get_by_label("API key").fill("sluice_12345678_" + 43 * "x")
    button(tab, "Sign in").click()
    expect(tab.get_by_role("alert").first).to_have_text("This is no key that opens anything here.")
    expect(tab.get_by_role("navigation", name="Pages", exact=True)).to_be_hidden()


def test_a_key_is_asked_for_once_and_kept_in_this_tab_only(page: Page) -> None:
    page.reload()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert MASTER.words not in page.evaluate("JSON.stringify([location.href, document.cookie, {...localStorage}])")
    button(page, "Sign out").click()
    expect(page.get_by_label("API key")).to_be_focused()
    assert MASTER.words not in page.evaluate("JSON.stringify({...sessionStorage})")


def test_a_key_that_may_not_look_is_told_what_it_lacks(tab: Page, served: Door) -> None:
    tab.goto(f"{served.url}/ui")
    tab.get_by_label("API key").fill(key("ada", Scope.METRICS))
    button(tab, "Sign in").click()
    expect(tab.get_by_role("alert").first).to_contain_text("lacks the scope read")


def test_what_a_key_may_not_do_is_not_offered(tab: Page, served: Door) -> None:
    shown = key("ada", Scope.READ)
    task_id = life.accept()
    life.put(task_id, owner="ada")
    sign_in(tab, served.url, shown, f"#/tasks/{task_id}")
    expect(button(tab, "Stop")).to_be_disabled()
    expect(button(tab, "Stop")).to_have_attribute("title", "This key lacks the scope stop")
    go(tab, "#/")
    expect(tab.get_by_role("heading", name="Data", exact=True)).to_be_visible()
    expect(tab.get_by_role("button", name=re.compile("Pause"))).to_have_count(0)
    go(tab, "#/new")
    expect(button(tab, "Submit")).to_be_disabled()


def test_a_key_that_is_revoked_leads_back_to_the_door(tab: Page, served: Door) -> None:
    shown = key("ada", Scope.READ)
    sign_in(tab, served.url, shown, "#/tasks")
    keys.revoke(shown.split("_")[1])
    expect(tab.get_by_role("alert").first).to_have_text("This key was revoked.")


# --- the list -------------------------------------------------------------------------------------------------------


def test_the_list_is_filtered_and_the_address_says_how(page: Page) -> None:
    waiting_task, failed = life.accept(priority="high"), life.accept()
    life.claim(failed)
    transitions.give_up(failed, 1, error={"type": "Trouble", "message": "the disk is full"}, remark="x")
    go(page, "#/tasks")
    expect(rows(page)).to_have_count(2)
    page.get_by_role("button", name=re.compile("^failed")).click()
    expect(rows(page)).to_have_count(1)
    expect(row_of(page, failed)).to_contain_text("Trouble: the disk is full")
    assert page.url.endswith("#/tasks?state=failed")
    go(page, "#/tasks?error=DISK")
    expect(row_of(page, failed)).to_be_visible()
    go(page, "#/tasks?priority=high&time=1h")
    expect(rows(page)).to_have_count(1)
    expect(row_of(page, waiting_task)).to_be_visible()
    go(page, "#/tasks?state=expired")
    expect(page.get_by_text("No task fits")).to_be_visible()


def test_tasks_are_found_by_their_tags(page: Page) -> None:
    both, one, _ = life.accept(tags=["eu", "night"]), life.accept(tags=["eu"]), life.accept()
    go(page, "#/tasks")
    expect(row_of(page, both)).to_contain_text("night")
    page.keyboard.press("#")
    for tag, found in (("eu", 2), ("night", 1)):
        page.keyboard.type(tag)
        page.keyboard.press("Enter")
        expect(rows(page)).to_have_count(found)
    assert page.url.endswith("#/tasks?tag=eu&tag=night")
    expect(page.get_by_role("button", name=re.compile("^queued"))).to_contain_text("1")
    button(page, "Not only those with the tag night").click()
    expect(rows(page)).to_have_count(2)
    row_of(page, one).get_by_role("link").click()
    page.locator(".facts").get_by_role("link", name="eu").click()
    expect(rows(page)).to_have_count(2)
    assert page.url.endswith("#/tasks?tag=eu")


def test_tasks_are_found_by_times_in_the_zone_of_whoever_looks(page: Page) -> None:
    page.context.new_cdp_session(page).send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
    early, late = life.accept(), life.accept()
    life.put(early, created_at=datetime(2026, 1, 1, 2), state=State.REVOKED, finished_at=datetime(2026, 1, 1, 5))
    life.put(late, created_at=datetime(2026, 1, 1, 4))
    go(page, "#/tasks?time=7d")
    button(page, "Times…").click()
    page.get_by_label("Submitted after").fill("2026-01-01T12:00")
    expect(rows(page)).to_have_count(1)
    expect(row_of(page, late)).to_be_visible()
    assert page.url.endswith("#/tasks?created_after=2026-01-01T03%3A00%3A00.000Z")
    go(page, "#/tasks?finished_before=2026-01-01T06:00:00Z")
    expect(row_of(page, early)).to_be_visible()
    expect(page.get_by_label("Ended before")).to_have_value("2026-01-01T15:00")
    page.get_by_label("Ended after").fill("2026-01-01T14:30")
    expect(page.get_by_text("No task fits")).to_be_visible()


def test_pages_lead_through_all_tasks_and_back(page: Page) -> None:
    acceptance.accept([life.new() for _ in range(60)])
    go(page, "#/tasks")
    expect(rows(page)).to_have_count(50)
    first = rows(page).first.get_attribute("data-key")
    button(page, "Older →").click()
    expect(rows(page)).to_have_count(10)
    expect(button(page, "Older →")).to_be_disabled()
    page.keyboard.press("[")
    expect(rows(page)).to_have_count(50)
    assert rows(page).first.get_attribute("data-key") == first


def test_what_changes_changes_in_place(page: Page) -> None:
    """No row is made anew, and the one that has the focus keeps it, while others come above it."""
    task_id = life.accept()
    go(page, "#/tasks")
    row_of(page, task_id).get_by_role("link").focus()
    page.evaluate("id => { document.querySelector(`tr[data-key='${id}']`).mark = true }", task_id)
    life.work(task_id)
    newer = life.accept()
    expect(row_of(page, task_id)).to_contain_text("succeeded")
    expect(rows(page).first).to_have_attribute("data-key", newer)
    expect(row_of(page, task_id).get_by_role("link")).to_be_focused()
    assert page.evaluate("id => document.querySelector(`tr[data-key='${id}']`).mark", task_id)


def test_the_keyboard_is_enough(page: Page) -> None:
    older, newer = life.accept(), life.accept()
    page.keyboard.press("t")
    expect(rows(page)).to_have_count(2)
    for _ in range(2):
        page.keyboard.press("j")
    expect(row_of(page, older).get_by_role("link")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.get_by_text(newer)).to_be_visible()
    page.keyboard.press("Escape")
    expect(rows(page)).to_have_count(2)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(older)
    page.keyboard.press("Enter")
    expect(page.get_by_text(older)).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


# --- one task -------------------------------------------------------------------------------------------------------


def test_a_task_is_followed_to_its_end(page: Page) -> None:
    task_id = life.accept()
    go(page, f"#/tasks/{task_id}")
    timeline = page.locator(".timeline")
    expect(timeline).to_contain_text("Accepted")
    life.claim(task_id)
    expect(timeline).to_contain_text("A worker took it")
    transitions.renew(task_id, 1, lease_seconds=60, done=250, total=1_000)
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    expect(page.locator(".sentence")).to_contain_text("250 of 1,000 done")
    transitions.finish(task_id, 1, result={"answer": 42})
    expect(page.get_by_role("group", name="Result")).to_have_text(re.compile('"answer": 42'))
    expect(page.locator(".timeline li")).to_have_count(3)
    expect(page.get_by_role("progressbar")).to_be_hidden()


def test_a_cut_line_is_told_and_taken_up_where_it_was(page: Page, served: Door) -> None:
    task_id = life.accept()
    go(page, f"#/tasks/{task_id}")
    expect(page.locator(".timeline li")).to_have_count(1)
    with served.being_shut():
        expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_visible()
        life.work(task_id)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator(".timeline")).to_contain_text("Finished")
    expect(page.locator(".timeline li")).to_have_count(3)


def test_a_stop_that_came_too_late_says_so(page: Page) -> None:
    task_id = life.accept()
    life.claim(task_id)
    transitions.decide(task_id, 1, databases=[], result=None)
    go(page, f"#/tasks/{task_id}")
    button(page, "Stop").click()
    expect(page.get_by_role("status").filter(has_text="too_late_committed")).to_contain_text("already committed")


def test_a_stopped_task_can_be_tried_again_and_history_stays(page: Page) -> None:
    task_id = life.accept()
    go(page, f"#/tasks/{task_id}")
    button(page, "Stop").click()
    expect(page.get_by_role("status").filter(has_text="stopped_before_start")).to_be_visible()
    button(page, "Retry").click()
    expect(page.locator(".timeline")).to_contain_text("Tried again by hand")
    life.work(task_id)
    expect(page.locator(".timeline")).to_contain_text("Finished")
    expect(page.locator(".timeline")).to_contain_text("Stopped before it began")


def test_a_failure_is_resolved_with_a_note(page: Page) -> None:
    task_id = life.accept()
    life.claim(task_id)
    transitions.give_up(task_id, 1, error={"type": "Trouble", "message": "x"}, remark="x")
    go(page, f"#/tasks/{task_id}")
    button(page, "Resolve").click()
    dialog = page.get_by_role("dialog", name="Resolve the failure")
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()  # it wants a note
    page.keyboard.type("sent by hand")
    page.keyboard.press("Enter")
    expect(page.locator(".facts").filter(has_text="Dealt with")).to_contain_text("sent by hand")
    expect(page.locator(".timeline")).to_contain_text("sent by hand")
    expect(button(page, "Resolve")).to_be_hidden()
    expect(button(page, "Retry")).to_be_visible()
    assert life.task(task_id).resolved_note == "sent by hand"


def test_a_task_that_is_not_there_is_said_to_be_none(page: Page) -> None:
    go(page, "#/tasks/019aa5c0-0000-7000-8000-000000000001")
    expect(page.get_by_text("No such task")).to_be_visible()


# --- queues, and new tasks ------------------------------------------------------------------------------------------


def test_a_queue_is_paused_with_a_reason_and_resumed(page: Page) -> None:
    presence.arrive(life.said())
    life.accept(priority="low")
    button(page, "Pause data.low").click()
    page.get_by_label("Why, for those who wonder").fill("until six")
    button(page, "Pause").click()
    queues = page.get_by_label("Queues of data workers")
    expect(queues.locator(".paused:visible")).to_have_count(1)
    assert pauses.paused()["data.low"].reason == "until six"
    expect(queues).to_contain_text("1 worker")
    button(page, "Resume data.low").click()
    expect(queues.locator(".paused:visible")).to_have_count(0)
    assert not pauses.paused()


def test_a_fault_stands_beside_its_field_and_a_task_is_submitted(page: Page) -> None:
    go(page, "#/new")
    page.get_by_label("Task type").select_option("email_sending")
    page.locator("#parameters-to").fill("nobody")
    button(page, "Submit").click()
    expect(page.locator("#parameters-to")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#parameters-to-fault")).not_to_be_empty()
    page.get_by_label("Task type").select_option("bulk_insert")
    page.locator("#parameters-rows").fill("7")
    page.get_by_label("Priority").select_option("high")
    button(page, "Submit").click()
    expect(page.get_by_role("group", name="Parameters")).to_have_text(re.compile('"rows": 7'))
    row = life.task(page.url.rpartition("/")[2])
    assert (row.task_type, row.priority, row.parameters) == ("bulk_insert", "high", {"rows": 7})


# --- hostile texts --------------------------------------------------------------------------------------------------


def hostile_tasks() -> list[str]:
    """Tasks with such a text wherever one can come in."""
    running, failed, done, resolved = (life.accept(parameters={HOSTILE: [HOSTILE]}) for _ in range(4))
    presence.arrive(life.said(name=HOSTILE))
    error = {"type": HOSTILE, "message": HOSTILE, HOSTILE: HOSTILE}
    for task_id in (running, failed, done, resolved):
        transitions.claim(task_id, 1, worker=HOSTILE, lease_seconds=60)
    transitions.renew(running, 1, lease_seconds=60, done=1, total=None)
    for task_id in (failed, resolved):
        transitions.give_up(task_id, 1, error=error, remark=HOSTILE)
    life.put(resolved, resolved_at=db.NOW, resolved_by=HOSTILE, resolved_note=HOSTILE)
    transitions.finish(done, 1, result={HOSTILE: HOSTILE}, remark=HOSTILE)
    life.put(done, undone={HOSTILE: HOSTILE})
    for task_id in (running, failed, done, resolved):
        transitions.remark(task_id, "explained", HOSTILE, detail={HOSTILE: HOSTILE, "more": {HOSTILE: HOSTILE}})
    return [running, failed, done, resolved]


def test_no_text_of_a_task_becomes_a_part_of_the_page(page: Page) -> None:
    pauses.pause(["data.low"], reason=HOSTILE)
    ids = hostile_tasks()
    places = {f"#/tasks/{task_id}": ".timeline" for task_id in ids}
    places |= {"#/": ".workers", "#/tasks": ".tasks", f"#/tasks?error={HOSTILE}": ".tasks tr"}
    for place, sign in places.items():
        go(page, place)
        expect(page.locator(sign).filter(has_text=HOSTILE).first).to_be_visible()
        assert_untouched(page, place)
    names = ("task_type", "priority", "time", "state", "tag", "created_after", "finished_before")
    filters = "&".join(f"{name}={HOSTILE}" for name in names)
    for place in (f"#/tasks/{HOSTILE}", f"#/tasks?{filters}", f"#/new?type={HOSTILE}", f"#/{HOSTILE}"):
        go(page, place)
        expect(page.locator("main h1")).to_be_visible()
        assert_untouched(page, place)


def assert_untouched(page: Page, place: str) -> None:
    assert page.locator("img:not([src='ui/favicon.svg']), main script").count() == 0, place
    assert page.evaluate("window.hit") is None, place


def test_the_policy_stops_what_the_code_would_let_through(tab: Page, served: Door) -> None:
    tab.goto(f"{served.url}/ui")
    with pytest.raises(Exception, match="TrustedHTML"):
        tab.evaluate("document.body.innerHTML = '<b>x</b>'")


# --- for every eye and every screen ---------------------------------------------------------------------------------

#: Tells the texts that do not stand out from what lies behind them.
FAINT = (CHECKOUT / "tests" / "contrast.js").read_text(encoding="utf-8")


def some_tasks() -> list[str]:
    """One in each state that a row can be in."""
    tags = ["nightly", "customer:4711", "eu", "x" * 40]
    ids = [life.accept(priority=priority, tags=tags) for priority in ("high", "normal", "low") for _ in range(4)]
    for task_id, state in zip(ids, State, strict=False):
        life.put(task_id, state=state, error={"type": "Trouble", "message": "x"} if state == "failed" else None)
    presence.arrive(life.said())
    pauses.pause(["email.low"], reason="x")
    return ids


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1600])
def test_every_view_fits_and_stands_out(page: Page, colours: Any, width: int) -> None:
    ids = some_tasks()
    page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 900})
    places = {
        "#/": ".kind tbody tr",
        "#/tasks": ".tasks tbody tr",
        "#/tasks?tag=eu&created_after=2026-01-01T00:00:00Z": ".tasks tbody tr",
        f"#/tasks/{ids[8]}": ".timeline li",
        "#/new": ".form fieldset",
    }
    for place, sign in places.items():
        go(page, place)
        expect(page.locator(sign).first).to_be_visible()
        expect(page.locator(".bones:visible")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, place
        assert page.evaluate(FAINT) == [], place
        assert page.evaluate("document.getAnimations().length") == 0, place


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_documentation_fits_and_stands_out_on_a_phone(tab: Page, served: Door, colours: Any) -> None:
    tab.emulate_media(color_scheme=colours, reduced_motion="reduce")
    tab.set_viewport_size({"width": 390, "height": 900})
    tab.goto(f"{served.url}/docs/")
    tab.locator(".opblock-post .opblock-summary-control").first.click()
    expect(tab.locator(".responses-table .header-col").first).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert tab.evaluate(FAINT) == []


def test_colours_are_switched_and_remembered(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    switch = page.get_by_role("button", name=re.compile("^Colours"))
    switch.click()
    assert page.evaluate(ground) == light
    switch.click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
