"""How tasks look on a terminal: lines, tables and a bar that moves; without colours and bars anywhere else.

Whatever the service tells is cleaned of control characters: a task's words must not steer anybody's terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.output import columns
from client import answers
from client.answers import State, Summary, Task

_STYLES: Mapping[State, str] = {
    "succeeded": "green",
    "failed": "red",
    "revoked": "yellow",
    "expired": "yellow",
    "revoking": "yellow",
    "throttled": "yellow",
    "retrying": "yellow",
    "running": "cyan",
    "committing": "cyan",
}
#: Characters of a result or an error on one line of a table: with the time before it, it fits into 80 columns.
_WIDTH = 54
#: What stands before a line that goes on with the one above it.
_INDENT = "    "


class Screen:
    def __init__(self, *, aside: bool = False) -> None:
        """What is said aside goes to the standard error, so that no pipe gets it."""
        # Wide enough for anything: lines are cut by the terminal, if at all, and never by us.
        self._console = Console(stderr=aside, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        return self._console.is_terminal

    def line(self, text: str = "", style: str | None = None) -> None:
        self._console.print(clean(text), style=style)

    def state(self, text: str, state: State | None) -> None:
        """A line in the colour of a state."""
        self.line(text, _STYLES.get(state) if state else None)

    def table(self, rows: Sequence[Sequence[str]], heading: Sequence[str]) -> None:
        """Columns under each other; those for which a terminal has no room stand on lines of their own below."""
        cleaned = [heading, *([clean(cell) for cell in row] for row in rows)]
        parts = [columns([row[part] for row in cleaned]) for part in self._parts(cleaned)]
        for number, (line, *below) in enumerate(zip(*parts, strict=True)):
            self.line(line, "dim" if number == 0 else None)
            for more in filter(None, below):
                self.line(f"{_INDENT}{more}", "dim")

    def _parts(self, rows: Sequence[Sequence[str]]) -> list[slice]:
        """The columns that stand on one line; all of them where no terminal has an end."""
        begin, end, parts = 0, len(rows[0]), []
        for column in range(1, end if self.is_terminal else 0):
            indent = len(_INDENT) if begin else 0
            if indent + max(map(len, columns([row[begin : column + 1] for row in rows]))) > self._console.width:
                parts.append(slice(begin, column))
                begin = column
        return [*parts, slice(begin, end)]

    def facts(self, facts: Mapping[str, str]) -> None:
        """What is known of one thing, without what is empty."""
        rows = [(name, clean(text)) for name, text in facts.items() if text]
        for line in columns(rows) if rows else ():
            self.line(f"  {line}")

    @contextmanager
    def bar(self, words: str) -> Iterator[Bar]:
        """A bar below the lines; nothing where there is no terminal."""
        parts = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        shown = Progress(*parts, console=self._console, transient=True, disable=not self._console.is_terminal)
        with shown:
            yield Bar(shown, shown.add_task(clean(words), total=None, told=""))


class Bar:
    def __init__(self, shown: Progress, task: TaskID) -> None:
        self._shown, self._task = shown, task

    def move(self, progress: answers.Progress) -> None:
        self._shown.update(
            self._task, completed=progress["done"], total=progress["total"], told=of_progress(progress)
        )

    def show(self, task: Summary) -> None:
        """A task as it stands: how far it is, or why it moves nowhere."""
        if task["state"] == "running" and task["progress"]:
            self.move(task["progress"])
        else:
            self._shown.update(self._task, completed=0, total=None, told=task["state"])


def tell_json(value: object) -> None:
    """One line for programs. What is not ASCII is escaped, so that no control character is left in it."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def clean(text: str) -> str:
    return "".join(each if each.isprintable() else "�" for each in text)


def moment(at: str | None) -> str:
    """`2026-01-31T12:00:00.123456Z` as people read it."""
    return f"{at[:10]} {at[11:19]} UTC" if at else ""


def of_progress(progress: answers.Progress | None) -> str:
    if progress is None:
        return ""
    total = progress["total"]
    return f"{progress['done']:,}" + (f" of {total:,}" if total is not None else "")


def of_error(error: Mapping[str, Any] | None) -> str:
    return f"{error.get('type', '')}: {error.get('message', '')}" if error else ""


def row(task: Summary) -> tuple[str, ...]:
    """A task as a line of a list."""
    last = of_error(task["error"]) if task["state"] == "failed" else of_progress(task["progress"])
    last = last if len(last) <= _WIDTH else f"{last[:_WIDTH]}…"
    return (
        task["task_id"],
        task["task_type"],
        task["priority"],
        task["state"],
        moment(task["created_at"]).removesuffix(" UTC"),
        last,
    )


ROW = ("task", "type", "priority", "state", "submitted (UTC)", "")


def show(screen: Screen, task: Task) -> None:
    """Everything about one task that people ask for."""
    screen.state(f"{task['task_id']} {task['state']}", task["state"])
    screen.facts(
        {
            "type": task["task_type"],
            "priority": f"{task['priority']}, queue {task['queue']}",
            "parameters": json.dumps(task["parameters"], ensure_ascii=False),
            "progress": of_progress(task["progress"]),
            "submitted": moment(task["created_at"]),
            "not before": moment(task["due_at"]) if task["state"] in ("scheduled", "retrying") else "",
            "started": moment(task["started_at"]),
            "ended": moment(task["finished_at"]),
            "depends on": ", ".join(each["task_id"] for each in task["depends_on"]),
            "result": json.dumps(task["result"], ensure_ascii=False) if task["state"] == "succeeded" else "",
            "error": of_error(task["error"]),
            "undone": json.dumps(task["undone"]) if task["undone"] else "",
            "resolved": f"{task['resolved']['note']} ({task['resolved']['by']})" if task["resolved"] else "",
        }
    )
    for attempt in task["attempts"]:
        error = of_error(attempt["error"])
        ending = attempt["outcome"] or "at work"
        screen.line(f"  attempt {attempt['number']} at {attempt['worker']}: {ending}{f', {error}' if error else ''}")
    for remark in task["remarks"]:
        screen.line(f"  {moment(remark['at'])}  {remark['text']}", "dim")
