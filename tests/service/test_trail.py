"""The audit trail in a real database: what was told is what is read, whatever words it has."""

from __future__ import annotations

import pytest

from ledger import db, queries, trail
from ledger.states import State
from ledger.trail import Event
from tests import life, task_types  # noqa: F401  registers the types

WORDS = ["100 %s", "it's \"said\" \\ so", "100%% %(id)s", "); DROP TABLE tasks; --", "größer 🎯", ""]


@pytest.mark.parametrize("times", [1, 2], ids=["once", "in two rows alike"])
@pytest.mark.parametrize("words", WORDS)
def test_words_come_back_as_they_were_told(words: str, times: int) -> None:
    task_id = life.accept()
    told = [Event(task_id, "explained", State.QUEUED, 0, words, {"said": words})] * times
    db.transact(lambda connection: trail.write(connection, told))
    for last in queries.history(task_id)[-times:]:
        assert (last.remark, last.detail) == (words, {"said": words})


def test_what_only_one_of_several_has_the_others_lack() -> None:
    task_id = life.accept()
    told = [Event(task_id, "explained", State.QUEUED, number, *more) for number, more in enumerate([(), ("so",), ()])]
    db.transact(lambda connection: trail.write(connection, told))
    assert [(row.attempt, row.remark, row.detail) for row in queries.history(task_id)[-3:]] == [
        (0, None, None),
        (1, "so", None),
        (2, None, None),
    ]


def test_of_nothing_nothing_is_told() -> None:
    task_id = life.accept()
    before = queries.history(task_id)
    db.transact(lambda connection: trail.write(connection, []))
    assert queries.history(task_id) == before
