"""Who gets a hand: receivers that answer always find one free, however many others do not."""

from __future__ import annotations

from workers.webhooks import BOUNDS, HANDS, Lanes


def fill(lanes: Lanes, *names: str) -> int:
    """Begin as many tries as there is room for, and say how many that were."""
    begun = 0
    for name in names:
        room = max(0, lanes.room(name))
        lanes.begin(name, room)
        begun += room
    return begun


def known(*, answered: bool, names: list[str]) -> Lanes:
    lanes = Lanes()
    for name in names:
        lanes.begin(name, 1)
        lanes.end(name, answered=answered)
    return lanes


def test_lanes_that_do_not_answer_leave_most_hands_free() -> None:
    dead = [f"owner-{number} https://dead" for number in range(100)]
    lanes = known(answered=False, names=[*dead, "well"])
    lanes.answered["well"] = True
    assert fill(lanes, *dead) == BOUNDS[False].of_kind
    assert lanes.room("well") == BOUNDS[True].of_lane


def test_lanes_of_which_nothing_is_known_leave_room_too() -> None:
    lanes = known(answered=True, names=["well"])
    assert fill(lanes, *(f"owner-{number} https://new" for number in range(100))) == BOUNDS[None].of_kind
    assert lanes.room("well") == BOUNDS[True].of_lane
    assert BOUNDS[None].of_kind + BOUNDS[False].of_kind < HANDS


def test_one_owners_many_names_leave_room_for_anothers() -> None:
    """Names cost nothing: each of them is a lane of which nothing is known."""
    names = [f"ada https://{number}.example" for number in range(100)]
    lanes = Lanes()
    assert fill(lanes, *names) == BOUNDS[None].of_owner
    assert lanes.room("emmy https://new.example") == 1
    lanes = known(answered=False, names=[*names, "emmy https://new.example"])
    assert fill(lanes, *names) == BOUNDS[False].of_owner
    assert lanes.room("emmy https://new.example") == 1


def test_no_lane_takes_more_than_its_width() -> None:
    lanes = known(answered=True, names=["well"])
    assert (fill(lanes, "well"), lanes.room("well")) == (4, 0)
    lanes.end("well", answered=True)
    assert lanes.room("well") == 1


def test_all_hands_are_never_more_than_there_are() -> None:
    well = [f"well-{number}" for number in range(100)]
    lanes = known(answered=True, names=well)
    assert fill(lanes, *well) == HANDS
    assert lanes.room("well-99") == 0


def test_a_lane_that_answers_again_is_trusted_again() -> None:
    lanes = known(answered=False, names=["moody"])
    assert lanes.room("moody") == 1
    lanes.begin("moody", 1)
    lanes.end("moody", answered=True)
    assert lanes.room("moody") == 4
