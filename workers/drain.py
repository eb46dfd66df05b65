"""How a worker ends: bounded, without losing or repeating what could be finished.

SIGTERM and SIGINT mean the same. From that moment no ticket is taken, and

    0 ............... grace ............. grace + 3.5 ...... grace + 4 ........ grace + 4.7
    tasks go on       the children are    those that are     the worker         whatever still hangs
    and are settled   told to leave       left are killed    is gone            is cut off

A task that is cut short gets SystemExit, rolls back and hands itself back to the ledger without using up an attempt.
All this happens in the running event loop, so that results, acknowledgements, lost children and time limits are
treated as ever. Every further signal ends the phase in which it comes.

When things fail: without RabbitMQ the acknowledgements are lost, and the tickets come back to tasks that are settled.
If a server hangs so that the way out takes too long, the alarm ends the process; the kernel kills the children with it
(PDEATHSIG), tickets return to their queues, and leases run out.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from celery.worker import state

from workers.children import Children

log = logging.getLogger(__name__)

#: Seconds that children which were told to leave have for rolling back.
LEAVE_SECONDS = 3.5
#: Seconds for noticing the death of killed children and telling the ledger of it.
BURY_SECONDS = 0.5
#: Seconds after the grace at which the process ends, whatever hangs.
ALARM_SECONDS = 4.7
#: Seconds after the grace at which the children are told to leave even if the event loop hangs.
NUDGE_SECONDS = 0.3
#: How often the event loop looks whether a phase is over.
TURN_SECONDS = 0.02


class Drain:
    """The end of one worker."""

    def __init__(self, worker: Any, *, grace_seconds: float) -> None:
        self.worker = worker
        self.grace_seconds = grace_seconds
        self.parent = os.getpid()
        #: When the present phase is over; every further signal ends it at once.
        self.phase_ends: float | None = None
        #: When the children were told to leave.
        self.sent_away_at: float | None = None

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.parent:
            return  # a child that has not yet installed its own handlers
        hurried = self.phase_ends is not None or number == signal.SIGQUIT
        self.begin(0 if hurried else self.grace_seconds)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        """The loop hangs. The children are told to leave all the same, and get their time for it."""
        if self.sent_away_at is None:
            signal.setitimer(signal.ITIMER_REAL, ALARM_SECONDS - NUDGE_SECONDS)
            self._send_away()
            return
        os.write(2, b"worker: the way out took too long, leaving now\n")
        os._exit(os.EX_OK)

    def begin(self, grace_seconds: float) -> None:
        """From now on. Celery's loop sees the flag within a tick and raises WorkerShutdown; then comes `run`."""
        self.phase_ends = time.monotonic() + grace_seconds
        beyond = NUDGE_SECONDS if self.sent_away_at is None else ALARM_SECONDS
        signal.setitimer(signal.ITIMER_REAL, grace_seconds + beyond)
        state.should_stop = os.EX_OK  # type: ignore[assignment]

    def run(self) -> None:
        """Let the children finish, or make them."""
        if self.phase_ends is None:
            self.begin(self.grace_seconds)
        children: Children = self.worker.pool._pool
        children.replaces = False
        if self.worker.consumer.task_consumer:
            self.worker.consumer.task_consumer.cancel()
        log.info("worker leaves", extra={"tasks": children.tickets, "grace_seconds": self.grace_seconds})
        self._turn_until(lambda: not children.tickets)
        if children.tickets:
            log.warning("tasks are cut short and handed back", extra={"tasks": children.tickets})
        if self.sent_away_at is None:
            signal.setitimer(signal.ITIMER_REAL, ALARM_SECONDS)
        self.phase_ends = self._send_away() + LEAVE_SECONDS
        self._turn_until(lambda: not children.count)
        children.kill()
        self.phase_ends = time.monotonic() + BURY_SECONDS
        self._turn_until(lambda: not children.count)

    def _send_away(self) -> float:
        """Answers when this began."""
        self.sent_away_at = self.sent_away_at or time.monotonic()
        if self.worker.pool is not None and self.worker.pool._pool is not None:
            self.worker.pool._pool.send_away()
        return self.sent_away_at

    def _turn_until(self, done: Callable[[], bool]) -> None:
        """Keep the event loop turning until something is done, or the phase is over."""
        loop = self._loop()
        while not done() and time.monotonic() < (self.phase_ends or 0):
            try:
                next(loop)
            except StopIteration:
                loop = self._loop()
            except self.worker.consumer.connection_errors as error:
                log.warning("lost RabbitMQ on the way out: %s", error)
                loop = self._loop(fresh=True)

    def _loop(self, *, fresh: bool = False) -> Any:
        """The event loop; a fresh one knows the children and no connection."""
        hub = self.worker.hub
        if fresh:
            hub.reset()
        if not hub.readers.keys() >= self.worker.pool._pool.pipes:
            self.worker.pool.register_with_event_loop(hub)
        hub.call_repeatedly(TURN_SECONDS, int)
        return hub.create_loop()
