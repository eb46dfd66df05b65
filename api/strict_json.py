"""Reads a request's JSON strictly: what is ambiguous is refused, and not repaired.

Python's parser lets through what other parsers read otherwise or cannot store: NaN, 1e999, doubled keys, lone
surrogates, NUL characters, and nesting deep enough to end the parser itself.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

#: Brackets within brackets, and keys in all objects together.
DEEPEST = 32
MOST_KEYS = 1_000
#: Only so can a NUL character or half of a surrogate pair stand in JSON that is UTF-8.
_ESCAPE = "\\u"


class BadJson(Exception):
    """The body is no JSON that can be taken at its word; the message says why."""


def parse(body: bytes, *, most_keys: int = MOST_KEYS) -> Any:
    """The value that the bytes stand for. Raises BadJson."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"the body is not UTF-8 (byte {error.start})") from None
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_without_doubles,
        )
    except RecursionError:
        raise BadJson(f"the body is nested deeper than {DEEPEST} levels") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError as error:
        raise BadJson(str(error)) from None
    _check(value, most_keys, any_text=_ESCAPE in text)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise BadJson(f"{digits if len(digits) < 20 else digits[:20] + '...'} is too large a number")
    return number


def _whole(digits: str) -> int:
    _finite(digits)  # no database keeps more
    return int(digits)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadJson(f"the key {key!r} appears twice in one object")
        found[key] = value
    return found


def _check(value: Any, most_keys: int, *, any_text: bool) -> None:
    """Depth, number of keys and, where there may be any to refuse, characters; without recursion."""
    kinds = (dict, list, str) if any_text else (dict, list)
    keys, waiting = 0, [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if isinstance(each, str):
            _check_text(each)
            continue
        if not isinstance(each, kinds):
            continue
        if depth > DEEPEST:
            raise BadJson(f"the body is nested deeper than {DEEPEST} levels")
        if isinstance(each, dict):
            keys += len(each)
            if keys > most_keys:
                raise BadJson(f"the body has more than {most_keys:,} keys")
            waiting += [(key, depth) for key in each] if any_text else ()
        within = each.values() if isinstance(each, dict) else each
        waiting += [(inner, depth + 1) for inner in within if isinstance(inner, kinds)]


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise BadJson("a string holds a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise BadJson("a string holds half of a surrogate pair")
