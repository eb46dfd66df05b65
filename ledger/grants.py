"""What each kind of process says to each table, and so what its database user is granted, and nothing else.

The door, the workers, the monitor and the process that delivers to webhooks are users of their own on the ledger, and
the last of them is nobody elsewhere. On a business database the others are one user: a stop ends the connection of
whoever writes there by KILL, which a server grants to the same user for nothing and to another only together with
everybody else's connections (docs/decisions/0007-who-may-do-what-on-the-servers.md).

A new table of the ledger gets a line here, or no process may touch it; a test holds that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from sqlalchemy import Table, make_url

from ledger import models, schema
from ledger.schema import Database
from settings import settings


class Role(StrEnum):
    """Who asks a database."""

    API = "api"
    WORKER = "worker"
    MONITOR = "monitor"
    WEBHOOKS = "webhooks"
    #: The door, the workers and the monitor on a business database.
    TASKS = "tasks"


def _rights(*, api: str = "", worker: str = "", monitor: str = "", webhooks: str = "") -> dict[Role, str]:
    return {Role.API: api, Role.WORKER: worker, Role.MONITOR: monitor, Role.WEBHOOKS: webhooks}


#: The audit trail can be added to by all, changed by nobody, and is cleared by the monitor's retention only.
LEDGER: Mapping[Table, Mapping[Role, str]] = {
    models.tasks: _rights(
        api="SELECT INSERT UPDATE", worker="SELECT UPDATE", monitor="SELECT INSERT UPDATE DELETE", webhooks="SELECT"
    ),
    models.events: _rights(
        api="SELECT INSERT", worker="SELECT INSERT", monitor="SELECT INSERT DELETE", webhooks="SELECT INSERT"
    ),
    models.task_tags: _rights(api="SELECT INSERT", monitor="SELECT INSERT DELETE"),
    models.dependencies: _rights(api="SELECT INSERT", worker="SELECT", monitor="SELECT DELETE"),
    models.endings: _rights(
        api="SELECT INSERT UPDATE", worker="SELECT INSERT UPDATE", monitor="SELECT INSERT UPDATE DELETE"
    ),
    models.idempotency_keys: _rights(api="SELECT INSERT", monitor="SELECT DELETE"),
    models.counters: dict.fromkeys(
        (Role.API, Role.WORKER, Role.MONITOR, Role.WEBHOOKS), "SELECT INSERT UPDATE"
    ),
    models.tallies: _rights(api="SELECT", monitor="SELECT INSERT UPDATE"),
    models.figures: _rights(api="SELECT", monitor="SELECT INSERT DELETE"),
    models.leadership: _rights(api="SELECT", monitor="SELECT UPDATE"),
    models.workers: _rights(api="SELECT", worker="SELECT INSERT UPDATE DELETE", monitor="SELECT"),
    models.queues: _rights(api="SELECT INSERT UPDATE", worker="SELECT", monitor="SELECT"),
    models.limits: _rights(api="SELECT INSERT UPDATE DELETE", worker="SELECT UPDATE", monitor="SELECT UPDATE"),
    models.limit_starts: _rights(api="SELECT", worker="SELECT INSERT UPDATE", monitor="SELECT"),
    models.limit_waits: _rights(
        api="SELECT UPDATE", worker="SELECT INSERT UPDATE DELETE", monitor="SELECT UPDATE DELETE"
    ),
    # The monitor submits what schedules do, within the bounds of the keys that set them.
    models.api_keys: _rights(api="SELECT INSERT UPDATE", monitor="SELECT"),
    models.mail_quotas: _rights(api="SELECT INSERT UPDATE", monitor="SELECT INSERT UPDATE"),
    models.schedules: _rights(api="SELECT INSERT UPDATE DELETE", monitor="SELECT UPDATE"),
    models.firings: _rights(api="SELECT INSERT", monitor="SELECT INSERT DELETE"),
    models.webhook_deliveries: _rights(
        api="SELECT INSERT UPDATE", worker="SELECT INSERT", monitor="SELECT INSERT DELETE", webhooks="SELECT UPDATE"
    ),
    models.webhook_tries: _rights(api="SELECT", monitor="SELECT DELETE", webhooks="SELECT INSERT UPDATE"),
    models.webhooks_gone: _rights(api="SELECT", webhooks="SELECT INSERT UPDATE DELETE"),
    models.webhook_secrets: _rights(api="SELECT INSERT UPDATE DELETE", webhooks="SELECT"),
}
_MARKER = "SELECT INSERT UPDATE DELETE"
#: What the task types of the house do to the tables of SLUICE_TABLES; types of your own may want more.
_ROWS = "SELECT INSERT DELETE"


def needed(role: Role, line: str) -> dict[str, tuple[str, ...]]:
    """By table, what a role has to be allowed on a database of that line (`schema.Database.line`)."""
    if line == "business":
        rights = {models.marker.name: _MARKER} | dict.fromkeys(settings().tables, _ROWS) if role is Role.TASKS else {}
    else:
        rights = {table.name: words[role] for table, words in LEDGER.items() if words.get(role)}
    if rights:
        rights[schema.version_table(line)] = "SELECT"
    return {table: tuple(words.split()) for table, words in rights.items()}


def statements(database: Database, users: Mapping[Role, str]) -> Iterator[str]:
    """The GRANTs that users, as `name@host`, want on a database; the users must be there."""
    name = make_url(database.url).database
    for role, user in users.items():
        for table, rights in needed(role, database.line).items():
            yield f"GRANT {', '.join(rights)} ON `{name}`.`{table}` TO {account(user)}"


def account(user: str) -> str:
    """`name@host` as SQL has it; without a host from anywhere."""
    name, _, host = user.partition("@")
    return f"'{_quoted(name)}'@'{_quoted(host or '%')}'"


def _quoted(word: str) -> str:
    return word.replace("\\", "\\\\").replace("'", "\\'")
