"""What the storms have shown, as one table at the end of the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine

_HEADINGS = ("storm", "rounds", "hits", "wrong", "p50", "p99", "slowest", "looks", "per s", "databases")


@dataclass
class Line:
    """One storm. Whoever runs it writes down what happened as it happens, so that a failed one is shown too."""

    storm: str
    databases: str
    rounds: int = 0
    #: What was to be hit and was: stops near the commit, fail-points, frozen attempts, defects.
    hits: int = 0
    #: Contradictions between verdict, state and rows, broken invariants, and what the reader saw.
    wrong: int = 0
    #: Seconds that the storm measures: of a stop's answer, or until no branch was in doubt any more.
    seconds: list[float] = field(default_factory=list)
    looks: int = 0
    looks_per_second: float = 0.0

    @property
    def cells(self) -> tuple[str, ...]:
        return (
            self.storm,
            str(self.rounds),
            str(self.hits),
            str(self.wrong),
            *(f"{percentile(self.seconds, share):.2f} s" if self.seconds else "" for share in (0.5, 0.99, 1)),
            str(self.looks),
            f"{self.looks_per_second:.0f}",
            self.databases,
        )


def title(test: str) -> str:
    """The sentence in a test's name."""
    return test.removeprefix("test_").replace("_", " ")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(lines: Iterable[Sequence[str]]) -> list[str]:
    """Lines of text, the words left and the numbers right, of each line's cells."""
    rows = [_HEADINGS, *lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_aligned(cell, width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _aligned(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)


def engines(databases: Mapping[str, Engine]) -> str:
    """Which databases lie on which server: `ledger, data on MariaDB 10.11.14`."""
    names: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name, engine in databases.items():
        with engine.connect() as connection:
            dialect = connection.dialect
        # Its first three numbers are those that people know.
        version = ".".join(str(part) for part in (dialect.server_version_info or ())[:3])
        kind = "MariaDB" if dialect.is_mariadb else "MySQL"  # type: ignore[attr-defined]
        names[f"{kind} {version}", f"{engine.url.host}:{engine.url.port}"].append(name)
    return "; ".join(f"{', '.join(each)} on {server}" for (server, _), each in names.items())
