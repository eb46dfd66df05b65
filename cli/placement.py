"""Which private database server keeps which of the service's databases.

`make up` keeps them all on one MariaDB. Tests spread them over several servers of both kinds: `mariadb`, `mariadb-2`,
`mysql`, and so on, where what stands before the dash is the kind.
"""

from __future__ import annotations

from collections.abc import Mapping

from cli.trouble import Trouble

#: The databases by the names that the service calls them by, each with its schema.
SCHEMAS: Mapping[str, str] = {
    "ledger": "sluice_ledger",
    "data": "sluice_data",
    "archive": "sluice_archive",
}
MARIADB, MYSQL = "mariadb", "mysql"
ALL_ON_MARIADB: Mapping[str, str] = dict.fromkeys(SCHEMAS, MARIADB)


class Misplaced(Trouble):
    """A database was to lie on a server that there cannot be."""


def placed(wish: Mapping[str, str]) -> dict[str, str]:
    """The server of every database; those that the wish does not name lie on MariaDB."""
    for database, server in wish.items():
        if database not in SCHEMAS:
            raise Misplaced(f"no database is called {database!r}; there are: {', '.join(SCHEMAS)}")
        if not is_server(server):
            raise Misplaced(f"{server!r} is no database server: expected mariadb, mysql, mariadb-2, ...")
    return {**ALL_ON_MARIADB, **wish}


def parsed(text: str) -> dict[str, str]:
    """`mysql` for all, or `ledger=mariadb,data=mysql` for some."""
    if "=" not in text:
        return placed(dict.fromkeys(SCHEMAS, text.strip()))
    pairs = (each.partition("=") for each in text.split(","))
    return placed({database.strip(): server.strip() for database, _, server in pairs})


def kind_of(server: str) -> str:
    return server.partition("-")[0]


def is_server(name: str) -> bool:
    kind, dash, number = name.partition("-")
    return kind in (MARIADB, MYSQL) and (not dash or (number.isdecimal() and int(number) > 1))


def servers(databases: Mapping[str, str]) -> list[str]:
    """Each server once."""
    return list(dict.fromkeys(databases.values()))


def schemas(databases: Mapping[str, str], server: str) -> list[str]:
    """What a server keeps."""
    return [SCHEMAS[database] for database, where in databases.items() if where == server]
