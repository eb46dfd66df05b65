"""Posts that come at the same moment share a commit.

    the first post ──> leads: writes its own tasks down, and commits
    others meanwhile ─> wait ──> one of them leads: writes all of theirs down, and commits once

Nobody waits for company: a post that finds nobody at work is written at once. What a commit costs is then shared by as
many as came during the last one, so that the door takes the more, the more is asked of it.

Only plain tasks go together: a key of idempotency, a bound of their owner's, other tasks to wait for and a webhook are
reasons to be refused, and concern those who brought them alone. When a common transaction fails, each post is written
by itself, and learns what is wrong with it.

When things fail: each answer still means what it did. A process that dies before the commit has accepted none of them,
and none was answered; without the ledger all are told so.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ledger import acceptance, db
from ledger.acceptance import NewTask
from ledger.callers import Caller
from ledger.idempotency import Once
from ledger.states import State

#: Tasks that are written in one transaction.
MOST = 200


class Post:
    """The tasks of one post, and what became of them."""

    def __init__(self, new: Sequence[NewTask], caller: Caller) -> None:
        self.new, self.caller = new, caller
        self.states: list[State] = []
        self.error: Exception | None = None
        #: Of one that waits: held until it is written, has failed, or is to lead. An Event would be three locks.
        self._gate: threading.Lock | None = None

    def stand_in_line(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self) -> None:
        assert self._gate is not None
        self._gate.acquire()

    def call(self) -> None:
        if self._gate is not None and self._gate.locked():
            self._gate.release()

    @property
    def is_over(self) -> bool:
        return bool(self.states) or self.error is not None


class Company:
    """The posts of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Post] = []
        self._is_led = False

    def accept(self, new: Sequence[NewTask], caller: Caller) -> list[State]:
        post = Post(new, caller)
        if not self._leads(post):
            post.wait()
        if not post.is_over:
            self._lead(post)
        if post.error is not None:
            raise post.error
        return post.states

    def _leads(self, post: Post) -> bool:
        with self._lock:
            leads, self._is_led = not self._is_led, True
            if not leads:
                post.stand_in_line()
                self._waiting.append(post)
            return leads

    def _lead(self, post: Post) -> None:
        """Write this post, and those that wait, and leave the rest to one of them."""
        try:
            _write([post, *self._taken(post)])
        finally:
            self._hand_on()

    def _taken(self, leader: Post) -> list[Post]:
        taken, number = [], len(leader.new)
        with self._lock:
            while self._waiting and number + len(self._waiting[0].new) <= MOST:
                taken.append(self._waiting.pop(0))
                number += len(taken[-1].new)
        return taken

    def _hand_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.pop(0).call()
            else:
                self._is_led = False


def accept(new: Sequence[NewTask], *, caller: Caller, once: Once | None = None) -> list[State]:
    """As `acceptance.accept`, with others if they are plain."""
    if once is None and len(new) <= MOST and _is_plain(new, caller):
        return _company.accept(new, caller)
    return acceptance.accept(new, caller=caller, once=once)


def _is_plain(new: Sequence[NewTask], caller: Caller) -> bool:
    bounded = caller.most_open_tasks is not None or caller.mails_per_day is not None
    return not bounded and not any(task.depends_on or task.webhook or task.firing for task in new)


def _write(posts: Sequence[Post]) -> None:
    """All in one transaction, or else each in its own."""
    try:
        if len(posts) > 1 and _write_together(posts):
            return
        for post in posts:
            _write_alone(post)
    finally:
        for post in posts:
            post.error = post.error if post.is_over else db.Unavailable("the common transaction broke off")
            post.call()


def _write_together(posts: Sequence[Post]) -> bool:
    def work(connection: Connection) -> list[list[State]]:
        return [acceptance.accept_within(connection, new, caller=caller) for caller, new in groups]

    groups = [
        (caller, [task for post in posts if post.caller == caller for task in post.new])
        for caller in dict.fromkeys(post.caller for post in posts)
    ]
    try:
        found = db.transact(work)
    except db.Unavailable as error:
        for post in posts:
            post.error = type(error)(*error.args)
        return True
    except SQLAlchemyError:
        return False
    states = {
        task.task_id: state
        for (_, new), begun in zip(groups, found, strict=True)
        for task, state in zip(new, begun, strict=True)
    }
    for post in posts:
        post.states = [states[task.task_id] for task in post.new]
    return True


def _write_alone(post: Post) -> None:
    try:
        post.states = acceptance.accept(post.new, caller=post.caller)
    except Exception as error:  # noqa: BLE001  the post's own thread raises it
        post.error = error


_company = Company()


def _forget() -> None:
    global _company
    _company = Company()


os.register_at_fork(after_in_child=_forget)
