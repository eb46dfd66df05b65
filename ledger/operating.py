"""The operator's commands that look at tasks and act on them: reconcile, in-doubt, replay, resolve."""

from __future__ import annotations

import getpass
import os
import sys
from typing import Any

import click

import broker_counts
from broker_counts import BrokerSilent, Held
from ledger import db, filters, queries, reconcile, replay, xa
from ledger.filters import BadFilter, Filter
from ledger.reconcile import Sum, Waiting
from ledger.states import State
from ledger.telling import json_option, refusals, table, tell
from ledger.xa import BranchId


@click.command("reconcile")
@json_option
def reconcile_command(as_json: bool) -> None:
    """Add up what was accepted; exit code 1 when something is missing.

    For each task type: accepted = over + alive. For each queue: every queued task has its ticket in RabbitMQ. The
    second needs RABBITMQ_MANAGEMENT_URL; without it only the first is looked at.
    """
    with refusals():
        sums = reconcile.sums()
        queues = reconcile.waiting(2 * broker_counts.LAG_SECONDS)
    try:
        held = broker_counts.held()
    except BrokerSilent as error:
        raise click.ClickException(str(error)) from None
    types = [_of_type(each) for each in sums]
    names = sorted({*queues, *(held or {})})
    compared = [_of_queue(name, queues.get(name, Waiting()), held) for name in names]
    is_whole = not any(each["missing"] for each in types) and not any(each["lost"] for each in compared)
    document = {"ok": is_whole, "broker_asked": held is not None, "types": types, "queues": compared}
    lines = [
        *table(["type", "accepted", "over", "alive", "missing", "states"], [_row_of_type(each) for each in types]),
        "",
        *table(["queue", "queued", "active", "ready", "unacked", "lost"], [tuple(each.values()) for each in compared]),
    ]
    if held is None:
        lines.append("RabbitMQ was not asked: RABBITMQ_MANAGEMENT_URL is not set")
    tell(document, lines, as_json=as_json)
    sys.exit(0 if is_whole else 1)


def _of_type(each: Sum) -> dict[str, Any]:
    return {
        "task_type": each.task_type,
        "accepted": each.accepted,
        "over": each.terminal,
        "alive": each.live,
        "missing": each.missing,
        "states": dict(each.states),
    }


def _row_of_type(each: dict[str, Any]) -> tuple[object, ...]:
    states = ", ".join(f"{number} {state}" for state, number in each["states"].items())
    return *list(each.values())[:-1], states


def _of_queue(name: str, waiting: Waiting, held: dict[str, Held] | None) -> dict[str, Any]:
    broker = None if held is None else held.get(name, Held(0, 0))
    return {
        "queue": name,
        "queued": waiting.queued,
        "active": waiting.active,
        "ready": broker and broker.ready,
        "unacked": broker and broker.unacked,
        "lost": broker and waiting.lost(ready=broker.ready, unacked=broker.unacked),
    }


@click.command("in-doubt")
@json_option
def in_doubt(as_json: bool) -> None:
    """List the prepared branches that wait for their decision to be carried out."""
    with refusals():
        found = [_doubt(branch) for name in db.data_names() for branch in xa.recover(name)]
    heading = ["database", "task", "attempt", "state", "at attempt", "for s", "what the row says"]
    lines = table(heading, [tuple(each.values()) for each in found]) if found else ["none"]
    tell({"branches": found}, lines, as_json=as_json)


def _doubt(branch: BranchId) -> dict[str, Any]:
    """The age is that of the row's last move: a database does not tell when a branch was prepared."""
    row = queries.standing(branch.task_id)
    return {
        "database": branch.database,
        "task_id": branch.task_id,
        "attempt": branch.attempt,
        "state": row and row.state,
        "row_attempt": row and row.attempt,
        "idle_seconds": row and round(row.idle_seconds, 1),
        "fate": "no such task" if row is None else _fate(row.state, is_its_own=row.attempt == branch.attempt),
    }


def _fate(state: State, *, is_its_own: bool) -> str:
    if is_its_own and state in (State.COMMITTING, State.SUCCEEDED):
        return "commit"
    return "not decided" if is_its_own and state is State.RUNNING else "roll back"


@click.command("replay")
@click.argument("task_id", required=False)
@click.option(
    "--filter", "words", multiple=True, metavar="NAME=VALUE", help="Instead of an id: all that fit. May be repeated."
)
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--note", default="", help="Why, for whoever reads the task later.")
@json_option
def replay_command(task_id: str | None, words: tuple[str, ...], dry_run: bool, note: str, as_json: bool) -> None:
    """Queue a task that failed, was stopped or expired again, or all that fit, at most 1,000 with one call.

    Filters: state (failed, unless another is given), task_type, priority, tag (of several, all), created_after,
    created_before, finished_after, finished_before, error (a part of its type or message), resolved=1, uncertain=1. The
    monitor sends the tickets within some seconds.
    """
    if bool(task_id) == bool(words):
        raise click.UsageError("give either a task's id or --filter, such as --filter state=failed")
    with refusals():
        document = _replay_one(task_id, note, dry_run) if task_id else _replay_many(words, note, dry_run)
    more = "; more remain, call again" if document.get("more") else ""
    said = f"{document['matching']} would be queued again" if dry_run else f"{document['replayed']} queued again{more}"
    tell(document, [said], as_json=as_json)


def _replay_one(task_id: str, note: str, dry_run: bool) -> dict[str, Any]:
    state = queries.state(task_id)
    if not dry_run:
        found = replay.replay(task_id, by=_who(), note=note)
        if found and found[1]:
            return {"replayed": 1, "more": False, "task_ids": [task_id]}
        state = found[0] if found else None
    if state is None:
        raise click.ClickException(f"no task has the id {task_id!r}")
    if dry_run and state in replay.LEAVES:
        return {"matching": 1}
    raise click.ClickException(f"task {task_id} is {state}; only what failed, was stopped or expired can be replayed")


def _replay_many(words: tuple[str, ...], note: str, dry_run: bool) -> dict[str, Any]:
    try:
        wanted: Filter = filters.parsed(words)
    except BadFilter as error:
        raise click.UsageError(str(error)) from None
    if dry_run:
        return {"matching": replay.count_replayable(wanted)}
    done = replay.replay_many(wanted, by=_who(), note=note)
    task_ids = [ticket.task_id for ticket in done.tickets]
    return {"replayed": len(task_ids), "more": done.more, "task_ids": task_ids}


@click.command("resolve")
@click.argument("task_id")
@click.option("--note", required=True, help="What was done about it.")
@json_option
def resolve_command(task_id: str, note: str, as_json: bool) -> None:
    """Note that a failed task has been dealt with; it stays failed."""
    with refusals():
        state = replay.resolve(task_id, by=_who(), note=note)
    if state is None:
        raise click.ClickException(f"no task has the id {task_id!r}")
    if state not in replay.RESOLVABLE:
        raise click.ClickException(f"task {task_id} has not failed: it is {state}")
    tell({"task_id": task_id, "state": state, "note": note}, [f"noted; the task stays {state}"], as_json=as_json)


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"user {os.getuid()}"
    return f"{name}, python -m ledger"


COMMANDS = (reconcile_command, in_doubt, replay_command, resolve_command)
