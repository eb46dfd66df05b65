"""The operator's commands on the ledger: `python -m ledger --help`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice

import click
from sqlalchemy.exc import DBAPIError

from ledger import db, fitness, schema, states, xa
from ledger import verify as rules_of
from ledger.verify import Rule, Violation
from settings import SettingsError, settings

#: Violations of one rule that are told; of the rest only that there are more.
MOST_TOLD = 20


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
        found = {each.name: fitness.look(each.name) for each in schema.databases()}
    except (db.Unavailable, schema.MigrationsBusy) as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        raise click.ClickException(f"the database refused: {error.orig}") from None
    for name, fit in found.items():
        for warning in fit.warnings:
            click.echo(f"{name}: {warning}", err=True)
    faults = [f"{name}: {fault}" for name, fit in found.items() for fault in fit.faults]
    if faults:
        raise click.ClickException("\n".join(faults))


@main.command("in-doubt")
def in_doubt() -> None:
    """List the prepared branches that wait for their decision to be carried out."""
    try:
        branches = [branch for name in db.data_names() for branch in xa.recover(name)]
    except (db.Unavailable, xa.MissingPrivilege) as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        raise click.ClickException(f"the database refused: {error.orig}") from None
    for branch in branches:
        click.echo(f"{branch.database}  task {branch.task_id}  attempt {branch.attempt}")
    if not branches:
        click.echo("none")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def verify(as_json: bool) -> None:
    """Check what must hold of the ledger and the business databases; exit code 1 when something does not.

    May run at any time beside the service. It reads everything once, so give it a quiet hour when there are millions of
    tasks.
    """
    # The biggest questions are answered in one piece, after minutes.
    db.be_patient(3600)
    try:
        rules = rules_of.rules(db.ledger(), {name: db.data(name) for name in db.data_names()})
        found = [(rule, list(islice(rules_of.violations(rule), MOST_TOLD + 1))) for rule in rules]
    except (db.Unavailable, xa.MissingPrivilege) as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        raise click.ClickException(f"the database refused: {error.orig}") from None
    click.echo(json.dumps(_as_document(found), indent=2) if as_json else "\n".join(_as_lines(found)))
    sys.exit(1 if any(broken for _, broken in found) else 0)


Found = Sequence[tuple[Rule, Sequence[Violation]]]


def _as_document(found: Found) -> dict[str, object]:
    rules = [
        {"rule": rule.name, "holds": rule.holds, "violations": [asdict(each) for each in broken]}
        for rule, broken in found
    ]
    return {"ok": not any(broken for _, broken in found), "rules": rules}


def _as_lines(found: Found) -> list[str]:
    width = max(len(rule.name) for rule, _ in found)
    lines = []
    for rule, broken in found:
        lines.append(f"{'✗' if broken else '✓'} {rule.name:{width}}  {rule.holds}")
        lines += [f"    {each.task_id}  {each.words}" for each in broken[:MOST_TOLD]]
        lines += ["    ... and more"] if len(broken) > MOST_TOLD else []
    return lines


@main.command("states")
def show_states() -> None:
    """Print the states and moves as a Mermaid diagram."""
    click.echo(states.diagram())


if __name__ == "__main__":
    main()
