"""The child processes of a worker: which are free, and how soon a death among them is noticed.

Celery counts slots in a semaphore, which drifts: a lost connection resets it under running tasks, an idle child that
dies gives back a slot that it never took. Here nothing is counted. A child is free when it has reported for work and
holds no ticket, and that is read off the pool's own books each time it matters.

Children are deaf to SIGTERM: whoever signals the whole group of processes (systemd and most container platforms do)
means the parent, and the parent lets running tasks finish. A child that is to leave at once gets SIGQUIT, upon which
its attempt hands the task back (`tasks.lifecycle`).

When things fail: a child that dies is missed within milliseconds, its task is settled by `workers.settle`, and another
child is forked. Until that one has reported for work it is not free. A ticket that was on its way to a child that died
without beginning it goes to the next one. When the parent dies, the kernel kills the children (PDEATHSIG).
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from billiard.pool import DEATH
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.asynpool import Worker as AsyncWorker
from celery.concurrency.prefork import TaskPool

from ledger import db
from tasks import lifecycle, tracing

#: Seconds that a child waits for a database's answer.
PATIENCE_SECONDS = 10.0

#: Makes a child leave, through every `finally`.
LEAVE = signal.SIGQUIT

#: A dead child's pipe closes a moment before the kernel has its exit status: look again this soon.
REAP_AGAIN_SECONDS = 0.005
#: How often to look for dead children of which nothing was heard at all.
REAP_SECONDS = 0.5


class Child(AsyncWorker):
    """What runs in a child process."""

    def after_fork(self) -> None:
        super().after_fork()
        db.be_patient(PATIENCE_SECONDS)
        # After billiard, which installs handlers of its own for these signals.
        lifecycle.install()
        tracing.begin("sluice-worker")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Children(AsynPool):
    """Celery's pool of child processes, with the questions that the worker asks of it."""

    Worker = Child

    #: Called whenever a child may have become free.
    on_free: Callable[[], None] | None = None
    #: Whether a child that leaves is replaced; a worker that stops does not.
    replaces = True

    # The pool's books (`workers.internals` checks that they are still kept): the processes; the pipes of those that
    # reported for work; of these, the pipes of those that hold a ticket; tickets not yet written to a pipe; tickets
    # without an answer; the pipes on which children report.
    _pool: list[Any]
    _all_inqueues: set[int]
    _busy_workers: set[int]
    outbound_buffer: deque[Any]
    _cache: dict[int, Any]
    _fileno_to_outq: dict[int, Any]

    @property
    def free(self) -> int:
        """How many tickets can start right now, each in a child that waits for one."""
        return len(self._all_inqueues - self._busy_workers) - len(self.outbound_buffer)

    @property
    def tickets(self) -> int:
        """How many tickets are in the children's hands, or on the way there."""
        return len(self._cache)

    @property
    def count(self) -> int:
        return len(self._pool)

    @property
    def pipes(self) -> set[int]:
        """The file descriptors on which the children report."""
        return set(self._fileno_to_outq)

    def send_away(self) -> None:
        """Tell every child to leave; a task that still runs is cut short. Each is told once: the next signal would
        interrupt it on its way out."""
        for child in self._pool:
            if not child._controlled_termination:
                child._controlled_termination = True
                _signal(child.pid, LEAVE)

    def kill(self) -> None:
        for child in self._pool:
            _signal(child.pid, signal.SIGKILL)

    # --- hooks of Celery's and billiard's pools ------------------------------------------------------------------

    def create_result_handler(self, **options: Any) -> Any:
        handler: Any = super().create_result_handler(**options)
        handler.state_handlers[DEATH] = self._on_leaving
        return handler

    def on_process_alive(self, pid: int) -> None:
        super().on_process_alive(pid)
        self._tell_free()

    def on_job_ready(self, job: Any, i: Any, obj: Any, inqW_fd: int) -> None:
        super().on_job_ready(job, i, obj, inqW_fd)
        self._tell_free()

    def _tell_free(self) -> None:
        if self.on_free is not None:
            self.on_free()

    def _on_leaving(self, pid: int, exitcode: int) -> None:
        """A child has said that it exits, and waits to be told. It gets no ticket any more."""
        child = next((each for each in self._pool if each.pid == pid), None)
        if child is not None:
            self._all_inqueues.discard(child.inqW_fd)
            _signal(pid, LEAVE)

    def on_partial_read(self, job: Any, proc: Any) -> None:
        """A child to which this ticket was written is dead. Celery hands the ticket on when the child has not said that
        it began; but of one that died while another was being buried nobody has read the last words yet, and the
        next child would drop the ticket of an attempt that nobody ends."""
        if not job._accepted:
            self.process_flush_queues(proc)
        super().on_partial_read(job, proc)

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        """The pipe of a child closed. Celery asks for its exit status once, often too early, and next in 5 seconds."""
        super()._event_process_exit(hub, proc)  # type: ignore[misc]
        self._reap(hub, proc)

    def _reap(self, hub: Any, proc: Any) -> None:
        if proc in self._pool:
            self.maintain_pool()
        if proc in self._pool:
            hub.call_later(REAP_AGAIN_SECONDS, self._reap, hub, proc)

    def _repopulate_pool(self, exitcodes: list[int]) -> None:
        if self.replaces:
            super()._repopulate_pool(exitcodes)  # type: ignore[misc]

    @property
    def timers(self) -> dict[Callable[[], None], float]:
        return {self.maintain_pool: REAP_SECONDS}

    def terminate(self) -> None:
        self.kill()
        super().terminate()


class Pool(TaskPool):
    """What Celery calls the pool: a shell around the children."""

    Pool = Children

    _pool: Children | None

    def on_stop(self) -> None:
        """The drain has sent the children away before; Celery's own way waits for another half second."""
        if self._pool is not None:
            self._pool.close()
            self._pool.join()
            self._pool = None


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
