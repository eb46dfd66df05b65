"""The operator's commands on limits: `python -m ledger limits --help`."""

from __future__ import annotations

import click
from sqlalchemy import select

from ledger import db, keys, limits
from ledger.limits import Limit, Subject, Whose
from ledger.models import tasks
from ledger.telling import json_option, refusals, table, tell

_subject = click.argument("subject", type=click.Choice([each.value for each in Subject]))
_name = click.argument("name")


@click.group("limits")
def commands() -> None:
    """Bounds how many tasks of a type, or of an owner, run at once and start within a minute.

    \b
      python -m ledger limits set type bulk_insert --most-running 3
      python -m ledger limits set owner ada --most-running 10 --starts-per-minute 100
    """


@commands.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show every limit, what is taken under it, and how many tasks wait."""
    with refusals():
        found = [use.told() | {"waiting": waiting} for use, waiting in limits.listed()]
    lines = table(list(_HEADING), [tuple(each[name] for name in _HEADING) for each in found]) if found else ["none"]
    tell({"limits": found}, lines, as_json=as_json)


_HEADING = ("subject", "name", "most_running", "running", "starts_per_minute", "starts", "waiting")


@commands.command("set")
@_subject
@_name
@click.option("--most-running", type=click.IntRange(0, limits.MOST), help="0 lets none start.  [default: no bound]")
@click.option("--starts-per-minute", type=click.IntRange(1, limits.MOST), help="[default: no bound]")
def set_(subject: str, name: str, most_running: int | None, starts_per_minute: int | None) -> None:
    """Set a limit, in the place of one that is there. Workers heed it at once; what runs goes on."""
    if most_running is None and starts_per_minute is None:
        raise click.UsageError("give --most-running, --starts-per-minute or both; `limits remove` takes a limit away")
    whose = _checked(Subject(subject), name)
    with refusals():
        limits.put(Limit(whose, most_running, starts_per_minute))
        is_known = _has_tasks(whose)
    click.echo(f"set for {subject} {name}")
    if not is_known:
        click.echo(f"no task of this {subject} has been accepted yet: is the name spelt right?", err=True)


def _checked(subject: Subject, name: str) -> Whose:
    if subject is Subject.OWNER and not keys.is_owner(name):
        raise click.UsageError(f"{name!r}: {keys.OWNERS}")
    if not (name.isascii() and 0 < len(name) <= 64):
        raise click.UsageError(f"{name!r} is no name of a task type")
    return Whose(subject, name)


def _has_tasks(whose: Whose) -> bool:
    column = tasks.c.task_type if whose.subject is Subject.TYPE else tasks.c.owner
    with db.reading() as connection:
        return connection.execute(select(tasks.c.id).where(column == whose.name).limit(1)).first() is not None


@commands.command()
@_subject
@_name
def remove(subject: str, name: str) -> None:
    """Take a limit away; what waits for a place under it is let in."""
    with refusals():
        done = name.isascii() and limits.remove(Whose(Subject(subject), name))
    if not done:
        raise click.ClickException(f"there is no limit of {subject} {name!r}; `limits list` shows them")
    click.echo(f"{subject} {name} is not limited any more")
