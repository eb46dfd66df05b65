"""A task's events as they happen. A stream that is cut off is taken up again where it was, until the task has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import requests

from client import errors, frames
from client.frames import Frame
from client.line import Line, is_success, problem, unreachable

#: Seconds without a word after which a stream counts as cut off; the service gives a sign of life more often.
SILENCE_SECONDS = 45.0
#: Seconds for which a service that was there may be away: a restart takes a while.
ABSENCE_SECONDS = 60.0
#: Seconds before a stream is taken up again, until the service says how many.
_PAUSE_SECONDS = 1.0

END = "end"


@dataclass(frozen=True)
class Event:
    """`task.<state>` for a move, `progress`, and at last `end`, whose data has the state."""

    name: str
    data: dict[str, Any]
    #: To go on from here later; progress and the end have none.
    id: int | None = None


def follow(line: Line, path: str, *, after: int) -> Iterator[Event]:
    """Raises Unreachable or Unavailable when the service stays away."""
    seen, pause, was_there = after, _PAUSE_SECONDS, False
    away_since: float | None = None
    while True:
        try:
            for frame in _stream(line, path, seen):
                away_since, was_there = None, True
                if frame.retry_milliseconds is not None:
                    pause = frame.retry_milliseconds / 1000
                event = _event(frame)
                if event is not None:
                    seen = event.id or seen
                    yield event
                    if event.name == END:
                        return
            trouble: errors.SluiceError = errors.Unreachable(f"{line.url} ended the stream", was_sent=True)
        except (errors.Unreachable, errors.Unavailable, errors.TooManyRequests) as error:
            trouble = error
        away_since = away_since or time.monotonic()
        rest = getattr(trouble, "retry_after", None) or pause
        patience = max(line.patience, ABSENCE_SECONDS) if was_there else line.patience
        if time.monotonic() + rest > away_since + patience:
            raise trouble
        time.sleep(rest)


def _stream(line: Line, path: str, seen: int) -> Iterator[Frame]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(seen)}
    answer = line.send("GET", f"{path}/events", headers=headers, seconds=SILENCE_SECONDS, stream=True)
    with closing(answer):
        if answer.status_code == HTTPStatus.NO_CONTENT:  # all of it was told before
            task = line.ask("GET", path)
            yield Frame(END, json.dumps({"task_id": task["task_id"], "state": task["state"]}))
            return
        if not is_success(answer):
            raise problem(answer)
        try:
            # Byte by byte: a bigger buffer would keep the last event back until it is full.
            yield from frames.frames(answer.iter_lines(chunk_size=1))
        except requests.RequestException as error:
            raise unreachable(line.url, error) from error


def _event(frame: Frame) -> Event | None:
    if frame.event is None or frame.data is None:
        return None
    number = frame.id or ""
    return Event(frame.event, json.loads(frame.data), int(number) if number.isdigit() else None)
