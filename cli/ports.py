"""Chooses the ports of a stack, remembers them, and moves aside when somebody else has one."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.layout import write_private
from cli.trouble import Trouble

#: Below the range that the kernel hands out to outgoing connections, which would take a port away between two starts.
FREE_RANGE = range(20_000, 30_000)


@dataclass(frozen=True)
class Wanted:
    """A port by its name. `usual` is what people expect, `fixed` what the operator asked for."""

    name: str
    usual: int | None = None
    fixed: int | None = None
    #: How many ports in a row, of which the first is the named one.
    span: int = 1


class NoFreePort(Trouble):
    """No port is free for a server."""


def choose(
    wanted: Iterable[Wanted],
    *,
    remembered: Mapping[str, int],
    held: frozenset[str],
    is_free: Callable[[int], bool],
) -> tuple[dict[str, int], list[str]]:
    """The ports by name, and a sentence for each that had to move.

    What `held` names is in use by our own running process and stays where it is.
    """
    chosen: dict[str, int] = {}
    moved: list[str] = []
    taken: set[int] = set()
    for want in wanted:
        port = _keep(want, remembered, held) or _first_free(want, remembered, taken, is_free)
        chosen[want.name] = port
        taken.update(range(port, port + want.span))
        expected = want.fixed or remembered.get(want.name) or want.usual
        if expected and port != expected:
            moved.append(f"port {expected} is taken by another program: {want.name} uses {port}")
    return chosen, moved


def _keep(want: Wanted, remembered: Mapping[str, int], held: frozenset[str]) -> int | None:
    port = remembered.get(want.name)
    if want.name in held and want.fixed in (None, port):
        return port
    return None


def _first_free(
    want: Wanted, remembered: Mapping[str, int], taken: set[int], is_free: Callable[[int], bool]
) -> int:
    for port in _candidates(want, remembered):
        block = range(port, port + want.span)
        if taken.isdisjoint(block) and all(is_free(each) for each in block):
            return port
    raise NoFreePort(f"no port is free for {want.name}")


def _candidates(want: Wanted, remembered: Mapping[str, int]) -> Iterator[int]:
    for port in (want.fixed, remembered.get(want.name), want.usual):
        if port is not None:
            yield port
    nearby = want.fixed or want.usual
    if nearby is not None:
        yield from range(nearby + 1, nearby + 100)
        return
    start = random.randrange(len(FREE_RANGE))
    for step in range(0, len(FREE_RANGE), want.span):
        yield FREE_RANGE[(start + step) % (len(FREE_RANGE) - want.span)]


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def load(path: Path) -> dict[str, int]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def keep(path: Path, ports: Mapping[str, int]) -> None:
    write_private(path, json.dumps(dict(ports), indent=2))
