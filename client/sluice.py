"""The client: submit a task, follow it to its end, stop it, and look at what else there is."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from typing_extensions import Unpack

from client import errors, terms
from client.answers import (
    FINAL,
    Accepted,
    AcceptedBatch,
    Explained,
    Limit,
    Page,
    Pauses,
    Queue,
    Retried,
    Stopped,
    Summary,
    Task,
    Worker,
)
from client.following import ABSENCE_SECONDS, Event, follow
from client.line import Line, quoted
from client.schedules import Schedules
from client.terms import Filter, Submission, Terms

URL, KEY = "SLUICE_URL", "SLUICE_API_KEY"

#: Seconds for which a call is repeated while the service is away.
PATIENCE_SECONDS = 10.0
#: The longest that the service waits with one answer, and how long it waits with the answer to a stop by itself.
LONGEST_WAIT_SECONDS, STOP_WAIT_SECONDS = 30, 5

_CONFLICT = frozenset({int(HTTPStatus.CONFLICT)})


class Sluice:
    """Speaks to one service with one key.

    Every call may raise `errors.Problem`, when the service says no, and `errors.Unreachable`. While it is away for a
    moment, a call is repeated for `patience` seconds where doing it twice does no harm.
    """

    def __init__(self, url: str, key: str | None = None, *, patience: float = PATIENCE_SECONDS) -> None:
        self._line = Line(url, key, patience=patience)

    @classmethod
    def from_environment(cls, *, patience: float = PATIENCE_SECONDS) -> Sluice:
        """By SLUICE_URL and SLUICE_API_KEY. Raises BadAddress."""
        url = os.environ.get(URL)
        if not url:
            raise errors.BadAddress(f"{URL} does not say where the service is")
        return cls(url, os.environ.get(KEY), patience=patience)

    @property
    def schedules(self) -> Schedules:
        """Tasks that are submitted again and again."""
        return Schedules(self._line)

    @property
    def url(self) -> str:
        return self._line.url

    # Submit

    def submit(
        self,
        task_type: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        **more: Unpack[Terms],
    ) -> Accepted:
        """Have a task done. When this returns, it is on disk.

        Args:
            key: the idempotency key. One is made up for each call, so that its own repetitions never double the task;
                give one of yours to make the call itself repeatable, for 24 hours.
        """
        body = {"task_type": task_type, "parameters": dict(parameters or {}), **terms.plain(more)}
        said: Accepted = self._accept("/api/tasks", body, key)
        return said

    def batch(self, tasks: Sequence[Submission], *, key: str | None = None) -> AcceptedBatch:
        """Have up to 1,000 tasks done, all or none."""
        body = {"tasks": [terms.plain(each) for each in tasks]}
        said: AcceptedBatch = self._accept("/api/tasks/batch", body, key)
        return said

    def _accept(self, path: str, body: Mapping[str, Any], key: str | None) -> Any:
        return self._line.ask("POST", path, json=body, headers={"Idempotency-Key": key or str(uuid.uuid4())})

    # Follow

    def get(self, task_id: str) -> Task:
        """The task as it stands."""
        found: Task = self._line.ask("GET", _path(task_id))
        return found

    def wait(
        self, task_id: str, *, seconds: float | None = None, tell: Callable[[Task], object] | None = None
    ) -> Task:
        """The task once it has ended, however it did. Raises NotOver after so many seconds.

        Until then `tell` is told each second how it stands. A service that is restarted meanwhile is waited for, up to
        a minute.
        """
        until = None if seconds is None else time.monotonic() + seconds
        longest = LONGEST_WAIT_SECONDS if tell is None else 1
        task = self.get(task_id)
        while task["state"] not in FINAL:
            if tell is not None:
                tell(task)
            left = longest if until is None else until - time.monotonic()
            if left <= 0:
                raise errors.NotOver(task)
            began = time.monotonic()
            task = self._get_later(task_id, min(longest, max(1, round(left))))
            if time.monotonic() - began < 1 and task["state"] not in FINAL:
                # Too many wait already, so that the answer came at once.
                time.sleep(min(1.0, left))
        return task

    def _get_later(self, task_id: str, seconds: int) -> Task:
        patience = max(self._line.patience, ABSENCE_SECONDS)
        found: Task = self._line.ask(
            "GET", _path(task_id), query={"wait": seconds}, seconds=seconds, patience=patience
        )
        return found

    def watch(self, task_id: str, *, after: int = 0) -> Iterator[Event]:
        """What happens to a task, as it happens, until its end; `after` is the id of an event, to go on from there."""
        return follow(self._line, _path(task_id), after=after)

    # Stop, and try again

    def stop(self, task_id: str, *, wait: int = STOP_WAIT_SECONDS) -> Stopped:
        """Take a task back; the verdict says what became of it.

        `stopping` means that the undoing took longer than `wait` seconds: it goes on, and `wait()` tells its end. When
        the answer got lost and the stop was repeated, the verdict is `already_finished` with the state `revoked`.
        """
        said: Stopped = self._line.ask(
            "POST", f"{_path(task_id)}/stop", headers={"Prefer": f"wait={wait}"}, seconds=wait, accept=_CONFLICT
        )
        kept: Any = {name: value for name, value in said.items() if name in Stopped.__annotations__}
        verdict: Stopped = kept
        return verdict

    def retry(self, task_id: str, *, note: str = "") -> Retried:
        """Queue a task that failed, was stopped or expired again. Raises Conflict when it has not ended so."""
        said: Retried = self._line.ask("POST", f"{_path(task_id)}/retry", json={"note": note}, is_safe=False)
        return said

    # Look

    def explain(self, task_id: str) -> Explained:
        """Why a task is where it is."""
        said: Explained = self._line.ask("GET", f"{_path(task_id)}/explain")
        return said

    def page(
        self, *, limit: int = 50, cursor: str | None = None, counts: bool = False, **wanted: Unpack[Filter]
    ) -> Page:
        """Tasks, newest first, up to 200 of them; `counts` has all of them counted by state as well."""
        asked = {"limit": limit, "cursor": cursor, "counts": counts or None, **wanted}
        found: Page = self._line.ask("GET", "/api/tasks", query=terms.query(asked))
        return found

    def tasks(self, *, page_size: int = 200, **wanted: Unpack[Filter]) -> Iterator[Summary]:
        """All tasks that fit, newest first, fetched page by page while they are asked for."""
        cursor: str | None = None
        while True:
            page = self.page(limit=page_size, cursor=cursor, **wanted)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def queues(self) -> list[Queue]:
        found: list[Queue] = self._line.ask("GET", "/api/queues")["items"]
        return found

    def pause(self, queue: str, *, reason: str | None = None) -> Pauses:
        """Let no task of a queue start, or of all queues of a kind of worker; those that run go on."""
        said: Pauses = self._line.ask("POST", f"/api/queues/{quoted(queue)}/pause", json={"reason": reason})
        return said

    def resume(self, queue: str) -> Pauses:
        said: Pauses = self._line.ask("POST", f"/api/queues/{quoted(queue)}/resume")
        return said

    def limits(self) -> list[Limit]:
        """How many tasks of a type, or of an owner, run at once and start within a minute."""
        found: list[Limit] = self._line.ask("GET", "/api/limits")["items"]
        return found

    def workers(self) -> list[Worker]:
        found: list[Worker] = self._line.ask("GET", "/api/workers")["items"]
        return found


def _path(task_id: str) -> str:
    return f"/api/tasks/{quoted(task_id)}"
