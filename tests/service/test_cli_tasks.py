"""The commands about tasks against a real door: what they print, and what their exit codes say."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from cli.__main__ import main
from cli.exits import Exit
from client.sluice import KEY, URL
from ledger import presence, transitions
from ledger.callers import Scope
from ledger.states import State
from tests import doors, life, task_types  # noqa: F401  registers the types
from tests.conftest import CHECKOUT
from tests.doors import MASTER
from tests.service.sockets import Door, open_door

real_door = pytest.fixture(open_door)
UNKNOWN = "019aa5c0-0000-7000-8000-000000000001"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Said]


@pytest.fixture
def sluice(real_door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, for somebody who may do everything."""
    monkeypatch.setenv(URL, real_door.url)
    monkeypatch.setenv(KEY, MASTER.words)

    def run(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        told = capsys.readouterr()
        return Said(int(left.value.code or 0), told.out, told.err)

    return run


@contextmanager
def started(*arguments: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own, which does not outlive the block."""
    # Whoever runs the tests in the background may ignore Ctrl-C, and what is ignored is inherited.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "cli", *arguments]
    with subprocess.Popen(command, cwd=CHECKOUT, text=True, **{"stderr": subprocess.PIPE} | how) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_submission_prints_its_id_and_nothing_else(sluice: Command) -> None:
    said = sluice("submit", "data_processing", "data=007", "top:=3", "--priority", "high", "--delay", "60")
    row = life.task(said.out.strip())
    assert (said.code, row.parameters, row.priority, row.state) == (
        Exit.DONE,
        {"data": "007", "top": 3},
        "high",
        State.SCHEDULED,
    )
    assert "Will start in 60 seconds" in said.err


def test_a_submission_under_ones_own_key_may_be_made_again(sluice: Command) -> None:
    ids = {sluice("submit", "test_quick", "--key", "mine").out for _ in range(2)}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State.SUCCEEDED, Exit.DONE),
        (State.FAILED, Exit.FAILED),
        (State.REVOKED, Exit.STOPPED),
        (State.EXPIRED, Exit.STOPPED),
    ],
)
@pytest.mark.parametrize("command", ["wait", "watch"])
def test_the_exit_code_says_how_a_task_ended(command: str, state: State, code: Exit, sluice: Command) -> None:
    task_id = life.accept()
    life.put(task_id, state=state)
    said = sluice(command, task_id)
    assert (said.code, f"{task_id} {state}" in said.out) == (code, True)


def test_what_is_not_over_in_time_has_a_code_of_its_own(sluice: Command) -> None:
    said = sluice("wait", life.accept(), "--seconds", "0")
    assert said.code == Exit.NOT_OVER
    assert "still queued" in said.err


def test_a_stop_tells_its_verdict(sluice: Command) -> None:
    task_id = life.accept()
    first, second = sluice("stop", task_id), sluice("stop", task_id, "--json")
    assert (first.code, first.out.partition(":")[0]) == (Exit.DONE, "stopped_before_start")
    assert (second.code, second.objects[0]["verdict"]) == (Exit.TOO_LATE, "already_finished")
    running = life.accept()
    life.claim(running)
    third = sluice("stop", running, "--wait", "0")
    assert (third.code, third.out.partition(":")[0]) == (Exit.NOT_OVER, "stopping")


def test_tasks_are_listed_the_newest_first(sluice: Command) -> None:
    ids = [life.accept() for _ in range(3)]
    lines = sluice("list", "--limit", "2").out.splitlines()
    assert [line.split()[0] for line in lines] == ["task", ids[2], ids[1]]
    assert [task["task_id"] for task in sluice("list", "--all", "--json").objects] == ids[::-1]
    assert sluice("list", "--state", "failed", "--json").out == ""


def test_why_a_task_waits_is_said_in_a_sentence(sluice: Command) -> None:
    said = sluice("explain", life.accept(delay_seconds=3600))
    assert (said.code, said.out.partition(":")[0]) == (Exit.DONE, "waits_for_time")


def test_a_task_is_tried_again_once_it_is_over(sluice: Command) -> None:
    task_id = life.accept()
    assert sluice("retry", task_id).code == Exit.TOO_LATE
    sluice("stop", task_id)
    assert "queued again" in sluice("retry", task_id, "--note", "once more").out


def test_queues_and_workers_are_shown(sluice: Command) -> None:
    presence.arrive(life.said())
    assert "2" in sluice("workers").out
    assert sluice("workers", "--json").objects[0]["name"] == life.WORKER
    assert sluice("queues", "pause", "data", "--reason", "a test").out.count("a test") == 3
    assert len(sluice("queues").out.splitlines()) == 10
    assert "There is no limit." in sluice("limits").err
    assert "a test" not in sluice("queues", "resume", "data").out


def test_a_schedule_is_added_run_paused_and_removed(sluice: Command) -> None:
    added = sluice("schedules", "add", "nightly", "30 2 * * *", "bulk_insert", "rows:=7", "--tag", "night")
    assert (added.code, "nightly" in added.out, "02:30:00 UTC" in added.out) == (Exit.DONE, True, True)
    task = life.task(sluice("schedules", "run", "nightly").out.strip())
    assert (task.task_type, task.parameters) == ("bulk_insert", {"rows": 7})
    assert "paused" in sluice("schedules", "pause", "nightly").out
    assert "paused" not in sluice("schedules", "resume", "nightly").out
    [kept] = sluice("schedules", "--json").objects
    assert (kept["name"], kept["task"]["tags"]) == ("nightly", ["night"])
    assert sluice("schedules", "remove", kept["schedule_id"]).code == Exit.DONE
    assert sluice("schedules").out == ""


def test_a_schedule_that_is_taken_or_wrong_is_told(sluice: Command) -> None:
    add = ("schedules", "add", "nightly")
    assert sluice(*add, "30 2 * * *", "test_quick").code == Exit.DONE
    assert sluice(*add, "30 2 * * *", "test_quick").code == Exit.TOO_LATE
    assert sluice("schedules", "add", "other", "30 2 * *", "test_quick").code == Exit.USAGE
    assert "there are: nightly" in sluice("schedules", "pause", "weekly").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("submit", "test_quik"), "did you mean 'test_quick'"),
        (("submit", "email_sending"), "to is required"),
        (("submit", "bulk_insert", "rows=many"), "rows"),
        (("submit", "bulk_insert", "rows:=many"), "no JSON"),
        (("submit", "bulk_insert", "rows"), "name=text"),
        (("submit", "bulk_insert", "--parameters", "[]"), "no object"),
        (("submit", "bulk_insert", "--run-at", "2026-01-31T12:00:00"), "no zone"),
        (("submit", "bulk_insert", "--key", "a\nb"), "cannot be sent"),
        (("get", UNKNOWN), "no task has the id"),
        (("get", ""), "empty"),
        (("queues", "pause", "dta.low"), "data.low"),
        (("list", "--state", "done"), "succeeded"),
        (("lst",), "list"),
    ],
)
def test_what_is_wrong_is_a_sentence_with_the_way_out(
    arguments: tuple[str, ...], words: str, sluice: Command
) -> None:
    said = sluice(*arguments)
    assert (said.code, said.out) == (Exit.USAGE, "")
    assert words in said.err
    assert "Traceback" not in said.err


def test_each_of_several_faults_has_its_line(sluice: Command) -> None:
    said = sluice("submit", "email_sending", "to=x", "body:=1")
    lines = [line.strip().partition(":")[0] for line in said.err.splitlines() if line]
    assert lines == ["✗ Validation failed", "parameters/to", "parameters/body"]


def test_a_key_that_opens_nothing_is_told(sluice: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, doors.key("ada", Scope.READ))
    refused = sluice("submit", "test_quick")
    assert (refused.code, "lacks the scope 'write'" in refused.err) == (Exit.NOT_ALLOWED, True)
    monkeypatch.setenv(KEY, "sluice_00000000_wrong")
    assert sluice("list").code == Exit.NOT_ALLOWED


def test_a_service_that_is_not_there_is_told(
    sluice: Command, real_door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.door.PATIENCE_SECONDS", 0.1)
    real_door.kill()
    said = sluice("list")
    assert (said.code, "nobody answers at" in said.err) == (Exit.AWAY, True)


def test_a_tasks_words_do_not_steer_the_terminal(sluice: Command) -> None:
    task_id = life.accept("data_processing", {"data": "\x9b31m"})
    life.put(task_id, state=State.FAILED, error={"type": "X", "message": "\x1b]0;mine\x07"})
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", sluice("get", task_id).out + sluice("list").out)


def test_ctrl_c_leaves_the_task_alone(sluice: Command) -> None:
    task_id = life.accept()
    with started("watch", task_id, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert "queued" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=15)
    assert process.returncode == Exit.INTERRUPTED
    assert "the task goes on" in told
    assert "Traceback" not in told
    assert life.state(task_id) is State.QUEUED


def test_a_watch_outlives_the_door(sluice: Command, real_door: Door) -> None:
    task_id = life.accept()
    with started("watch", task_id, "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        real_door.kill()
        life.work(task_id)
        real_door.open()
        rest, _ = process.communicate(timeout=30)
    told = [json.loads(line)["event"] for line in (first + rest).splitlines()]
    assert told == ["task.queued", "task.running", "task.succeeded", "end"]
    assert process.returncode == Exit.DONE


def test_a_terminal_gets_a_bar_and_colours(sluice: Command) -> None:
    task_id = life.accept()
    life.claim(task_id)
    transitions.renew(task_id, 1, lease_seconds=60, done=1, total=4)
    with terminal() as (ours, theirs), started("watch", task_id, stdout=theirs, env=xterm()) as process:
        os.close(theirs)
        shown = read_until(ours, "1 of 4")
        transitions.finish(task_id, 1, result={})
        shown += read_until(ours, "result")
        assert process.wait(15) == Exit.DONE
    assert "\x1b[" in shown
    assert "\x1b" not in sluice("watch", task_id).out


def test_a_wait_shows_its_bar_beside_the_answer(sluice: Command) -> None:
    task_id = life.accept()
    life.claim(task_id)
    transitions.renew(task_id, 1, lease_seconds=60, done=1, total=4)
    with (
        terminal() as (ours, theirs),
        started("wait", task_id, "--json", stdout=subprocess.PIPE, stderr=theirs, env=xterm()) as process,
    ):
        os.close(theirs)
        read_until(ours, "1 of 4")
        transitions.renew(task_id, 1, lease_seconds=60, done=3, total=4)
        read_until(ours, "3 of 4")
        transitions.finish(task_id, 1, result={"answer": 42})
        answer, _ = process.communicate(timeout=15)
    assert (process.returncode, json.loads(answer)["result"]) == (Exit.DONE, {"answer": 42})
    assert sluice("wait", task_id, "--json").err == ""


def test_a_table_fits_into_a_narrow_terminal_and_a_pipe_gets_lines(sluice: Command) -> None:
    task_id = life.accept("data_processing")
    life.put(task_id, state=State.FAILED, error={"type": "Trouble", "message": "the disk is full, " * 9})
    sluice("queues", "pause", "data.low", "--reason", "until six")
    for command, words in (("list", "the disk is full"), ("queues", "until six")):
        with terminal() as (ours, theirs), started(command, stdout=theirs, env=xterm()) as process:
            os.close(theirs)
            shown = read_until(ours, words)
            assert process.wait(15) == Exit.DONE
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).splitlines()
        assert max(map(len, lines)) <= 80, lines
        assert len(sluice(command).out.splitlines()) == (2 if command == "list" else 10)


def xterm() -> dict[str, str]:
    return os.environ | {"TERM": "xterm"}


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Our end and theirs of a narrow one; ours is closed in the end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def read_until(terminal: int, words: str) -> str:
    """What a terminal has shown, once the words were among it."""
    shown, until = "", time.monotonic() + 15
    while words not in shown:
        assert time.monotonic() < until, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode("utf-8", "replace")
    return shown


def test_every_exit_code_is_in_the_manual() -> None:
    page = (CHECKOUT / "docs" / "howto" / "command-line.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == set(Exit)
