"""How the operator's commands speak: a table for people, one JSON document for programs, and a refusal in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from sqlalchemy.exc import DBAPIError

from ledger import db, xa

#: Gives a command its `--json`.
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")


def tell(document: Any, lines: Iterable[str], *, as_json: bool) -> None:
    click.echo(json.dumps(document, indent=2) if as_json else "\n".join(lines))


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines with their columns under each other; numbers stand to the right, None is a dash."""
    cells = [tuple(heading), *(tuple("-" if cell is None else cell for cell in row) for row in rows)]
    widths = [max(len(str(cell)) for cell in column) for column in zip(*cells, strict=True)]
    return ["  ".join(_fitted(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _fitted(cell: object, width: int) -> str:
    return f"{cell:>{width}}" if isinstance(cell, int | float) else f"{cell!s:<{width}}"


@contextmanager
def refusals() -> Iterator[None]:
    """What a database has against it is told in a line."""
    try:
        yield
    except (db.Unavailable, xa.MissingPrivilege) as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        raise click.ClickException(f"the database refused: {error.orig}") from None
