"""What the databases hold, read past the service and on connections of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, Select, create_engine, func, select, text

from ledger import xa
from ledger.models import (
    counters,
    dependencies,
    endings,
    events,
    firings,
    limit_starts,
    limit_waits,
    limits,
    marker,
    queues,
    schedules,
    task_tags,
    tasks,
    webhook_deliveries,
    webhook_tries,
    webhooks_gone,
)
from ledger.states import FINAL
from tests import invariants
from tests.system.patience import until
from tests.system.service import brief


class Books:
    """Every question is a statement of its own, so that it sees what is there now."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        """`urls` are the variables of the stack."""
        self.ledger = _engine(urls["LEDGER_DATABASE_URL"])
        self.data = _engine(urls["DATA_DATABASE_URL"])
        #: All business databases by name.
        self.databases = {"data": self.data}
        for named in filter(None, urls.get("DATA_DATABASES", "").split(",")):
            name, _, url = named.strip().partition("=")
            self.databases[name] = _engine(url)

    def task(self, task_id: str) -> Row[Any]:
        return self._rows(select(tasks).where(tasks.c.id == task_id))[0]

    def tasks(self, task_ids: Collection[str]) -> list[Row[Any]]:
        """In the order in which they were first started; those that never were come first."""
        found = self._rows(select(tasks).where(tasks.c.id.in_(task_ids)).order_by(tasks.c.started_at))
        assert len(found) == len(set(task_ids)), (
            f"{len(set(task_ids))} tasks were accepted, {len(found)} are there"
        )
        return found

    def everybody(self) -> set[str]:
        """The ids of all tasks that there are, also of those whose client never heard of them."""
        return {row.id for row in self._rows(select(tasks.c.id))}

    def of_type(self, task_type: str) -> list[Row[Any]]:
        return self._rows(select(tasks).where(tasks.c.task_type == task_type).order_by(tasks.c.id))

    def states(self, task_ids: Collection[str] | None = None) -> Counter[str]:
        """How many tasks are in each state."""
        statement = select(tasks.c.state, func.count()).group_by(tasks.c.state)
        if task_ids is not None:
            statement = statement.where(tasks.c.id.in_(task_ids))
        return Counter(dict(tuple(row) for row in self._rows(statement)))

    def events(self, name: str, task_ids: Collection[str] | None = None) -> list[Row[Any]]:
        """The events of one kind in the order of their writing."""
        statement = select(events).where(events.c.event == name).order_by(events.c.seq)
        if task_ids is not None:
            statement = statement.where(events.c.task_id.in_(task_ids))
        return self._rows(statement)

    def moves(self, task_id: str) -> list[Row[Any]]:
        """What happened to a task, in order."""
        return self._rows(select(events).where(events.c.task_id == task_id).order_by(events.c.seq))

    def started(self, task_ids: Collection[str]) -> list[str]:
        """Tasks in the order of their claims."""
        return [row.task_id for row in self.events("claimed", task_ids)]

    def running(self, kind: str) -> int:
        """How many tasks of a kind of worker an attempt is at."""
        statement = select(func.count()).where(
            tasks.c.state == "running", tasks.c.queue.startswith(f"{kind}.")
        )
        return int(self._rows(statement)[0][0])

    def at_work(self, task_id: str) -> str:
        """The worker that an attempt of a task runs in, if one does."""
        row = self.task(task_id)
        return str(row.worker) if row.state == "running" else ""

    def waiting(self, kind: str) -> int:
        """How many tasks of a kind of worker have yet to end."""
        mine = tasks.c.queue.startswith(f"{kind}.")
        statement = select(func.count()).where(mine, tasks.c.state.not_in(FINAL))
        return int(self._rows(statement)[0][0])

    def dispatched(self, task_ids: Collection[str]) -> int:
        """For how many of these the broker confirmed a ticket."""
        statement = select(func.count()).where(tasks.c.id.in_(task_ids), tasks.c.dispatched_at.is_not(None))
        return int(self._rows(statement)[0][0])

    def sent(self, task_ids: Collection[str]) -> int:
        """How many of their tickets the broker has confirmed so far, those that were sent again too."""
        statement = select(func.sum(tasks.c.dispatches)).where(tasks.c.id.in_(task_ids))
        return int(self._rows(statement)[0][0])

    def without_ticket(self) -> int:
        """How many queued tasks the broker has yet to hear of."""
        statement = select(func.count()).where(tasks.c.state == "queued", tasks.c.dispatched_at.is_(None))
        return int(self._rows(statement)[0][0])

    def ticks(self, schedule_id: str) -> list[datetime]:
        """The ticks of a schedule that have tasks, one for each of those tasks."""
        fired = select(firings.c.tick).join(tasks, tasks.c.id == firings.c.task_id).order_by(firings.c.tick)
        return [row.tick for row in self._rows(fired.where(firings.c.schedule_id == schedule_id))]

    def late_ticks(self) -> int:
        """Of how many schedules a tick that came two seconds ago still waits for somebody."""
        late = schedules.c.due_at < text("UTC_TIMESTAMP(6) - INTERVAL 2 SECOND")
        return int(self._rows(select(func.count()).where(late))[0][0])

    def total(self, name: str) -> int:
        """A running total, 0 when nothing was counted yet."""
        found = self._rows(select(counters.c.value).where(counters.c.name == name))
        return int(found[0][0]) if found else 0

    def count(self, database: str = "data") -> int:
        """Rows of the table that everybody sees."""
        with self.databases[database].connect() as connection:
            return int(connection.execute(text("SELECT COUNT(*) FROM data")).scalar_one())

    def in_doubt(self) -> list[str]:
        """The names of our prepared branches: task, attempt and database. Several databases may lie on one server."""
        found = set()
        for engine in self.databases.values():
            with engine.connect() as connection:
                found |= {"".join(names) for names in invariants.prepared_branches(connection)}
        return sorted(found)

    def is_being_written(self, task_id: str) -> bool:
        """Whether a connection holds a lock of the task, or a branch of it is prepared."""
        return any(self._is_locked(task_id, name) for name in self.databases) or any(
            branch.startswith(task_id) for branch in self.in_doubt()
        )

    def _is_locked(self, task_id: str, database: str) -> bool:
        lock = text("SELECT IS_USED_LOCK(:name) IS NOT NULL")
        with self.databases[database].connect() as connection:
            return bool(connection.execute(lock, {"name": xa.lock_name(task_id, database)}).scalar_one())

    def all_ended(self, task_ids: Collection[str], *, within: float) -> None:
        """Wait until every one of these tasks is over."""
        until(
            lambda: sum(self.states(task_ids)[state] for state in FINAL) == len(set(task_ids)),
            f"the end of {len(set(task_ids))} tasks",
            within=within,
            seen=lambda: self.told(task_ids),
        )

    def all_succeeded(self, task_ids: Collection[str], *, within: float) -> None:
        """Wait until every one of these tasks is over, which must be by success."""
        self.all_ended(task_ids, within=within)
        assert self.states(task_ids) == {"succeeded": len(set(task_ids))}, self.told(task_ids)

    def told(self, task_ids: Collection[str]) -> str:
        """The states of tasks, and what some of those that did not succeed look like."""
        others = [
            brief(row._asdict()) | {"history": self.history(row.id)}
            for row in self.tasks(task_ids)
            if row.state != "succeeded"
        ]
        return f"{dict(self.states(task_ids))}, such as {others[:3]}"

    def history(self, task_id: str) -> list[str]:
        """A task's events as lines."""
        return [
            f"{row.at:%H:%M:%S.%f} {row.event} #{row.attempt} {row.remark or ''}".strip()
            for row in self.moves(task_id)
        ]

    def at_rest(self, *, within: float = 60) -> None:
        """Wait until nothing is going on; then every invariant must hold."""
        until(
            lambda: not set(self.states()) - FINAL and not self.in_doubt(),
            "rest",
            within=within,
            seen=lambda: f"{self.told([row.id for row in self._unfinished()])}, in doubt {self.in_doubt()}",
        )
        broken = invariants.violations(self.ledger, self.databases)
        assert not broken, "at rest, and yet:\n" + "\n".join(broken)

    def empty(self) -> None:
        """Forget all tasks and rows."""
        for branch in self.in_doubt():
            self._roll_back(branch)
        with self.ledger.connect() as connection:
            told = (webhook_deliveries, webhook_tries, webhooks_gone)
            for each in (
                *(tasks, task_tags, firings, schedules),
                *(events, counters, dependencies, endings, queues, *told),
                *(limits, limit_starts, limit_waits),
            ):
                connection.execute(text(f"TRUNCATE TABLE {each.name}"))
        for engine in self.databases.values():
            with engine.connect() as connection:
                for name in (marker.name, "data"):
                    connection.execute(text(f"TRUNCATE TABLE {name}"))

    def _roll_back(self, branch: str) -> None:
        """A test that failed must not spoil the next one."""
        with self.databases[branch.rpartition(".")[2]].connect() as connection:
            connection.exec_driver_sql("XA ROLLBACK %s,%s,%s", (branch[:36], branch[36:], xa.FORMAT_ID))

    def _unfinished(self) -> Sequence[Row[Any]]:
        return self._rows(select(tasks.c.id).where(tasks.c.state.not_in(FINAL)))

    def _rows(self, statement: Select[Any]) -> list[Row[Any]]:
        with self.ledger.connect() as connection:
            return list(connection.execute(statement))


def _engine(url: str) -> Engine:
    return create_engine(
        url, isolation_level="AUTOCOMMIT", pool_pre_ping=True, connect_args={"connect_timeout": 5}
    )
