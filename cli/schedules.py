"""The commands about schedules: tasks that are submitted again and again."""

from __future__ import annotations

from typing import Any, get_args

import click

from cli import asking
from cli.door import on_service
from cli.screen import Screen, moment, tell_json
from cli.tasks import as_json, one_of_priorities
from client.answers import Misfire, Overlap, Schedule
from client.sluice import Sluice

one_schedule = click.argument("word", metavar="SCHEDULE")


@click.group(invoke_without_command=True)
@on_service
@as_json
def schedules(service: Sluice, as_json: bool) -> None:
    """Show the schedules, and when each comes next.

    \b
      sluice schedules add nightly "30 2 * * *" bulk_insert rows:=1000 --timezone Europe/Berlin
      sluice schedules pause nightly
      sluice list --schedule ID
    """
    if click.get_current_context().invoked_subcommand is None:
        tell(*service.schedules, as_json=as_json)


@schedules.command()
@on_service
@click.argument("name")
@click.argument("cron")
@click.argument("task_type", metavar="TYPE")
@click.argument("words", nargs=-1, metavar="[NAME=TEXT | NAME:=JSON]...")
@click.option("--parameters", "whole", metavar="JSON", help="All parameters; @FILE reads them, - reads stdin.")
@click.option("--timezone", default="UTC", show_default=True, help="The zone of those times, such as Europe/Berlin.")
@click.option("--priority", type=one_of_priorities, help="Of its tasks.  [default: normal]")
@click.option("--tag", "tags", multiple=True, help="A word to find its tasks by; may be given again.")
@click.option("--misfire", type=click.Choice(get_args(Misfire)), default="run_once", help="When ticks were missed.")
@click.option(
    "--overlap", type=click.Choice(get_args(Overlap)), default="allow", help="While one of its tasks has not ended."
)
@as_json
def add(
    service: Sluice,
    name: str,
    cron: str,
    task_type: str,
    words: tuple[str, ...],
    whole: str | None,
    timezone: str,
    misfire: Misfire,
    overlap: Overlap,
    as_json: bool,
    **more: Any,
) -> None:
    """Submit a task at every tick of CRON, under a NAME of its own."""
    task: Any = {"task_type": task_type, "parameters": asking.parameters(words, whole)}
    task |= {field: value for field, value in more.items() if value}
    made = service.schedules.add(
        name, cron, task, timezone=timezone, misfire_policy=misfire, overlap_policy=overlap
    )
    tell(made, as_json=as_json)


@schedules.command()
@on_service
@one_schedule
@as_json
def run(service: Sluice, word: str, as_json: bool) -> None:
    """Submit the task of SCHEDULE now, beside its ticks; prints the task's id."""
    accepted = service.schedules.run(id_of(service, word))
    if as_json:
        tell_json(accepted)
    else:
        click.echo(accepted["message"], err=True)
        click.echo(accepted["task_id"])


@schedules.command()
@on_service
@one_schedule
@as_json
def pause(service: Sluice, word: str, as_json: bool) -> None:
    """Let the ticks of SCHEDULE pass until it is resumed."""
    tell(service.schedules.pause(id_of(service, word)), as_json=as_json)


@schedules.command()
@on_service
@one_schedule
@as_json
def resume(service: Sluice, word: str, as_json: bool) -> None:
    """Let SCHEDULE go on with the next tick from now."""
    tell(service.schedules.resume(id_of(service, word)), as_json=as_json)


@schedules.command()
@on_service
@one_schedule
def remove(service: Sluice, word: str) -> None:
    """Let SCHEDULE submit nothing any more; its tasks stay as they are."""
    service.schedules.remove(id_of(service, word))
    click.echo(f"{word} is gone; the tasks that it submitted stay.", err=True)


def id_of(service: Sluice, word: str) -> str:
    """The schedule of that name or id. A name is its owner's: who sees those of many may find it several times."""
    everything = list(service.schedules)
    found = [each["schedule_id"] for each in everything if word in (each["name"], each["schedule_id"])]
    if not found:
        names = ", ".join(each["name"] for each in everything) or "none"
        raise click.UsageError(f"there is no schedule {word!r}; there are: {names}")
    if len(found) > 1:
        raise click.UsageError(f"several owners have a schedule {word!r}; say which: {', '.join(found)}")
    return found[0]


def tell(*found: Schedule, as_json: bool) -> None:
    if as_json:
        for each in found:
            tell_json(each)
        return
    if not found:
        click.echo("There is no schedule.", err=True)
        return
    rows = [
        (
            each["schedule_id"],
            each["name"],
            each["in_words"],
            each["timezone"],
            moment(each["next_ticks"][0]) if each["next_ticks"] else "paused",
            str(each["task"]["task_type"]),
            f"{each['last']['task_id']} {each['last']['state'] or 'not kept'}" if each["last"] else "",
        )
        for each in found
    ]
    Screen().table(rows, ("schedule", "name", "when", "zone", "next", "type", "last task"))


COMMANDS = (schedules,)
