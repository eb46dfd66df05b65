"""Server-Sent Events: the lines of a stream as its frames, as the HTML standard reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """What one block of lines said; None for what it did not say."""

    event: str | None = None
    data: str | None = None
    id: str | None = None
    retry_milliseconds: int | None = None


def frames(lines: Iterable[bytes]) -> Iterator[Frame]:
    """A block that the stream was cut off in is not told: it comes again."""
    said: dict[str, str] = {}
    for line in lines:
        if line:
            _read(line.decode("utf-8", "replace"), said)
        elif said:
            yield _frame(said)
            said = {}


def _read(line: str, said: dict[str, str]) -> None:
    name, _, value = line.partition(":")
    value = value.removeprefix(" ")
    if name == "data" and "data" in said:
        said["data"] += f"\n{value}"
    elif name:  # a line that begins with a colon is a comment, such as a sign of life
        said[name] = value


def _frame(said: dict[str, str]) -> Frame:
    retry = said.get("retry", "")
    return Frame(
        said.get("event"),
        said.get("data"),
        said.get("id"),
        int(retry) if retry.isascii() and retry.isdigit() else None,
    )
