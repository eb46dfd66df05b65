"""The operator's commands on the ledger: `python -m ledger --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice

import click

from ledger import db, fitness, grants, key_commands, limit_commands, schema, states
from ledger import verify as rules_of
from ledger.grants import Role
from ledger.operating import COMMANDS
from ledger.telling import json_option, refusals, tell
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
    with refusals():
        try:
            schema.migrate(click.echo)
        except schema.MigrationsBusy as error:
            raise click.ClickException(str(error)) from None
        found = {each.name: fitness.look(each.name) for each in schema.databases()}
    for name, fit in found.items():
        for warning in fit.warnings:
            click.echo(f"{name}: {warning}", err=True)
    faults = [f"{name}: {fault}" for name, fit in found.items() for fault in fit.faults]
    if faults:
        raise click.ClickException("\n".join(faults))


@main.command("grants")
@click.option("--api", help="The door's user on the ledger, as NAME@HOST.")
@click.option("--worker", help="The workers' user on the ledger.")
@click.option("--monitor", help="The monitor's user on the ledger.")
@click.option("--webhooks", help="On the ledger, the user of the process that delivers to webhooks.")
@click.option("--tasks", help="The user of the first three on the business databases.")
@json_option
def show_grants(as_json: bool, **users: str | None) -> None:
    """Print the GRANTs that each kind of process needs and nothing else, for whoever administers the databases.

    The users have to be there, and the tables too: run `migrate` before it.
    """
    given = {Role(role): user for role, user in users.items() if user}
    if not given:
        raise click.UsageError("name at least one user, such as --api sluice_api@10.0.0.%")
    found = {each.name: list(grants.statements(each, given)) for each in schema.databases()}
    lines = (line for name, each in found.items() if each for line in (f"-- {name}", *(f"{grant};" for grant in each)))
    tell(found, lines, as_json=as_json)


@main.command()
@json_option
def verify(as_json: bool) -> None:
    """Check what must hold of the ledger and the business databases; exit code 1 when something does not.

    May run at any time beside the service. It reads everything once, so give it a quiet hour when there are millions of
    tasks.
    """
    # The biggest questions are answered in one piece, after minutes.
    db.be_patient(3600)
    with refusals():
        rules = rules_of.rules(db.ledger(), {name: db.data(name) for name in db.data_names()})
        found = [(rule, list(islice(rules_of.violations(rule), MOST_TOLD + 1))) for rule in rules]
    tell(_as_document(found), _as_lines(found), as_json=as_json)
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
@json_option
def show_states(as_json: bool) -> None:
    """Print the states and moves as a Mermaid diagram, or as a document."""
    moves = [
        {"name": move.name, "leaves": sorted(move.leaves), "enters": move.enters} for move in states.MOVES.values()
    ]
    document = {"states": list(states.State), "final": sorted(states.FINAL), "moves": moves}
    tell(document, [states.diagram()], as_json=as_json)


for command in COMMANDS:
    main.add_command(command)


main.add_command(key_commands.keys)
main.add_command(limit_commands.commands)


if __name__ == "__main__":
    main()
