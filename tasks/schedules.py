"""Schedules on their way to tasks: what people set is checked as a submission is, and each tick is one.

A schedule acts for its owner. Its tasks belong to the owner and count in the bounds of the key that set the schedule
last; and they are of a type that the owner may submit, with whatever key that still opens: once none does, the ticks
pass with a remark.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from datetime import datetime
from typing import Any

import uuid_utils

from ledger import cron, db, keys, leadership, misfires, schedules
from ledger.acceptance import NewTask
from ledger.callers import EVERYBODY, Caller
from ledger.firings import Firing, TickTaken
from ledger.idempotency import Once
from ledger.quotas import OverQuota
from ledger.schedules import Due, Schedule
from ledger.states import State
from ledger.tickets import Ticket
from tasks import submit
from tasks.catalog import NotForYou, UnknownTaskType
from tasks.submit import Accepted, BadParameters, Submission

log = logging.getLogger(__name__)

#: Seconds after which a tick is looked at again that could not be for a reason that nobody foresaw.
BROKEN_SECONDS = 60.0


# --- set by people -------------------------------------------------------------------------------------------------


def kept(submission: Submission) -> dict[str, Any]:
    """A submission as a schedule keeps it: what it leaves to its type, it leaves to it at each tick."""
    given = {each.name: getattr(submission, each.name) for each in fields(submission)}
    return {each.name: given[each.name] for each in fields(submission) if given[each.name] != _default(each)}


def submission_of(task: Mapping[str, Any]) -> Submission:
    return Submission(**task)


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def create(new: Schedule, *, caller: Caller = EVERYBODY) -> str:
    """Keep a schedule; its id. Raises what `submit.check` raises of its task, cron.BadCron, cron.UnknownZone,
    schedules.NameTaken and schedules.TooMany."""
    submit.check(submission_of(new.task), caller=caller)
    each = cron.parsed(new.cron, new.timezone)
    schedule_id = str(uuid_utils.uuid7())
    schedules.create(schedule_id, replace(new, cron=each.expression), caller=caller)
    return schedule_id


def change(schedule_id: str, changes: Mapping[str, Any], *, caller: Caller = EVERYBODY) -> None:
    """Change a schedule. Whoever does so is answerable for its task, whether or not that is what they change.

    Raises what `create` raises, and schedules.UnknownSchedule.
    """
    won = False
    while not won:
        row = schedules.get(schedule_id, caller=caller)
        submit.check(submission_of(changes.get("task", row.task)), caller=caller)
        values = dict(changes)
        if "cron" in changes or "timezone" in changes:
            each = cron.parsed(changes.get("cron", row.cron), changes.get("timezone", row.timezone))
            values["cron"] = each.expression
        won = schedules.change(schedule_id, values, revision=row.revision, caller=caller)


def run(schedule_id: str, *, caller: Caller = EVERYBODY, once: Once | None = None) -> Accepted:
    """Submit its task now, beside its ticks, for its owner."""
    row = schedules.get(schedule_id, caller=caller)
    task = _task(row.task, Firing(row.id, row.name), caller=caller)
    for_owner = replace(caller, owner=row.owner)
    [accepted] = submit.accept([task], caller=for_owner, once=once)
    return accepted


def _task(task: Mapping[str, Any], firing: Firing, *, caller: Caller) -> NewTask:
    return submit.check(submission_of(task), caller=caller)._replace(firing=firing)


# --- at its ticks --------------------------------------------------------------------------------------------------


def fire(seen: Due) -> Ticket | None:
    """Let one tick become what it should; the ticket is the caller's to send, if there is one."""
    try:
        plan = misfires.plan(
            cron.parsed(seen.cron, seen.timezone), seen.tick, now=seen.now, policy=seen.misfire_policy
        )
    except Exception as error:  # noqa: BLE001  such as a time zone that is not there any more
        _put_off(seen, seen.tick, error)
        return None
    remark = _passed(seen, plan.tick) if plan.passes_over else None
    if plan.tick is None:
        schedules.pass_over(seen, then=plan.then, remark=remark or "")
        return None
    try:
        return _fire(seen, plan.tick, plan.then, remark)
    except OverQuota as error:
        schedules.postpone(seen, seconds=error.wait_seconds, remark=f"{_at(plan.tick)} waits: {error}")
    except (UnknownTaskType, NotForYou, BadParameters, TickTaken) as error:
        schedules.pass_over(seen, then=plan.then, remark=f"{_at(plan.tick)} made no task: {_why(error)}")
    except (db.Unavailable, leadership.Deposed):
        raise
    except Exception as error:  # noqa: BLE001  one that cannot be fired must not keep the others waiting
        _put_off(seen, plan.tick, error)
    return None


def _put_off(seen: Due, tick: datetime, error: Exception) -> None:
    log.error("could not fire %s", seen.schedule_id, exc_info=error, extra={"action": "tick_failed"})
    schedules.postpone(seen, seconds=BROKEN_SECONDS, remark=f"{_at(tick)} waits: {type(error).__name__}")


def _fire(seen: Due, tick: datetime, then: datetime | None, remark: str | None) -> Ticket | None:
    caller = _for_owner(seen)
    task = _task(seen.task, Firing(seen.schedule_id, seen.name, tick), caller=caller)
    fired = schedules.fire(seen, task, then=then, remark=remark, caller=caller)
    if fired:
        submit.tell([task])
    return submit.ticket_of(task) if fired and fired.state is State.QUEUED else None


def _for_owner(seen: Due) -> Caller:
    return Caller(
        owner=seen.owner,
        scopes=keys.scopes_of(seen.owner),
        key_id=seen.key_id,
        most_open_tasks=seen.most_open_tasks,
        mails_per_day=seen.mails_per_day,
    )


def _passed(seen: Due, tick: datetime | None) -> str:
    up_to = f"before {tick:%Y-%m-%d %H:%M:%S}" if tick else f"up to {seen.now:%Y-%m-%d %H:%M:%S}"
    return f"ticks from {seen.tick:%Y-%m-%d %H:%M:%S} {up_to} UTC were missed and made no task ({seen.misfire_policy})"


def _at(tick: datetime) -> str:
    return f"the tick of {tick:%Y-%m-%d %H:%M:%S} UTC"


def _why(error: Exception) -> str:
    if isinstance(error, NotForYou):
        return f"its owner has no key that may submit it ({error.scope})"
    return str(error)
