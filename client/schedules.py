"""Tasks that are submitted again and again, at the ticks of a cron expression."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from client import terms
from client.answers import Accepted, Misfire, Overlap, Schedule
from client.line import Line, quoted
from client.terms import Submission

_PATH = "/api/schedules"


class Schedules:
    """Those that the key may see. Ids are of schedules, and not of the tasks that they submit."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def __iter__(self) -> Iterator[Schedule]:
        """All of them, the oldest first."""
        after: str | None = None
        while True:
            page = self._line.ask("GET", _PATH, query=terms.plain({"after": after}))
            yield from page["items"]
            after = page["next_after"]
            if after is None:
                return

    def add(
        self,
        name: str,
        cron: str,
        task: Submission,
        *,
        timezone: str = "UTC",
        misfire_policy: Misfire = "run_once",
        overlap_policy: Overlap = "allow",
    ) -> Schedule:
        """Keep a schedule. Raises Conflict when there is one of that name."""
        body = {
            "name": name,
            "cron": cron,
            "timezone": timezone,
            "task": terms.plain(task),
            "misfire_policy": misfire_policy,
            "overlap_policy": overlap_policy,
        }
        made: Schedule = self._line.ask("POST", _PATH, json=body, is_safe=False)
        return made

    def run(self, schedule_id: str, *, key: str | None = None) -> Accepted:
        """Submit its task now, beside its ticks."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        said: Accepted = self._line.ask("POST", f"{_path(schedule_id)}/run", headers=headers)
        return said

    def pause(self, schedule_id: str) -> Schedule:
        """Let its ticks pass until it is resumed."""
        return self._changed(f"{_path(schedule_id)}/pause")

    def resume(self, schedule_id: str) -> Schedule:
        """Go on with the next tick from now."""
        return self._changed(f"{_path(schedule_id)}/resume")

    def remove(self, schedule_id: str) -> None:
        """Let it submit nothing any more. Its tasks stay as they are."""
        self._line.ask("DELETE", _path(schedule_id), is_safe=False)

    def _changed(self, path: str) -> Schedule:
        changed: Schedule = self._line.ask("POST", path)
        return changed


def _path(schedule_id: str) -> str:
    return f"{_PATH}/{quoted(schedule_id)}"
