"""The commands about those who do the work: queues, pausing them, limits, and workers."""

from __future__ import annotations

from collections.abc import Iterable

import click

from cli.door import on_service
from cli.screen import Screen, moment, tell_json
from cli.tasks import as_json
from client.answers import Queue
from client.sluice import Sluice


@click.group(invoke_without_command=True)
@on_service
@as_json
def queues(service: Sluice, as_json: bool) -> None:
    """Show what waits and runs in each queue.

    \b
      sluice queues pause data.low --reason "the archive is being moved"
      sluice queues resume data.low
    """
    if click.get_current_context().invoked_subcommand is None:
        tell(service.queues(), as_json=as_json)


@queues.command()
@on_service
@click.argument("queue")
@click.option("--reason", help="Why, for those who wonder.")
@as_json
def pause(service: Sluice, queue: str, reason: str | None, as_json: bool) -> None:
    """Let no task of QUEUE start (`data.low`), or of all queues of a kind of worker (`data`)."""
    said = service.pause(queue, reason=reason)
    click.echo(said["message"], err=True)
    tell(said["items"], as_json=as_json)


@queues.command()
@on_service
@click.argument("queue")
@as_json
def resume(service: Sluice, queue: str, as_json: bool) -> None:
    """Let the tasks of QUEUE start again."""
    said = service.resume(queue)
    click.echo(said["message"], err=True)
    tell(said["items"], as_json=as_json)


def tell(found: Iterable[Queue], *, as_json: bool) -> None:
    if as_json:
        for each in found:
            tell_json(each)
        return
    rows = [
        (
            each["name"],
            *(str(each[name]) for name in ("ready", "running", "scheduled", "retrying", "throttled", "workers")),
            "" if each["oldest_seconds"] is None else f"{each['oldest_seconds']:.0f} s",
            _pause(each),
        )
        for each in found
    ]
    Screen().table(rows, ("queue", "ready", "running", "scheduled", "retrying", "throttled", "workers", "oldest", ""))


def _pause(queue: Queue) -> str:
    if queue["paused_at"] is None:
        return ""
    reason = f": {queue['pause_reason']}" if queue["pause_reason"] else ""
    return f"paused since {moment(queue['paused_at'])}{reason}"


@click.command()
@on_service
@as_json
def limits(service: Sluice, as_json: bool) -> None:
    """Show the limits on types and owners, and what is taken under them."""
    found = service.limits()
    if as_json:
        for each in found:
            tell_json(each)
        return
    if not found:
        click.echo("There is no limit.", err=True)
        return
    rows = [
        (
            f"{each['subject']} {each['name']}",
            _taken(each["running"], each["most_running"]),
            _taken(each["starts"], each["starts_per_minute"]),
            str(each["waiting"]),
        )
        for each in found
    ]
    Screen().table(rows, ("limit", "running", "started within a minute", "waiting"))


def _taken(number: int, most: int | None) -> str:
    return "no bound" if most is None else f"{number} of {most}"


@click.command()
@on_service
@as_json
def workers(service: Sluice, as_json: bool) -> None:
    """Show who works, and at what."""
    found = service.workers()
    if as_json:
        for each in found:
            tell_json(each)
        return
    if not found:
        click.echo("No worker was heard of within the last seconds.", err=True)
        return
    rows = [
        (
            each["name"],
            f"{each['concurrency'] - each['free']} of {each['concurrency']}",
            "leaving" if each["leaving"] else "well" if each["reaches_broker"] else "cut off from RabbitMQ",
            f"{each['seen_seconds_ago']:.0f} s ago",
            ", ".join(f"{task['task_type']} {task['task_id']}" for task in each["running"]),
        )
        for each in found
    ]
    Screen().table(rows, ("worker", "busy", "state", "seen", "at work on"))


COMMANDS = (queues, limits, workers)
