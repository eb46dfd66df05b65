"""The commands about tasks: submit, follow to the end, stop, look, try again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, NoReturn, get_args

import click

from cli import asking, screen
from cli.door import on_service
from cli.exits import OF_STATE, OF_VERDICT, Exit
from cli.screen import Screen, tell_json
from client.answers import Priority, State, Task
from client.following import END, Event
from client.sluice import STOP_WAIT_SECONDS, Sluice

as_json = click.option("--json", "as_json", is_flag=True, help="For programs: the answer as JSON, one object a line.")
one_task = click.argument("task_id", metavar="TASK", type=asking.TaskId())
one_of_priorities = click.Choice(get_args(Priority))


@click.command()
@on_service
@click.argument("task_type", metavar="TYPE")
@click.argument("words", nargs=-1, metavar="[NAME=TEXT | NAME:=JSON]...")
@click.option("--parameters", "whole", metavar="JSON", help="All parameters; @FILE reads them, - reads stdin.")
@click.option("--priority", type=one_of_priorities, help="Which queue of its worker.  [default: normal]")
@click.option("--delay", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait so long before it may start.")
@click.option("--run-at", type=asking.Moment(), help="Not before this time, such as 2026-01-31T12:00:00Z.")
@click.option("--expires-in", type=float, metavar="SECONDS", help="Do not start it any more after that.")
@click.option("--max-retries", type=int, help="How often it is tried again.")
@click.option("--timeout", type=int, metavar="SECONDS", help="How long one attempt may take.")
@click.option("--depends-on", type=asking.TaskId(), multiple=True, help="Only after that task; may be given again.")
@click.option(
    "--on-parent-failure", type=click.Choice(["fail", "ignore"]), help="When one of those does not succeed."
)
@click.option("--tag", "tags", multiple=True, help="A word to find it by; may be given again.")
@click.option("--key", help="Idempotency key: the same call with it may be made again, and is accepted once.")
@click.option("--watch", "and_watch", is_flag=True, help="Follow it to its end, as `sluice watch` does.")
@as_json
def submit(
    service: Sluice,
    task_type: str,
    words: tuple[str, ...],
    whole: str | None,
    key: str | None,
    and_watch: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Have a task done; prints its id.

    Parameters are written NAME=TEXT, or NAME:=JSON for numbers, lists and objects.

    \b
      sluice submit data_processing data="test data" --priority high
      sluice submit email_sending to=recipient@example.com --delay 60
      sluice submit bulk_insert rows:=100000 --watch
      sluice submit csv_import --parameters @import.json
      TASK=$(sluice submit file_processing filename=your_file.txt)
    """
    terms: Any = {name: value for name, value in more.items() if value not in (None, ())}
    accepted = service.submit(task_type, asking.parameters(words, whole), key=key, **terms)
    if as_json:
        tell_json(accepted)
    else:
        # The id alone, so that $(...) of a shell gets it; the words are for people.
        click.echo(accepted["message"], err=True)
        click.echo(accepted["task_id"])
    if and_watch:
        follow(service, accepted["task_id"], after=0, as_json=as_json)


@click.command()
@on_service
@one_task
@as_json
def get(service: Sluice, task_id: str, as_json: bool) -> None:
    """Show a task as it stands."""
    task = service.get(task_id)
    if as_json:
        tell_json(task)
    else:
        screen.show(Screen(), task)


@click.command()
@on_service
@one_task
@click.option("--seconds", type=click.FloatRange(min=0), help="Give up after that; exit code 5.")
@as_json
def wait(service: Sluice, task_id: str, seconds: float | None, as_json: bool) -> None:
    """Wait for the end of a task; the exit code says how it ended.

    Where the standard error is a terminal, a bar shows there how far it is.

    \b
      sluice wait $TASK && echo done
      sluice wait $TASK --seconds 60 --json | jq .result
    """
    aside = Screen(aside=True)
    with leaving_it_alone(task_id), aside.bar(task_id) as bar:
        task = service.wait(task_id, seconds=seconds, tell=bar.show if aside.is_terminal else None)
    conclude(task, as_json=as_json)


@click.command()
@on_service
@one_task
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only what happened after the event of this id.")
@as_json
def watch(service: Sluice, task_id: str, after: int, as_json: bool) -> None:
    """Follow a task to its end; Ctrl-C leaves it alone.

    On a terminal with a bar. A line that is cut is taken up again where it was.
    """
    follow(service, task_id, after=after, as_json=as_json)


def follow(service: Sluice, task_id: str, *, after: int, as_json: bool) -> None:
    with leaving_it_alone(task_id):
        tell = tell_events_as_json if as_json else tell_events
        tell(task_id, service.watch(task_id, after=after))
        task = service.get(task_id)
    if as_json:
        leave(task)
    conclude(task, as_json=False)


def tell_events_as_json(_: str, events: Iterator[Event]) -> None:
    for event in events:
        tell_json({"id": event.id, "event": event.name, "data": event.data})


def tell_events(task_id: str, events: Iterator[Event]) -> None:
    on_screen = Screen()
    with on_screen.bar(task_id) as bar:
        for event in events:
            said: Any = event.data
            if event.name == "progress":
                bar.move(said)
            elif event.name != END:
                words = f"{said['state']:<10}  {said['event']:<12}  {said['remark'] or ''}".rstrip()
                on_screen.state(f"{screen.moment(said['at'])}  {words}", said["state"])


@contextmanager
def leaving_it_alone(task_id: str) -> Iterator[None]:
    """Ctrl-C ends the looking, not the task."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            f"\nNot looking any more; the task goes on. `sluice watch {task_id}` looks again, "
            f"`sluice stop {task_id}` stops it.",
            err=True,
        )
        sys.exit(Exit.INTERRUPTED)


def conclude(task: Task, *, as_json: bool) -> None:
    """Tell how a task ended, and leave with the code that says so."""
    if as_json:
        tell_json(task)
    else:
        screen.show(Screen(), task)
    leave(task)


def leave(task: Task) -> NoReturn:
    """A task that was replayed since its end is not over."""
    sys.exit(OF_STATE.get(task["state"], Exit.NOT_OVER))


@click.command()
@on_service
@one_task
@click.option(
    "--wait",
    "wait_seconds",
    type=click.IntRange(0, 30),
    default=STOP_WAIT_SECONDS,
    show_default=True,
    help="Seconds to wait for the undoing.",
)
@as_json
def stop(service: Sluice, task_id: str, wait_seconds: int, as_json: bool) -> None:
    """Take a task back; the verdict says what became of it.

    \b
      stopped_before_start   exit code 0   no attempt was running, and none will
      rolled_back            exit code 0   it was running; all of it was undone
      stopping               exit code 5   nothing of it will stay; the undoing goes on
      already_finished       exit code 6   it had ended before
      too_late_committed     exit code 6   its effects stay
    """
    verdict = service.stop(task_id, wait=wait_seconds)
    if as_json:
        tell_json(verdict)
    else:
        on_screen = Screen()
        on_screen.state(f"{verdict['verdict']}: {verdict['message']}", verdict["state"])
        counts = {name: verdict.get(name) for name in ("rows_undone", "rows_remaining")}
        on_screen.facts(
            {"state": verdict["state"]}
            | {name.replace("_", " "): f"{count:,}" for name, count in counts.items() if isinstance(count, int)}
        )
    sys.exit(OF_VERDICT[verdict["verdict"]])


def filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say which tasks."""
    for option in (
        click.option("--error", help="Only with this in the type or message of the error."),
        click.option("--schedule", metavar="ID", help="Only those that this schedule submitted."),
        click.option("--tag", multiple=True, help="Only with this tag; of several, with all of them."),
        click.option("--finished-before", type=asking.Moment(), help="Only those that ended before this time."),
        click.option("--finished-after", type=asking.Moment(), help="Only those that ended after this time."),
        click.option("--created-before", type=asking.Moment(), help="Only those submitted before this time."),
        click.option("--created-after", type=asking.Moment(), help="Only those submitted after this time."),
        click.option("--priority", type=one_of_priorities, multiple=True, help="Only of this priority."),
        click.option("--type", "task_type", multiple=True, help="Only of this type; may be given again."),
        click.option(
            "--state", type=click.Choice(get_args(State)), multiple=True, help="Only in this state; may be given again."
        ),
    ):
        command = option(command)
    return command


@click.command("list")
@on_service
@filtered
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--all", "all_of_them", is_flag=True, help="As many as there are.")
@as_json
def list_command(
    service: Sluice,
    limit: int,
    all_of_them: bool,
    as_json: bool,
    state: tuple[State, ...],
    task_type: tuple[str, ...],
    priority: tuple[Priority, ...],
    created_after: datetime | None,
    created_before: datetime | None,
    finished_after: datetime | None,
    finished_before: datetime | None,
    tag: tuple[str, ...],
    schedule: str | None,
    error: str | None,
) -> None:
    """List tasks, the newest first.

    \b
      sluice list --state failed --error timeout
      sluice list --type bulk_insert --created-after 2026-01-31T00:00:00Z
      sluice list --all --json | jq -r .task_id
    """
    wanted: Any = {
        "state": state,
        "task_type": task_type,
        "priority": priority,
        "created_after": created_after,
        "created_before": created_before,
        "finished_after": finished_after,
        "finished_before": finished_before,
        "tag": tag,
        "schedule": schedule,
        "error": error,
    }
    found = service.tasks(page_size=200 if all_of_them else min(limit, 200), **wanted)
    tasks = found if all_of_them else islice(found, limit)
    if as_json:
        for task in tasks:
            tell_json(task)
        return
    rows = [screen.row(task) for task in tasks]
    if rows:
        Screen().table(rows, screen.ROW)
    else:
        click.echo("No task fits.", err=True)


@click.command()
@on_service
@one_task
@as_json
def explain(service: Sluice, task_id: str, as_json: bool) -> None:
    """Say why a task is where it is, and what happens next."""
    said = service.explain(task_id)
    if as_json:
        tell_json(said)
        return
    on_screen = Screen()
    on_screen.state(f"{said['cause']}: {said['sentence']}", said["state"])
    on_screen.line(f"  {said['next']}")
    if said["also"]:
        on_screen.line(f"  Also: {', '.join(said['also'])}.")


@click.command()
@on_service
@one_task
@click.option("--note", default="", help="Why, for whoever reads the task later.")
@as_json
def retry(service: Sluice, task_id: str, note: str, as_json: bool) -> None:
    """Queue a task that failed, was stopped or expired again, under its id."""
    said = service.retry(task_id, note=note)
    if as_json:
        tell_json(said)
    else:
        Screen().line(said["message"])


COMMANDS = (submit, get, wait, watch, stop, list_command, explain, retry)
