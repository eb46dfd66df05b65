"""What a soak is made of: clients that do not take no for an answer, and somebody who kills at random meanwhile.

A 2xx is a promise; whatever else a post ends with, it is tried again, and may have left a task that nobody knows of.
Such a task has to end like any other, so the judgement asks the ledger and not the clients for what there is.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import requests

import celery_config
from cli.stack import NotUp, Stack
from tests.system import processes
from tests.system.books import Books
from tests.system.patience import until
from tests.system.service import CLIENTS, Service

#: Seconds between two tries of a client.
AGAIN_SECONDS = 0.1
#: Seconds within which one post has to get through, whatever is killed meanwhile.
THROUGH_SECONDS = 60.0
#: Seconds between two kills, at most.
PAUSE_SECONDS = 0.6

#: A victim that is killed for certain in the middle of an attempt, which would go on for so many seconds.
AT_WORK, AT_WORK_SECONDS = "at work", 5

#: What an attempt that was ended by a death is told to have failed of.
DEATHS = ("WorkerLost", "LeaseExpired")


class Clients:
    """Clients who post side by side, each task until it is accepted."""

    def __init__(self, service: Service, bodies: Sequence[Mapping[str, Any]]) -> None:
        self._service, self._bodies = service, bodies
        self._may = threading.Semaphore(0)
        self.accepted: list[str] = []
        #: Posts that were not accepted, by what they got instead.
        self.refused: Counter[str] = Counter()

    @contextmanager
    def posting(self) -> Iterator[None]:
        """They post in here, as many as `let` allows, and at its end all the rest."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            posts = [pool.submit(self._post_when_let, body) for body in self._bodies]
            try:
                yield
            finally:
                self.let(len(posts))
        self.accepted = [post.result() for post in posts]

    def let(self, number: int) -> None:
        """So many more tasks may be posted now."""
        self._may.release(number)

    def _post_when_let(self, body: Mapping[str, Any]) -> str:
        self._may.acquire()
        return self.post(body)

    def post(self, body: Mapping[str, Any]) -> str:
        answer = until(lambda: self._try(body), f"{body} is accepted", within=THROUGH_SECONDS, every=AGAIN_SECONDS)
        return str(answer["task_id"])

    def _try(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What was answered; nothing when it has to be tried again."""
        try:
            answer = self._service.ask("POST", "/api/tasks", json=body)
        except requests.RequestException as error:
            self.refused[type(error).__name__] += 1
            return {}
        if answer.ok:
            return dict(answer.json())
        self.refused[str(answer.status_code)] += 1
        assert answer.status_code == 503, f"{body} was answered {answer.status_code}: {answer.text}"
        return {}


@dataclass(frozen=True)
class Kill:
    #: What kind of process it was: `child`, `worker`, `api`, `mariadb`, ...
    victim: str
    #: The part of the stack that it belonged to.
    part: str
    #: By the wall clock, which here is the databases' too, in UTC as the ledger writes it.
    at: datetime


class Killer:
    """Kills one process after the other, each as soon as it is there to be killed."""

    def __init__(
        self, stack: Stack, clients: Clients, books: Books, chance: random.Random, *, workers: Sequence[str]
    ) -> None:
        self._stack, self._clients, self._books = stack, clients, books
        self._chance, self._workers = chance, workers
        self.kills: list[Kill] = []

    @property
    def victims(self) -> Mapping[str, Callable[[], object]]:
        servers = ("rabbitmq", "redis", *sorted(set(self._stack.databases.values())))
        return {
            "child": lambda: self._kill_child("child", self._chance.choice(self._workers)),
            "worker": lambda: self._kill_part("worker", self._chance.choice(self._workers)),
            "api": lambda: self._kill_part("api", "api"),
            "api worker": lambda: self._kill_child("api worker", "api"),
            "monitor": lambda: self._kill_part("monitor", "monitor"),
            **{name: partial(self._kill_server, name) for name in servers},
        }

    def plan(self, number: int, *, favourites: Sequence[str]) -> list[str]:
        """Each victim at least once, and mostly some of them; in any order. One more is hit at work: all the others may
        come between the tasks, which are short."""
        once = [AT_WORK, *self.victims]
        plan = once + [self._chance.choice([*self.victims, *favourites]) for _ in range(number - len(once))]
        self._chance.shuffle(plan)
        return plan

    def kill(self, victim: str) -> None:
        time.sleep(self._chance.uniform(0.05, PAUSE_SECONDS))  # not a wait: any moment should be hit
        if victim == AT_WORK:
            self._kill_at_work()
        else:
            self.victims[victim]()

    def _kill_at_work(self) -> None:
        """The whole worker, since nobody knows in which of its children the attempt is."""
        kind = self._chance.choice(celery_config.WORKERS)
        long = {"task_type": f"linger_{kind}", "parameters": {"seconds": AT_WORK_SECONDS}, "max_retries": RETRIES}
        task_id = self._clients.post(long)
        worker = until(lambda: self._books.at_work(task_id), f"an attempt of {task_id}", within=60)
        self._kill_part(AT_WORK, worker.partition("@")[0])

    def _kill_server(self, name: str) -> None:
        """All others would only be seen to wait for it: nobody else is killed before it is back."""
        self._stack.wait(name, after_pid=self._kill_part(name, name))

    def _kill_part(self, victim: str, name: str) -> int:
        pid = int(until(lambda: self._pid(name), f"a running {name}", within=60))
        return self._hit(victim, name, pid)

    def _kill_child(self, victim: str, name: str) -> None:
        pids = until(lambda: processes.children(self._pid(name)), f"a child of {name}", within=60)
        self._hit(victim, name, self._chance.choice(pids))

    def _hit(self, victim: str, name: str, pid: int) -> int:
        at = datetime.now(UTC).replace(tzinfo=None)
        if processes.kill(pid):
            self.kills.append(Kill(victim, name, at))
        return pid

    def _pid(self, name: str) -> int:
        """0 while supervisord has yet to start it again."""
        try:
            return self._stack.pid(name)
        except NotUp:
            return 0


def deaths_by_victim(books: Books, kills: Sequence[Kill]) -> Counter[str]:
    """The attempts that ended by a death, by whose: the first kill in its worker after its claim."""
    claims = {(row.task_id, row.attempt): row for row in books.events("claimed")}
    found: Counter[str] = Counter()
    for death in [*books.events("retried"), *books.events("given_up")]:
        if (death.detail or {}).get("type") not in DEATHS:
            continue
        claim = claims[death.task_id, death.attempt]
        worker = claim.detail["worker"].partition("@")[0]
        found[next((kill.victim for kill in kills if kill.part == worker and claim.at < kill.at < death.at), "?")] += 1
    return found


def told(kills: Sequence[Kill], deaths: Mapping[str, int]) -> str:
    """A line for each victim: how often it was killed, and how many running attempts died of it."""
    numbers = Counter(kill.victim for kill in kills)
    lines = [f"  {victim:12} {numbers[victim]:4} kills  {deaths.get(victim, 0):4} attempts died"
             for victim in sorted({*numbers, *deaths})]
    return "\n".join([*lines, f"  {'together':12} {len(kills):4} kills  {sum(deaths.values()):4} attempts died"])


#: The file that the soak's imports and file tasks read: its name and rows.
CSV_NAME, CSV_ROWS = "soak.csv", 40
CSV = "field1,field2\n" + "".join(f"imported,{number}\n" for number in range(CSV_ROWS))
#: Retries enough for whatever is hit again and again.
RETRIES = 40


def upload(service: Service) -> None:
    answer = service.ask("POST", "/api/files", files={"file": (CSV_NAME, CSV.encode())})
    assert answer.ok, answer.text


def bodies(number: int, chance: random.Random) -> list[dict[str, Any]]:
    """Tasks of all types and priorities, the kinds of worker in turn. (Only `truncate_table` is left out: it would
    take away what the others are asked for at the end.)"""
    return [
        {
            "task_type": task_type,
            "parameters": parameters,
            "priority": chance.choice(celery_config.PRIORITIES),
            "delay": chance.choice((0, 0, 0, 0.5)),
            "max_retries": RETRIES,
        }
        for task_type, parameters in (_work(place, chance) for place in range(number))
    ]


def _work(place: int, chance: random.Random) -> tuple[str, dict[str, Any]]:
    rows, seconds = chance.randrange(50, 500), round(chance.uniform(0.05, 0.3), 3)
    signed: tuple[str, dict[str, Any]] = ("signed_insert", {"rows": rows, "seconds": seconds})
    choices: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "data": [
            signed,
            ("signed_insert", {"rows": rows, "seconds": seconds, "databases": ["archive", "data"]}),
            ("bulk_insert", {"rows": rows * 10}),
            ("fan_out_insert", {"rows": rows}),
            ("csv_import", {"filename": CSV_NAME}),
            ("data_processing", {"data": [rows, 2, 3], "operation": "statistics"}),
        ],
        "email": [
            # A mail whose worker died over it is sent again, under the same Message-ID.
            ("email_sending", {"to": "somebody@example.com", "subject": f"Number {place}", "if_uncertain": "retry"}),
            ("linger_email", {"seconds": seconds}),
        ],
        "file": [
            ("file_processing", {"filename": CSV_NAME, "operation": "compress"}),
            ("file_processing", {"filename": CSV_NAME, "operation": "checksum"}),
            ("linger_file", {"seconds": seconds}),
        ],
    }
    kinds = choices[celery_config.WORKERS[place % len(celery_config.WORKERS)]]
    return kinds[place // len(celery_config.WORKERS) % len(kinds)]
