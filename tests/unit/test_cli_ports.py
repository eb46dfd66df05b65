"""The choice of ports: kept, usual, or moved aside."""

from __future__ import annotations

import socket

import pytest

from cli import ports
from cli.ports import FREE_RANGE, NoFreePort, Wanted


def choose(
    *wanted: Wanted,
    remembered: dict[str, int] | None = None,
    held: frozenset[str] = frozenset(),
    taken: frozenset[int] = frozenset(),
) -> tuple[dict[str, int], list[str]]:
    return ports.choose(
        wanted, remembered=remembered or {}, held=held, is_free=lambda port: port not in taken
    )


def test_the_usual_port_is_taken_when_it_is_free() -> None:
    assert choose(Wanted("api", usual=5000)) == ({"api": 5000}, [])


def test_a_taken_port_makes_it_move_aside_with_a_message() -> None:
    chosen, moved = choose(Wanted("api", usual=5000), taken=frozenset({5000, 5001}))
    assert chosen == {"api": 5002}
    assert moved == ["port 5000 is taken by another program: api uses 5002"]


def test_a_remembered_port_is_kept_without_a_word() -> None:
    assert choose(Wanted("api", usual=5000), remembered={"api": 5007}) == ({"api": 5007}, [])


def test_the_operators_port_goes_before_the_remembered_one() -> None:
    chosen, _ = choose(Wanted("api", usual=5000, fixed=8080), remembered={"api": 5007})
    assert chosen == {"api": 8080}


def test_a_port_that_our_own_process_holds_counts_as_free() -> None:
    held = frozenset({"redis"})
    chosen, moved = choose(
        Wanted("redis"), remembered={"redis": 20_000}, held=held, taken=frozenset({20_000})
    )
    assert (chosen, moved) == ({"redis": 20_000}, [])


def test_ports_in_a_row_are_all_free_and_nobody_elses() -> None:
    chosen, _ = choose(Wanted("a", usual=20_005), Wanted("b", span=10), taken=frozenset({20_020}))
    block = set(range(chosen["b"], chosen["b"] + 10))
    assert block <= set(FREE_RANGE)
    assert not block & {20_005, 20_020}


def test_no_free_port_at_all_is_said() -> None:
    with pytest.raises(NoFreePort, match="redis"):
        ports.choose([Wanted("redis")], remembered={}, held=frozenset(), is_free=lambda port: False)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not ports.is_free(server.getsockname()[1])
