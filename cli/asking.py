"""How a task's fields are written in a command's arguments."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import click


class Moment(click.ParamType[datetime]):
    """A time with its zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-01-31T12:00:00Z", param, ctx)
        if found.tzinfo is None:
            self.fail(f"{value!r} has no zone: write 2026-01-31T12:00:00Z, or +01:00 at its end", param, ctx)
        return found


class TaskId(click.ParamType[str]):
    """A task's id, as the submission printed it."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("it is empty; a submission prints the id of its task", param, ctx)
        return str(value).strip()


def parameters(words: Iterable[str], whole: str | None) -> dict[str, Any]:
    """`name=text` and `name:=json`, on top of the JSON object that `--parameters` gave."""
    found = {} if whole is None else _whole(whole)
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name.rstrip(":"):
            raise click.UsageError(f"{word!r}: write name=text, or name:=json for numbers, lists and objects")
        found[name.removesuffix(":")] = _json(word, value) if name.endswith(":") else value
    return found


def _whole(word: str) -> dict[str, Any]:
    if word == "-":
        text = sys.stdin.read()
    elif word.startswith("@"):
        text = _file(word[1:])
    else:
        text = word
    found = _json("--parameters", text)
    if not isinstance(found, dict):
        raise click.UsageError("--parameters: that is JSON, but no object such as {\"rows\": 1000}")
    return found


def _file(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--parameters: {name}: {getattr(error, 'strerror', None) or error}") from None


def _json(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{place}: that is no JSON: {error}") from None
