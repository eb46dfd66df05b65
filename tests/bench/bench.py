"""What every case needs: the contenders, how much of everything, and a word on what is going on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from tests.bench.contenders import Contender, Peer, Sluice
from tests.bench.ground import Ground


@dataclass(frozen=True)
class Bench:
    ground: Ground
    sluice: Sluice
    peers: Sequence[Peer]
    console: Console
    #: 1 is the full run; less is a shorter one, whose figures say less.
    scale: float

    @property
    def contenders(self) -> list[Contender]:
        return [self.sluice, *self.peers]

    def of(self, number: int, *, least: int = 1) -> int:
        return max(least, round(number * self.scale))

    def say(self, words: str) -> None:
        self.console.print(f"  {words}", style="dim")
