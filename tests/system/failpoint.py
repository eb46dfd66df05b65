"""Arms the places of `failpoints` for the processes of the stack, and tells who met one."""

from __future__ import annotations

from pathlib import Path

import failpoints
from tests.conftest import state
from tests.system.patience import until

STATE = state("system")
#: The folder that every process of the stack looks into.
FOLDER = STATE / "failpoints"


def arm(point: str, what: str = "kill") -> None:
    """The next process that comes there does so: `kill`, `freeze`, `sleep <seconds>` or `raise`."""
    for path in _hits(point):
        path.unlink()
    (FOLDER / point).write_text(what)


def hit(point: str, *, within: float = 30) -> int:
    """Wait until somebody met it; the pid."""
    what = f"somebody at {point} ({failpoints.POINTS[point]})"
    [path] = until(lambda: _hits(point), what, within=within)
    return int(path.name.split(".")[1])


def hits(*points: str) -> dict[str, int]:
    """Those of these places that somebody met, each with the pid."""
    return {point: int(path.name.split(".")[1]) for point in points for path in _hits(point)}


def disarm() -> None:
    """None of them does anything, and nobody met one."""
    for path in FOLDER.iterdir():
        path.unlink()


def _hits(point: str) -> list[Path]:
    return list(FOLDER.glob(f"{point}.*.hit"))
