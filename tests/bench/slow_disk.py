"""The same servers on a disk that takes a millisecond more for each sync, as a volume in a cloud does."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cli.program import Program
from cli.site import Site
from cli.stack import Stack

MORE_MICROSECONDS = 1_000
_SERVERS = ("mariadb", "rabbitmq")


class SlowStack(Stack):
    """Its database and its broker wait longer for the disk."""

    def _programs(self, site: Site) -> list[Program]:
        slow = variables(self.layout.state)
        return [
            replace(each, environment={**each.environment, **slow}) if each.name in _SERVERS else each
            for each in super()._programs(site)
        ]


def variables(folder: Path) -> Mapping[str, str]:
    """What makes a process wait."""
    library = folder / "slow_sync.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source = Path(__file__).with_name("slow_sync.c")
        subprocess.run(["tcc", "-shared", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_MICROSECONDS": str(MORE_MICROSECONDS)}
