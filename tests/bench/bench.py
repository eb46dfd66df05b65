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
    #: The round, from 0.
    number: int = 0

    @property
    def contenders(self) -> list[Contender]:
        """Who is first meets servers that have just done something else, so the next round goes the other way."""
        found: list[Contender] = [self.sluice, *self.peers]
        return found[::-1] if self.number % 2 else found

    def of(self, number: int, *, least: int = 1) -> int:
        return max(least, round(number * self.scale))

    def say(self, words: str) -> None:
        self.console.print(f"  {words}", style="dim")
