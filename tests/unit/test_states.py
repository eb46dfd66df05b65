"""The table of states and moves: whatever path a task takes through it, it comes to an end and stays there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import states
from ledger.states import ACTIVE, BEGINNINGS, FINAL, LIVE, MOVES, REPLAYABLE, WAITING, Move, State


def ways_on(state: State) -> set[State]:
    return {move.enters for move in states.moves_from(state)}


def reachable(*beginnings: State) -> set[State]:
    found, waiting = set[State](), list(beginnings)
    while waiting:
        state = waiting.pop()
        if state not in found:
            found.add(state)
            waiting.extend(ways_on(state))
    return found


def test_states_are_waiting_active_or_final_and_never_two() -> None:
    assert set(State) == WAITING | ACTIVE | FINAL
    assert len(State) == len(WAITING) + len(ACTIVE) + len(FINAL)
    assert LIVE == WAITING | ACTIVE


@pytest.mark.parametrize("state", sorted(FINAL))
def test_only_an_explicit_replay_leads_out_of_a_final_state(state: State) -> None:
    assert state.is_final
    assert states.moves_from(state) == ((MOVES["replayed"],) if state in REPLAYABLE else ())


def test_a_success_is_never_replayed() -> None:
    assert {State.SUCCEEDED} == FINAL - REPLAYABLE


@pytest.mark.parametrize("state", sorted(LIVE))
def test_every_live_state_leads_to_an_end(state: State) -> None:
    assert not state.is_final
    assert reachable(state) & FINAL


@pytest.mark.parametrize("state", sorted(WAITING | {State.RUNNING}))
def test_a_stop_is_possible_until_the_decision(state: State) -> None:
    assert State.REVOKED in ways_on(state) or State.REVOKING in ways_on(state)


def test_no_stop_undoes_a_decision() -> None:
    assert not ways_on(State.COMMITTING) & {State.REVOKING, State.REVOKED}


def test_a_stopped_attempt_can_only_be_undone() -> None:
    assert ways_on(State.REVOKING) == {State.REVOKED}


@pytest.mark.parametrize("move", MOVES.values(), ids=lambda move: move.name)
def test_a_move_leaves_an_active_state_only_under_a_fence(move: Move) -> None:
    assert move.fenced == bool(move.leaves & ACTIVE or move.enters in ACTIVE) or move.name == "stopping"


@pytest.mark.parametrize("move", MOVES.values(), ids=lambda move: move.name)
def test_a_moves_name_fits_the_column_of_its_event(move: Move) -> None:
    assert len(move.name) <= 16
    assert move.leaves
    assert move.enters not in move.leaves


@given(st.data())
def test_every_walk_through_the_table_stays_in_it(data: st.DataObject) -> None:
    state = data.draw(st.sampled_from(BEGINNINGS))
    for _ in range(30):
        moves = states.moves_from(state)
        assert bool(moves) is not (state is State.SUCCEEDED)
        if not moves:
            return
        state = data.draw(st.sampled_from(moves)).enters
        assert state in LIVE | FINAL


def test_only_running_leads_to_the_decision_and_to_success() -> None:
    assert MOVES["decided"].leaves == {State.RUNNING}
    into_success = {name for name, move in MOVES.items() if move.enters is State.SUCCEEDED}
    assert into_success == {"finished"}


def test_the_diagram_shows_every_move() -> None:
    lines = states.diagram().splitlines()
    for move in MOVES.values():
        for state in move.leaves:
            assert f"    {state} --> {move.enters}: {move.name}" in lines
