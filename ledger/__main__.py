"""The operator's commands on the ledger: `python -m ledger --help`."""

from __future__ import annotations

import click
from sqlalchemy.exc import DBAPIError

from ledger import db, schema, states, xa
from settings import SettingsError, settings


@click.group()
def main() -> None:
    """Looks after Sluice's ledger."""
    try:
        settings()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@main.command()
def migrate() -> None:
    """Bring the ledger and the business databases to this version's schema."""
    try:
        schema.migrate(click.echo)
    except (db.Unavailable, schema.MigrationsBusy, xa.MissingPrivilege) as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        raise click.ClickException(f"the database refused: {error.orig}") from None


@main.command("in-doubt")
def in_doubt() -> None:
    """List the prepared branches that wait for their decision to be carried out."""
    try:
        branches = [branch for name in db.data_names() for branch in xa.recover(name)]
    except db.Unavailable as error:
        raise click.ClickException(str(error)) from None
    for branch in branches:
        click.echo(f"{branch.database}  task {branch.task_id}  attempt {branch.attempt}")
    if not branches:
        click.echo("none")


@main.command("states")
def show_states() -> None:
    """Print the states and moves as a Mermaid diagram."""
    click.echo(states.diagram())


if __name__ == "__main__":
    main()
