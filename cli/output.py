"""What the command says: a line with a tick per step, and tables; colours only on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

_GREEN, _RED, _YELLOW, _DIM, _BOLD = "32", "31", "33", "2", "1"
#: Columns of a step's name.
_NAME = 12
#: Columns of what is said about it, before the seconds.
_TEXT = 52


class Output:
    """Where the steps are told; without a stream nothing is, as scripts want it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._is_terminal = stream is not None and stream.isatty()
        self._has_colour = self._is_terminal and "NO_COLOR" not in os.environ
        self._passing = False

    @classmethod
    def terminal(cls) -> Output:
        return cls(sys.stdout)

    def line(self, text: str = "") -> None:
        if self._stream is None:
            return
        if self._passing:
            self._stream.write("\r\x1b[K")
            self._passing = False
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def title(self, text: str) -> None:
        self.line()
        self.line(f"  {self._paint(_BOLD, text)}")
        self.line()

    def done(self, name: str, text: str = "", seconds: float | None = None) -> None:
        self._step(_GREEN, "✓", name, text, seconds)

    def failed(self, name: str, text: str = "") -> None:
        self._step(_RED, "✗", name, text, None)

    def note(self, text: str) -> None:
        self.line(f"  {self._paint(_YELLOW, '!')} {text}")

    def passing(self, text: str) -> None:
        """What is being waited for; on a terminal only, and gone with the next line."""
        if self._is_terminal and self._stream is not None:
            self._stream.write(f"\r\x1b[K  {self._paint(_DIM, f'… {text}')}")
            self._stream.flush()
            self._passing = True

    @contextmanager
    def step(self, name: str, text: str = "") -> Iterator[None]:
        """A tick with the seconds it took; none when it raises."""
        began = time.monotonic()
        self.passing(f"{name} {text}".rstrip())
        yield
        self.done(name, text, time.monotonic() - began)

    def table(self, rows: Sequence[Sequence[str]], heading: Sequence[str] = ()) -> None:
        for number, line in enumerate(columns([heading, *rows] if heading else rows)):
            self.line("  " + (self._paint(_DIM, line) if heading and number == 0 else line))

    def _step(self, colour: str, mark: str, name: str, text: str, seconds: float | None) -> None:
        took = "" if seconds is None else self._paint(_DIM, f"{seconds:5.1f} s")
        self.line(f"  {self._paint(colour, mark)} {name:<{_NAME}} {text:<{_TEXT}} {took}".rstrip())

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._has_colour else text


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines with their columns under each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def duration(seconds: int) -> str:
    """`75` as `1 min 15 s`."""
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3600} h"
