"""Sets up what the containers share, before the service starts: users, tables, rights, the API key, the sample files.

    python -m cli.containers.migrate        in the container `migrate`, at every `docker compose up`

Each step may be repeated and changes nothing then. It is the only container that can log in to MySQL as root; the rest
of its work it does as `sluice`, who owns the databases and may do nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy
from sqlalchemy import URL

from cli.roles import OF_DATABASES
from cli.trouble import Trouble

SAMPLES = Path("samples")
#: Folders of the storage: uploads, what tasks make, and the temporary copies of uploads.
STORAGE = ("in", "out", "tmp")
METRICS_KEY = "SLUICE_METRICS_KEY"


class SetUpFailed(Trouble):
    """A step of the set-up failed."""


def main() -> int:
    try:
        make_users()
        ledger("migrate", what="the databases could not be brought to this version")
        grant()
        let_keys_in()
        put_samples(Path(os.environ["SLUICE_STORAGE_DIR"]))
    except Trouble as trouble:
        sys.stderr.write(f"{trouble}\n")
        return 1
    return 0


def make_users() -> None:
    """The databases and their users, with the passwords that the secrets have now."""
    url = _set_up().set(username="root", password=_secret("MYSQL_ROOT_PASSWORD"), database="")
    execute(url, _secret("MYSQL_USERS").splitlines())


def grant() -> None:
    """Let each kind of process do to the tables what it has to."""
    users = [word for role, user in OF_DATABASES.items() for word in (f"--{role}", user)]
    found = json.loads(ledger("grants", "--json", *users, what="the rights could not be listed"))
    execute(_set_up(), (statement for statements in found.values() for statement in statements))


def let_keys_in() -> None:
    """Prometheus's where it is beside the service."""
    let_key_in("SLUICE_API_KEY", owner="local", scope="admin")
    if f"{METRICS_KEY}_FILE" in os.environ:
        let_key_in(METRICS_KEY, owner="prometheus", scope="metrics")


def let_key_in(name: str, *, owner: str, scope: str) -> None:
    """The key goes to the ledger by a pipe: in arguments everybody could read it."""
    options = ("--stdin", "--owner", owner, "--scope", scope, "--note", "made by make secrets")
    ledger("keys", "create", *options, text=_secret(name), what=f"the key of {owner} could not be made")


def put_samples(storage: Path) -> None:
    """The files that the examples of the documentation speak of."""
    for folder in STORAGE:
        (storage / folder).mkdir(exist_ok=True)
    for sample in SAMPLES.iterdir():
        if not (storage / "in" / sample.name).exists():
            shutil.copyfile(sample, storage / "in" / sample.name)


def execute(url: URL, statements: Iterable[str]) -> None:
    # Without parameters nothing is done about the % of a user's host.
    engine = sqlalchemy.create_engine(
        url, poolclass=sqlalchemy.NullPool, execution_options={"no_parameters": True}
    )
    with engine.connect() as connection:
        for statement in filter(None, statements):
            connection.exec_driver_sql(statement)


def ledger(*arguments: str, what: str, text: str | None = None) -> str:
    """One of the operator's commands; what it printed."""
    command = [sys.executable, "-m", "ledger", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetUpFailed(f"{what}: {(done.stderr or done.stdout).strip()}")
    sys.stderr.write(done.stderr)
    return done.stdout


def _set_up() -> URL:
    return sqlalchemy.make_url(_secret("LEDGER_DATABASE_URL"))


def _secret(name: str) -> str:
    return Path(os.environ[f"{name}_FILE"]).read_text(encoding="utf-8").strip()


if __name__ == "__main__":
    sys.exit(main())
