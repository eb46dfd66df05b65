"""The CPU time that groups of processes have used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import psutil


def seconds(pids: Iterable[int]) -> float:
    """Of these processes and all below them, also of those below that have ended and been waited for."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(pid)
            for each in (leader, *leader.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += sum(each.cpu_times()[:4])
    return total


class Meter:
    """What each group has used since this was made."""

    def __init__(self, groups: Mapping[str, Iterable[int]]) -> None:
        self._groups = {name: list(pids) for name, pids in groups.items()}
        self._before = self._now()

    def used(self) -> dict[str, float]:
        return {name: after - self._before[name] for name, after in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: seconds(pids) for name, pids in self._groups.items()}
