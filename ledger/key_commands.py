"""The operator's commands on API keys: `python -m ledger keys --help`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from sqlalchemy.exc import DBAPIError, IntegrityError

from ledger import db
from ledger import keys as api_keys
from ledger.callers import Scope
from ledger.keys import BadKey, Secret

_DAY_SECONDS = 86_400


@click.group()
def keys() -> None:
    """Makes, lists and revokes API keys."""


@keys.command()
@click.option("--owner", required=True, help="Whose key it is; the owner sees the tasks of all of its keys.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    help="What it may do; may be given several times.  [default: read, write, stop]",
)
@click.option("--expires-in-days", type=click.FloatRange(min=0, min_open=True), help="[default: never]")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="[default: no bound]")
@click.option("--most-open-tasks", type=click.IntRange(min=1), help="Of its owner.  [default: no bound]")
@click.option("--mails-per-day", type=click.IntRange(min=0), help="Of its owner.  [default: no bound]")
@click.option("--note", default="", help="What it is for.")
@click.option("--stdin", is_flag=True, help="Let in the key on standard input, unless it is known.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def create(
    owner: str, scopes: tuple[str, ...], expires_in_days: float | None, stdin: bool, as_json: bool, **bounds: Any
) -> None:
    """Make a key and print it. It is shown this once: the ledger keeps only its hash."""
    secret = _read() if stdin else api_keys.make()
    with _told():
        if stdin and api_keys.find(secret.key_id) is not None:
            return
        api_keys.add(
            secret,
            owner=owner,
            scopes=[Scope(word) for word in scopes] or api_keys.USUAL_SCOPES,
            expires_in_seconds=expires_in_days and expires_in_days * _DAY_SECONDS,
            **bounds,
        )
    if stdin:
        click.echo(f"{secret.key_id} is let in")
    else:
        click.echo(json.dumps({"id": secret.key_id, "key": secret.words}) if as_json else secret.words)


def _read() -> Secret:
    secret = api_keys.parse(sys.stdin.readline().strip())
    if secret is None:
        raise click.ClickException("standard input holds no key of the form sluice_<8 characters>_<43 characters>")
    return secret


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def list_(as_json: bool) -> None:
    """Show every key, without its secret."""
    with _told():
        rows = [dict(row._mapping) for row in api_keys.listed()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=lambda time: f"{time.isoformat()}Z"))
        return
    for row in rows:
        revoked = f"  revoked {row['revoked_at']:%Y-%m-%d}" if row["revoked_at"] else ""
        expires = f"  expires {row['expires_at']:%Y-%m-%d}" if row["expires_at"] else ""
        used = f"{row['last_used_at']:%Y-%m-%d %H:%M}" if row["last_used_at"] else "never used"
        click.echo(f"{row['id']}  {row['owner']}  {row['scopes']}  {used}{revoked}{expires}  {row['note']}".rstrip())
    if not rows:
        click.echo("none")


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Keep a key out, by its id (the 8 characters after sluice_); effective within 5 seconds."""
    with _told():
        done = api_keys.revoke(key_id)
    if not done:
        raise click.ClickException(f"no key {key_id!r} that is not revoked; `keys list` shows them")
    click.echo(f"{key_id} is revoked")


@contextmanager
def _told() -> Iterator[None]:
    """What may go wrong, as a sentence."""
    try:
        yield
    except (db.Unavailable, BadKey) as error:
        raise click.ClickException(str(error)) from None
    except IntegrityError:
        raise click.ClickException("there is a key of this id already") from None
    except DBAPIError as error:
        raise click.ClickException(f"the database refused: {error.orig}") from None
