"""Why a task is where it is: one cause with a stable code, in one plain sentence, from evidence that others gathered.

Several causes may hold at once. The first in the order of `Cause` is told, because curing a later one alone would not
help: a decision of the operator's comes before a server, a server before a worker, a worker before the ticket, and the
ticket before the line. The others are named beside it. Nothing is asked or changed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from ledger.branches import Sight
from ledger.firings import Firing
from ledger.states import REPLAYABLE, State
from tasks.evidence import Evidence, Facts

#: Tasks that a sentence names.
MOST_NAMED = 3
#: Seconds that the monitor has for what it does every second before its absence counts.
MONITORS_SECONDS = 3.0
#: Seconds for which a ticket may be in somebody's hands between RabbitMQ and the claim.
IN_HANDS_SECONDS = 3.0
#: Seconds that an attempt gets to carry out its own decision.
OWNERS_SECONDS = 1.0


class Cause(StrEnum):
    """In the order of importance among those that can hold together."""

    # It is over.
    FINISHED = "finished"
    EXPIRED = "expired"
    # It may not start yet.
    WAITS_FOR_TASKS = "waits_for_tasks"
    WAITS_FOR_TIME = "waits_for_time"
    WAITS_FOR_RETRY = "waits_for_retry"
    LIMIT_REACHED = "limit_reached"
    # It may start and does not.
    QUEUE_PAUSED = "queue_paused"
    BROKER_UNREACHABLE = "broker_unreachable"
    QUEUE_SILENT = "queue_silent"
    NO_WORKER = "no_worker"
    WORKERS_CUT_OFF = "workers_cut_off"
    TICKET_NOT_SENT = "ticket_not_sent"
    TICKET_LOST = "ticket_lost"
    TICKET_RESENT = "ticket_resent"
    IN_LINE = "in_line"
    STARTING = "starting"
    # An attempt has it.
    WORKER_LOST = "worker_lost"
    LEASE_EXPIRED = "lease_expired"
    RUNNING = "running"
    IN_DOUBT = "in_doubt"
    COMMITTING = "committing"
    BEING_STOPPED = "being_stopped"
    # Whatever it waits for, nobody sees to it.
    MONITOR_MISSING = "monitor_missing"


@dataclass(frozen=True)
class Reason:
    """One cause, and what happens next or can be done."""

    cause: Cause
    sentence: str
    next: str


@dataclass(frozen=True)
class Explanation:
    cause: Cause
    sentence: str
    next: str
    #: Further causes that hold as well.
    also: tuple[Cause, ...] = ()


def explain(found: Evidence) -> Explanation:
    """The most important cause, and the names of the others; and the schedule of a task that has one."""
    first, *others = _REASONS[found.task.state](found)
    sentence = " ".join([first.sentence, *_schedule(found.firing)])
    return Explanation(first.cause, sentence, first.next, tuple(each.cause for each in others))


def _schedule(firing: Firing | None) -> Iterator[str]:
    if firing is not None:
        when = f"at its tick of {firing.tick:%Y-%m-%d %H:%M:%S} UTC" if firing.tick else "when somebody asked it to"
        yield f"The schedule {firing.name} submitted it {when}."


# --- over ------------------------------------------------------------------------------------------------------------


def _finished(found: Evidence) -> Iterator[Reason]:
    then = "Nothing: it stays so."
    if found.task.state in REPLAYABLE:
        then = f"Nothing by itself; POST /api/tasks/{found.task.task_id}/retry runs it again."
    yield Reason(Cause.FINISHED, _ending(found.task), then)


def _ending(task: Facts) -> str:
    ago = f"{span(task.in_state_seconds)} ago"
    match task.state:
        case State.SUCCEEDED:
            return f"It succeeded {ago} in attempt {task.attempt}."
        case State.FAILED:
            when = f"after {_counted(task.attempt, 'attempt')}" if task.attempt else "before any attempt began"
            return f"It failed for good {ago} {when}: {_error(task)}."
        case State.REVOKED if task.attempt:
            rows = (task.undone or {}).get("rows_remaining", 0)
            return f"It was stopped, which was done {ago}; {rows} rows of it remain."
        case _:
            return f"It was stopped {ago}, before any attempt began."


def _expired(found: Evidence) -> Iterator[Reason]:
    words = f"It expired {span(found.task.in_state_seconds)} ago: it had not begun in its time."
    yield replace(next(_finished(found)), cause=Cause.EXPIRED, sentence=words)


# --- not yet ---------------------------------------------------------------------------------------------------------


def _blocked(found: Evidence) -> Iterator[Reason]:
    waits_for = {task_id: state for task_id, state in found.parents.items() if state and not state.is_final}
    if waits_for:
        some = [f"{task_id} ({state})" for task_id, state in list(waits_for.items())[:MOST_NAMED]]
        more = [f"{len(waits_for) - len(some)} more"] if len(waits_for) > len(some) else []
        yield Reason(
            Cause.WAITS_FOR_TASKS,
            f"It waits for {_counted(len(waits_for), 'task')} to end: {', '.join(some + more)}.",
            "It is queued when they have ended; their own explanations tell what keeps them.",
        )
        return
    words = "All that it waited for has ended; it is about to be told."
    missing = list(_monitor(found, found.task.in_state_seconds, "tell it that what it waited for has ended"))
    yield from missing or [Reason(Cause.WAITS_FOR_TASKS, words, "It is queued, or fails with what it depended on.")]


def _scheduled(found: Evidence) -> Iterator[Reason]:
    left = found.task.due_in_seconds or 0.0
    if left > 0:
        yield Reason(Cause.WAITS_FOR_TIME, f"It waits for its time, which comes in {span(left)}.", _WHEN_DUE)
    else:
        yield from _overdue(found, Cause.WAITS_FOR_TIME, f"Its time came {span(-left)} ago; it is about to be queued.")


def _retrying(found: Evidence) -> Iterator[Reason]:
    task = found.task
    left = task.due_in_seconds or 0.0
    what = f"retry {task.retries} of {task.max_retries} after {_error(task)}"
    if left > 0:
        yield Reason(Cause.WAITS_FOR_RETRY, f"It waits for {what}, which comes in {span(left)}.", _WHEN_DUE)
    else:
        words = f"Its wait for {what} ended {span(-left)} ago; it is about to be queued."
        yield from _overdue(found, Cause.WAITS_FOR_RETRY, words)


def _overdue(found: Evidence, cause: Cause, words: str) -> Iterator[Reason]:
    """The monitor queues what is due five times a second."""
    missing = list(_monitor(found, -(found.task.due_in_seconds or 0.0), "queue it"))
    yield from missing or [Reason(cause, words, _WHEN_DUE)]


_WHEN_DUE = "The monitor queues it when its time has come."


def _throttled(found: Evidence) -> Iterator[Reason]:
    standing = found.standing
    reached = [use.reached for use in standing.uses if use.reached] if standing else []
    ahead = standing.ahead if standing else 0
    if reached:
        behind = f"{_counted(ahead, 'task')} wait{'s' if ahead == 1 else ''} before it" if ahead else "it is the next"
        words = f"It waits for a place: {', and '.join(reached)}; {behind}."
        yield Reason(Cause.LIMIT_REACHED, words, _WHEN_A_PLACE)
        return
    behind = f", with {_counted(ahead, 'task')} before it" if ahead else ""
    words = f"There is a place again under its limits: it is about to be queued{behind}."
    missing = list(_monitor(found, found.task.in_state_seconds, "let it in"))
    yield from missing or [Reason(Cause.LIMIT_REACHED, words, _WHEN_A_PLACE)]


_WHEN_A_PLACE = "The monitor queues it when there is a place, the best priority first, then the oldest."


def _monitor(found: Evidence, seconds: float, what: str) -> Iterator[Reason]:
    """When something should have been done so many seconds ago and nobody is there to do it."""
    if seconds > MONITORS_SECONDS and not found.has_monitor:
        yield Reason(
            Cause.MONITOR_MISSING,
            f"No monitor is at work to {what}, which was due {span(seconds)} ago.",
            "Start a monitor: python -m workers.monitor",
        )


# --- queued ----------------------------------------------------------------------------------------------------------


def _queued(found: Evidence) -> Iterator[Reason]:
    yield from _pause(found)
    yield from _broker(found)
    yield from _workers(found)
    yield from _ticket(found)
    yield from _line(found)
    if found.task.sent_seconds is None:
        yield from _monitor(found, found.task.in_state_seconds, "send its ticket")
    elif _is_lost(found):
        yield from _monitor(found, found.task.sent_seconds - 3 * MONITORS_SECONDS, "send its ticket again")


def _pause(found: Evidence) -> Iterator[Reason]:
    queue, pause = found.task.queue, found.pause
    if pause is not None:
        why = f": {pause.reason.rstrip('.')}" if pause.reason else ""
        words = f"Its queue {queue} has been paused since {pause.since:%Y-%m-%d %H:%M:%S} UTC{why}."
        yield Reason(Cause.QUEUE_PAUSED, words, f"It goes on after POST /api/queues/{queue}/resume.")


def _broker(found: Evidence) -> Iterator[Reason]:
    if found.broker is not None and not found.broker.answers:
        yield Reason(
            Cause.BROKER_UNREACHABLE,
            f"RabbitMQ does not answer, so that no ticket reaches a worker ({found.broker.fault}).",
            "It goes on once RabbitMQ is back; tickets that it lost are sent again.",
        )
    elif found.broker is not None and found.broker.queue_fault:
        yield Reason(
            Cause.QUEUE_SILENT,
            f"RabbitMQ answers, but its queue {found.task.queue} takes and gives no tickets: "
            f"{found.broker.queue_fault}.",
            "One that RabbitMQ could not bring back is declared anew within a minute, and its tickets are sent again; "
            "one that waits for other nodes goes on when they are back.",
        )


def _workers(found: Evidence) -> Iterator[Reason]:
    queue, serving = found.task.queue, found.serving
    kind = queue.partition(".")[0]
    if not serving:
        last = "; ".join(_last_words(found, kind)) or "none has been heard of for a day"
        yield Reason(
            Cause.NO_WORKER,
            f"No worker takes tickets from {queue}: {last}.",
            f"Start one: celery -A workers.{kind} worker",
        )
    elif not any(worker.said.reaches_broker for worker in serving) and _answers(found):
        names = ", ".join(worker.said.name for worker in serving)
        yield Reason(
            Cause.WORKERS_CUT_OFF,
            f"No worker of {queue} reaches RabbitMQ, though it answers here: {names}.",
            "They try again every second; look at the network between them and RabbitMQ, and at their credentials.",
        )


def _answers(found: Evidence) -> bool:
    return found.broker is not None and found.broker.answers


def _last_words(found: Evidence, kind: str) -> Iterator[str]:
    """What is known of those that could serve the queue and do not, the latest first."""
    mine = (worker for worker in found.workers if worker.said.kind == kind)
    for worker in sorted(mine, key=lambda each: each.silent_seconds)[:3]:
        if not worker.is_here:
            yield f"{worker.said.name} was last heard of {span(worker.silent_seconds)} ago"
        elif worker.said.leaving:
            yield f"{worker.said.name} is leaving"
        else:
            yield f"{worker.said.name} takes tickets only from {', '.join(worker.said.queues) or 'nowhere'}"


def _ticket(found: Evidence) -> Iterator[Reason]:
    task = found.task
    if task.sent_seconds is None:
        yield Reason(
            Cause.TICKET_NOT_SENT,
            f"Its ticket has not been sent to RabbitMQ yet, {span(task.in_state_seconds)} after it became ready.",
            "The monitor sends what was not sent within three seconds.",
        )
    elif _is_lost(found):
        yield Reason(
            Cause.TICKET_LOST,
            f"RabbitMQ does not hold its ticket any more, which it confirmed {span(task.sent_seconds)} ago.",
            "The monitor sends it again once two looks have missed it, within about ten seconds.",
        )
    elif found.resent_seconds is not None:
        yield Reason(
            Cause.TICKET_RESENT,
            f"Its ticket was lost and has been sent again {span(found.resent_seconds)} ago; {_before(found)}.",
            "A worker takes it in its turn.",
        )


def _is_lost(found: Evidence) -> bool:
    """Surely this task's ticket: the queue is empty. Whose tickets are missing in one that is not, nobody can say."""
    sent = found.task.sent_seconds
    return _answers(found) and found.broker is not None and found.broker.ready == 0 and (sent or 0) > IN_HANDS_SECONDS


def _line(found: Evidence) -> Iterator[Reason]:
    line, free = found.line, sum(worker.said.free for worker in found.serving)
    if line is not None and not line.ahead and free:
        words = f"It is the next of {found.task.queue} and a place is free: a worker is about to take it."
        yield Reason(Cause.STARTING, words, "It starts within a moment.")
    else:
        places = sum(worker.said.concurrency for worker in found.serving)
        taken = f"{places - free} of {_counted(places, 'place')} are taken" if places else "nobody takes any"
        yield Reason(Cause.IN_LINE, f"{_capital(_before(found))}; {taken}.", "A worker takes it in its turn.")


def _before(found: Evidence) -> str:
    line, queue = found.line, found.task.queue
    if line is None:
        return "it waits for its turn"
    if not line.ahead:
        return f"it is the next of {queue}"
    more = "more than " if line.is_cut else ""
    verb = "goes" if line.ahead == 1 and not more else "go"
    return (
        f"{more}{_counted(line.ahead, 'task')} {verb} before it, {line.better} of better priority and "
        f"{line.earlier} earlier in {queue}"
    )


# --- in an attempt's hands -------------------------------------------------------------------------------------------


def _running(found: Evidence) -> Iterator[Reason]:
    task = found.task
    left = task.lease_left_seconds or 0.0
    if lost := _how_lost(found):
        words = f"Worker {task.worker}, which had attempt {task.attempt}, {lost}."
        yield Reason(Cause.WORKER_LOST, words, _take_back(task))
    if left < 0:
        here = "its worker is there" if found.holder and found.holder.is_here else "its worker is not heard of"
        yield Reason(
            Cause.LEASE_EXPIRED,
            f"Attempt {task.attempt} on {task.worker} fell silent: its lease ended {span(-left)} ago; {here}.",
            _take_back(task),
        )
    if not lost and left >= 0:
        yield Reason(Cause.RUNNING, _progress(found), "The attempt ends by itself, or by its timeout.")
    yield from _monitor(found, -left, "take it back")


def _how_lost(found: Evidence) -> str:
    """What speaks for the death of the attempt's worker; empty when it lives, or may live."""
    task, holder = found.task, found.holder
    if holder and task.started_at and holder.started_at > task.started_at:
        return "died, and has been started anew since"
    unrenewed = found.lease_seconds - (task.lease_left_seconds or 0.0)
    if unrenewed < found.lease_seconds / 2:
        # The attempt's own process lives, whatever became of its parent.
        return ""
    if holder is None:
        return "is gone"
    if not holder.is_here:
        return f"has not been heard of for {span(holder.silent_seconds)}: it died or is frozen"
    return ""


def _take_back(task: Facts) -> str:
    left = task.lease_left_seconds or 0.0
    when = f"When its lease ends, in {span(left)}," if left > 0 else "Now that its lease is over"
    then = "gives it to another attempt" if task.retries < task.max_retries else "ends it as failed: no retry is left"
    return f"{when} the monitor takes it back and {then}."


def _progress(found: Evidence) -> str:
    task = found.task
    words = f"Attempt {task.attempt} has been running on {task.worker} for {span(task.started_seconds or 0)}"
    if task.progress_done is not None and task.progress_total:
        percent = 100 * task.progress_done / task.progress_total
        words += f", {task.progress_done:,} of {task.progress_total:,} done ({percent:.0f} %)"
    elif task.progress_done:
        words += f", {task.progress_done:,} done"
    if found.holder is not None and not found.holder.is_here:
        words += f"; its worker has not been heard of for {span(found.holder.silent_seconds)}, but the attempt goes on"
    return f"{words}."


def _committing(found: Evidence) -> Iterator[Reason]:
    task = found.task
    waiting = [words for name, sight in found.databases.items() if (words := _undecided(name, sight))]
    if waiting and task.in_state_seconds > OWNERS_SECONDS:
        yield Reason(
            Cause.IN_DOUBT,
            f"It was decided {span(task.in_state_seconds)} ago that it becomes true, and that is still to be "
            f"carried out: {'; '.join(waiting)}.",
            "The monitor commits what is prepared as soon as the database can be reached; it cannot fail any more.",
        )
    else:
        yield Reason(
            Cause.COMMITTING,
            f"It is decided that it becomes true; attempt {task.attempt} on {task.worker} carries that out.",
            "It succeeds within a moment; if its worker dies, the monitor finishes it.",
        )
    yield from _monitor(found, task.in_state_seconds - OWNERS_SECONDS, "finish it")


def _undecided(name: str, sight: Sight) -> str:
    match sight:
        case Sight.AWAY:
            return f"database {name} does not answer"
        case Sight.PREPARED:
            return f"its branch on database {name} is prepared and not committed"
        case Sight.HELD:
            return f"its branch on database {name} is held by the connection of its attempt"
        case Sight.UNKNOWN:
            return f"database {name} does not tell"
        case Sight.CLEAR:
            return ""


def _revoking(found: Evidence) -> Iterator[Reason]:
    task = found.task
    holding = [words for name, sight in found.databases.items() if (words := _not_undone(name, sight))]
    what = "; ".join(holding) or f"attempt {task.attempt} on {task.worker} has not confirmed it yet"
    yield Reason(
        Cause.BEING_STOPPED,
        f"It was stopped {span(task.in_state_seconds)} ago and is being undone: {what}.",
        "Nothing of it becomes true any more; the monitor undoes what its attempt does not.",
    )
    yield from _monitor(found, task.in_state_seconds - MONITORS_SECONDS, "undo it")


def _not_undone(name: str, sight: Sight) -> str:
    match sight:
        case Sight.AWAY:
            return f"database {name} does not answer"
        case Sight.PREPARED:
            return f"its branch on database {name} is prepared and not rolled back"
        case Sight.HELD:
            return f"a connection still holds its lock on database {name}"
        case Sight.UNKNOWN:
            return f"database {name} does not tell"
        case Sight.CLEAR:
            return ""


_REASONS: dict[State, Callable[[Evidence], Iterator[Reason]]] = {
    State.SCHEDULED: _scheduled,
    State.BLOCKED: _blocked,
    State.QUEUED: _queued,
    State.THROTTLED: _throttled,
    State.RUNNING: _running,
    State.COMMITTING: _committing,
    State.REVOKING: _revoking,
    State.RETRYING: _retrying,
    State.SUCCEEDED: _finished,
    State.FAILED: _finished,
    State.REVOKED: _finished,
    State.EXPIRED: _expired,
}


# --- words -----------------------------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """A duration as one says it."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3_600:.0f} h"
    return f"{seconds / 86_400:.0f} days"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _error(task: Facts) -> str:
    error = task.error or {}
    return f"{error.get('type', 'an error')} ({error.get('message', 'nothing is known of it')})".rstrip(".")
