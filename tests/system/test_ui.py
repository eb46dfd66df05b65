"""The page's own button stops a real insert, and what the page says is what the API and the table say."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from cli.stack import Stack
from tests.browser import sign_in
from tests.system import failpoint
from tests.system.books import Books
from tests.system.patience import until
from tests.system.service import Service

ROWS = 100_000
#: Seconds for which the attempt rests in the middle, so that the button is pressed while it is at work.
RESTS = 3


def test_the_stop_button_tells_the_verdict_of_a_running_insert(
    tab: Page, stack: Stack, service: Service, books: Books
) -> None:
    sign_in(tab, service.url, stack.environment()["SLUICE_API_KEY"], "#/new")
    tab.get_by_label("Task type").select_option("bulk_insert")
    tab.locator("#parameters-rows").fill(str(ROWS))
    tab.get_by_role("button", name="Submit").click()
    tab.wait_for_url(re.compile("#/tasks/.+"))
    task_id = tab.url.rpartition("/")[2]
    until(lambda: (books.task(task_id).progress_done or 0) > 0, f"the first rows of {task_id}")
    failpoint.arm("f8", f"sleep {RESTS}")
    failpoint.hit("f8")
    with tab.expect_response("**/stop") as waiting:
        tab.get_by_role("button", name="Stop").click()
    told = waiting.value.json()

    assert (told["verdict"], told["rows_remaining"]) == ("rolled_back", 0), told
    assert 0 < told["rows_undone"] < ROWS
    verdict = tab.locator(".verdict")
    expect(verdict).to_contain_text("Stopped and rolled back")
    expect(verdict).to_contain_text(told["message"])
    expect(verdict.locator("dd")).to_have_text([f"{told['rows_undone']:,}", "0"])
    expect(tab.locator(".timeline")).to_contain_text("Rolled back")
    expect(tab.get_by_role("button", name="Retry")).to_be_visible()
    assert (service.state(task_id), service.count()) == ("revoked", 0)
