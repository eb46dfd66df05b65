"""What `/metrics` of the API tells: of the ledger what happened and is the case, and how long requests took."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, insert, text, update

from api import timing
from ledger import backlog, db, dispatches, leadership, models, tallies, transitions
from ledger.models import events, tasks
from ledger.states import State
from tasks import resolve
from tasks.counting import Counting
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import CHECKOUT, eventually
from tests.doors import MASTER, door_for
from tests.service.conftest import serving
from workers import metrics

Figures = dict[tuple[str, str], float]
NO_DATABASE = "mysql+pymysql://nobody@127.0.0.1:1/none"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables begin empty, but not the numbers of events."""
    monkeypatch.setattr(tallies, "GAP_SECONDS", 0)


def scraped(text: str) -> Figures:
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(door: FlaskClient) -> Figures:
    """What is exported after the monitor has looked."""
    while tallies.add_up():
        pass
    Counting().count()
    answer = door.get("/metrics")
    assert answer.mimetype == "text/plain"
    return scraped(answer.text)


def test_what_happened_is_counted_by_type_priority_and_outcome(door: FlaskClient) -> None:
    life.work(life.accept(priority="high"))
    life.work(life.accept("test_hopeless"))
    life.work(life.accept("test_failing"))
    transitions.stop(life.accept(), remark="by a test")
    found = read(door)
    assert found["sluice_tasks_accepted_total", "high,test_quick"] == 1
    assert found["sluice_tasks_accepted_total", "normal,test_quick"] == 1
    assert found["sluice_tasks_started_total", "normal,test_failing"] == 1
    assert found["sluice_task_retries_total", "normal,test_failing"] == 1
    ends = {labels: value for (name, labels), value in found.items() if name == "sluice_tasks_finished_total" and value}
    assert ends == {
        "succeeded,high,test_quick": 1,
        "failed,normal,test_hopeless": 1,
        "revoked,normal,test_quick": 1,
    }


def test_each_event_is_counted_once(door: FlaskClient) -> None:
    for _ in range(3):
        life.work(life.accept())
    first = read(door)
    assert first["sluice_tasks_finished_total", "succeeded,normal,test_quick"] == 3
    with ThreadPoolExecutor(2) as monitors:
        list(monitors.map(lambda _: tallies.add_up(2), range(4)))
    assert read(door)["sluice_tasks_finished_total", "succeeded,normal,test_quick"] == 3


def test_an_event_is_waited_for_that_is_not_committed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    life.accept()
    tallies.add_up()
    monkeypatch.setattr(tallies, "GAP_SECONDS", 60)
    with db.ledger().begin() as late:
        row = {"task_id": life.accept(), "event": "accepted", "state": "queued", "attempt": 0}
        assert tallies.add_up() == 1
        late.execute(insert(events).values(at=db.NOW), [row])
        life.accept()
        assert tallies.add_up() == 0, "the number before it may still come"
    assert tallies.add_up() == 2


def test_times_are_told_from_the_events(door: FlaskClient) -> None:
    task_id = life.accept()
    shift(task_id, "accepted", seconds=3)
    life.claim(task_id)
    transitions.finish(task_id, 1)
    shift(task_id, "claimed", seconds=0.7)
    shift(task_id, "accepted", seconds=0.7)
    found = read(door)
    assert found["sluice_task_start_delay_seconds_bucket", "2.5,data.normal"] == 0
    assert found["sluice_task_start_delay_seconds_bucket", "5.0,data.normal"] == 1
    assert found["sluice_task_start_delay_seconds_count", "data.normal"] == 1
    assert found["sluice_task_start_delay_seconds_sum", "data.normal"] == pytest.approx(3, abs=0.5)
    assert found["sluice_task_run_seconds_bucket", "0.5,test_quick"] == 0
    assert found["sluice_task_run_seconds_bucket", "+Inf,test_quick"] == 1
    assert found["sluice_task_run_seconds_sum", "test_quick"] == pytest.approx(0.7, abs=0.5)


def shift(task_id: str, name: str, *, seconds: float) -> None:
    """Let an event have happened earlier."""
    earlier = text(f"at - INTERVAL {round(seconds * 1_000_000)} MICROSECOND")
    with db.transaction() as connection:
        connection.execute(
            update(events).where(events.c.task_id == task_id, events.c.event == name).values(at=earlier)
        )


def test_what_is_the_case_is_counted(door: FlaskClient) -> None:
    first, _, _ = life.accept(), life.accept(delay_seconds=60), life.accept(priority="low")
    dispatches.mark_dispatched([life.ticket(first)])
    life.let_pass(5)
    life.claim(life.accept(priority="high"))
    found = read(door)
    assert (found["sluice_tasks", "queued"], found["sluice_tasks", "scheduled"]) == (2, 1)
    assert found["sluice_queue_waiting", "data.normal"] == 1
    assert found["sluice_queue_running", "data.high"] == 1
    assert (found["sluice_queue_unsent", "data.normal"], found["sluice_queue_unsent", "data.low"]) == (0, 1)
    assert 5 < found["sluice_queue_oldest_seconds", "data.normal"] < 60
    assert found["sluice_queue_oldest_seconds", "data.high"] == 0


def test_a_branch_in_doubt_is_told_with_its_age(door: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    counting, clock = Counting(), [100.0]
    task_id = life.accept("bulk_insert", {"rows": 3})
    with life.child(life.hit_after("prepare", signal.SIGKILL, life.worker_child(task_id))) as pid:
        life.end_of(pid)
    monkeypatch.setattr("tasks.counting.time.monotonic", lambda: clock[0])
    counting.count()
    clock[0] += 40
    counting.count()
    found = scraped(door.get("/metrics").text)
    assert (found["sluice_in_doubt_branches", "data"], found["sluice_in_doubt_oldest_seconds", "data"]) == (1, 40)
    assert (found["sluice_in_doubt_branches", "archive"], found["sluice_database_reachable", "archive"]) == (0, 1)
    life.rounds_until(lambda: not life.in_doubt())
    clock[0] += 40
    counting.count()
    assert scraped(door.get("/metrics").text)["sluice_in_doubt_oldest_seconds", "data"] == 0


def test_of_a_database_that_is_away_nothing_is_told(database_away: str) -> None:
    found = read(door_for())
    assert found["sluice_database_reachable", "data"] == 1
    assert found.get(("sluice_database_reachable", database_away), 0) == 0
    assert ("sluice_in_doubt_branches", database_away) not in found


def test_lost_moves_and_leases_are_counted(door: FlaskClient) -> None:
    task_id = life.accept()
    life.claim(task_id)
    assert transitions.claim(task_id, 1, worker="another", lease_seconds=60) is None
    life.let_pass(100)
    resolve.expire_leases()
    assert not transitions.renew(task_id, 1, lease_seconds=60)
    assert not transitions.finish(task_id, 1)
    paused = transitions.claim(life.accept(delay_seconds=60), 1, worker="another", lease_seconds=60)
    found = read(door)
    lost = {labels: value for (name, labels), value in found.items() if name == "sluice_lost_moves_total" and value}
    assert (paused, lost) == (None, {"claimed": 1, "renewed": 1, "finished": 1})
    assert found["sluice_lease_expiries_total", ""] == 1


def test_figures_that_nobody_counts_any_more_are_left_out(door: FlaskClient) -> None:
    life.accept()
    assert read(door)["sluice_tasks", "queued"] == 1
    with db.transaction() as connection:
        connection.execute(update(models.figures).values(counted_at=db.earlier(130)))
    found = scraped(door.get("/metrics").text)
    assert ("sluice_tasks", "queued") not in found
    assert 130 <= found["sluice_figures_age_seconds", ""] < 200


def test_figures_without_the_ledger_are_refused(configured: Callable[..., None]) -> None:
    configured(LEDGER_DATABASE_URL=NO_DATABASE)
    answer = door_for().get("/metrics")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_a_scrape_reads_a_few_short_tables_only(door: FlaskClient) -> None:
    read(door)
    with asked() as statements:
        door.get("/metrics")
    assert 0 < len(statements) < 15
    assert not [each for each in statements if " tasks" in each or "task_events" in each or "deliveries" in each]


@contextmanager
def asked() -> Iterator[list[str]]:
    """The statements that the ledger is asked in a block."""
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *more: object) -> None:
        statements.append(statement)

    event.listen(db.ledger(), "before_cursor_execute", note)
    yield statements
    event.remove(db.ledger(), "before_cursor_execute", note)


def test_a_long_count_is_followed_by_a_long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("tasks.counting.time.monotonic", lambda: clock[0])
    live = backlog.live

    def slow() -> dict[tuple[str, str], int]:
        clock[0] += 2
        return live()

    monkeypatch.setattr(backlog, "live", slow)
    counting = Counting()
    for _ in range(10):
        counting.count()
        clock[0] += 1
    assert clock[0] == 112, "counted once"


# --- requests ------------------------------------------------------------------------------------------------------


def test_requests_are_counted_over_all_processes(servers: object, free_port: int) -> None:
    def get(path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{free_port}{path}", headers={"X-API-Key": MASTER.words}, timeout=10)

    with serving(free_port, processes=3) as (master, _):
        [folder] = Path("/dev/shm").glob(f"sluice-counts-*-{master.pid}")
        statuses: list[int] = []

        def several_answered() -> bool:
            with ThreadPoolExecutor(6) as clients:
                statuses.extend(clients.map(lambda _: get("/api/tasks/none").status_code, range(60)))
            return len(list(folder.glob("histogram_*.db"))) > 1

        eventually(several_answered, what="another process than the first to answer")
        assert set(statuses) == {404}
        for _ in range(5):  # whichever is asked
            found = scraped(get("/metrics").text)
            assert found["sluice_http_request_seconds_count", "GET,/api/tasks/<task_id>,404"] == len(statuses)
        master.terminate()
        master.wait(20)
    assert not folder.exists()


def test_a_request_that_cannot_be_counted_is_answered(door: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*labels: object) -> None:
        raise FileNotFoundError("the folder of the counts")

    monkeypatch.setattr(timing.SECONDS, "labels", gone)
    assert door.get("/livez").status_code == 200


def test_what_clients_make_up_makes_no_series(door: FlaskClient) -> None:
    door.open("/made/up", method="BREW")
    found = scraped(door.get("/metrics").text)
    assert found["sluice_http_request_seconds_count", "other,other,404"] >= 1
    assert not [labels for _, labels in found if "BREW" in labels or "made" in labels]


def test_no_figure_names_a_task_or_an_owner(door: FlaskClient) -> None:
    task_id = life.accept()
    life.work(task_id)
    read(door)
    answer = door.get("/metrics").text
    assert task_id not in answer
    assert not any(label in answer for label in ("owner=", "task_id=", "tests"))
    assert State.QUEUED in answer
    assert tasks.name in answer


# --- the reference ---------------------------------------------------------------------------------------------------

DOCUMENTED = re.compile(r"^\| `(sluice_\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)


def test_the_reference_lists_what_is_exported(door: FlaskClient) -> None:
    life.work(life.accept())
    read(door)
    leadership.claim("host:1")
    door.get("/livez")
    told = families(door.get("/metrics").text)
    idle = SimpleNamespace(pool=None, beats=SimpleNamespace(reaches_broker=True, is_leaving=False))
    for each in (*metrics.OF_MONITOR, metrics.OfWorker(idle)):
        labels = getattr(each, "_labelnames", ())
        told |= {family.name: (family.type, labels) for family in each.collect()}
    told |= {"sluice_worker_tickets": ("counter", metrics.TICKETS._labelnames)}
    text = (CHECKOUT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    listed = {
        name.removesuffix("_total"): (kind, tuple(sorted(re.findall(r"`(\w+)`", labels))))
        for name, kind, labels in DOCUMENTED.findall(text)
    }
    assert {name: (kind, tuple(sorted(labels))) for name, (kind, labels) in told.items()} == listed


def families(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        family.name: (family.type, tuple(name for name in family.samples[0].labels if name != "le"))
        for family in text_string_to_metric_families(text)
        if family.samples and not family.name.endswith("_created")
    }
