"""Reads a `.env` file: `NAME=value` lines, comments and quotes; nothing is expanded or executed."""

from __future__ import annotations

import re
from pathlib import Path

from cli.trouble import Trouble

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


class DotenvError(Trouble):
    """A line of `.env` is not `NAME=value`."""


def read(path: Path) -> dict[str, str]:
    """What a file sets; a file that is not there sets nothing, and so does an empty value."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return parse(text, name=path.name)


def parse(text: str, name: str = ".env") -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise DotenvError(f"{name}, line {number}: expected NAME=value")
        value = _unquote(match[2])
        if value:
            found[match[1]] = value
    return found


def _unquote(value: str) -> str:
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        if end > 0:
            return value[1:end]
    return value.split(" #", 1)[0].strip()
