"""As whom each process of a stack logs in: one user for each kind of process on each server, who may do what it has to.

The set-up itself is a further one. It makes databases and queues, and it is who `make env` and the tests log in as.
What each user is granted stands with its server (`cli.servers`), and for the tables in `ledger.grants`.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Whom every private server knows as the owner of what is ours there.
USER = "sluice"
#: May look at RabbitMQ's page, and change nothing there.
WATCH = "sluice_watch"
#: Nobody: no server knows it.
NOBODY = "sluice_nobody"


@dataclass(frozen=True)
class Role:
    """The user on each kind of server."""

    ledger: str
    data: str
    broker: str
    redis: str


SET_UP = Role(USER, USER, USER, USER)
#: On business databases the three are one user: a stop ends a worker's connection, which only its own user may.
_TASKS = "sluice_tasks"
API = Role("sluice_api", _TASKS, "sluice_api", "sluice_api")
WORKER = Role("sluice_worker", _TASKS, "sluice_worker", "sluice_worker")
MONITOR = Role("sluice_monitor", _TASKS, "sluice_monitor", "sluice_monitor")
#: Connects to where clients say, and has no business but in the ledger.
WEBHOOKS = Role("sluice_webhooks", NOBODY, NOBODY, NOBODY)
#: Looks at events, and has no business in databases.
FLOWER = Role(NOBODY, NOBODY, "sluice_flower", NOBODY)

#: The users that a database server gets besides the set-up's, by what `python -m ledger grants` calls them.
OF_DATABASES = {
    "api": API.ledger,
    "worker": WORKER.ledger,
    "monitor": MONITOR.ledger,
    "webhooks": WEBHOOKS.ledger,
    "tasks": _TASKS,
}
