"""Which queue is asked, and that an unfit Celery is noticed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kombu import Queue

import celery_config
from workers import internals, priority
from workers.children import Children
from workers.packs import Packs
from workers.pauses import Pauses
from workers.priority import Pull

HIGH, NORMAL, LOW = celery_config.queues_of("data")


class Books(Pull):
    """A Pull without a broker: it is told how deep the queues are, and notes of which it was asked."""

    is_taking = True

    def __init__(
        self,
        depths: dict[str, int],
        rich: Queue | None = None,
        paused: Collection[str] = (),
        told: Collection[str] = (),
    ) -> None:
        self.queues = [HIGH, NORMAL, LOW]
        self.pauses = Pauses()
        self.pauses.names = frozenset(paused)
        self.rich = rich
        self.told = set(told)
        self.deep = depths
        self.asked: list[str] = []
        self.children = cast(Children, SimpleNamespace(free=1))
        self.packs = cast(Packs, SimpleNamespace(unclaimed=False))
        #: What is to be called, and in how many seconds.
        self.later: list[tuple[float, Any]] = []
        self.hub = SimpleNamespace(call_later=lambda seconds, what: self.later.append((seconds, what)))
        self.channel = SimpleNamespace(basic_get=lambda name: None)

    def depths(self, queues: Sequence[Queue]) -> list[int]:
        self.asked += [queue.name for queue in queues]
        return [self.deep.get(queue.name, 0) for queue in queues]


def test_the_best_queue_that_is_not_empty_is_chosen() -> None:
    assert Books({"data.low": 9, "data.normal": 1}).best_queue() == NORMAL
    assert Books({}).best_queue() is None


def test_a_queue_that_had_more_saves_asking_about_it_and_those_below() -> None:
    books = Books({}, rich=NORMAL)
    assert books.best_queue() == NORMAL
    assert books.asked == ["data.high"]


def test_a_queue_of_which_the_bell_told_needs_no_asking() -> None:
    books = Books({}, told=["data.normal"])
    assert books.best_queue() == NORMAL
    assert books.asked == ["data.high"]
    assert Books({}, rich=NORMAL, told=["data.high", "data.low"]).best_queue() == HIGH


def test_when_the_bell_was_quicker_than_the_tickets_it_looks_everywhere_and_soon_again() -> None:
    books = Books({}, told=["data.normal"])
    books.fill()
    assert books.asked == ["data.high", "data.high", "data.normal", "data.low"]
    assert books.later == [(priority.EARLY_SECONDS, books.fill)]
    assert not books.told
    books.fill()
    assert len(books.later) == 1, "nobody had told of anything"


def test_a_better_ticket_goes_before_the_backlog() -> None:
    assert Books({"data.high": 1}, rich=LOW).best_queue() == HIGH


def test_a_paused_queue_is_neither_asked_nor_chosen() -> None:
    books = Books({"data.high": 2, "data.low": 1}, rich=NORMAL, paused=["data.high", "data.normal"])
    assert books.best_queue() == LOW
    assert books.asked == ["data.low"]
    assert Books({"data.low": 1}, rich=LOW, paused=["data.low"]).best_queue() is None


def test_queues_come_best_first_whatever_their_order() -> None:
    assert priority._best_first([LOW, HIGH, NORMAL]) == [HIGH, NORMAL, LOW]


def test_an_unfit_celery_is_refused_with_all_its_faults() -> None:
    with pytest.raises(internals.UnfitCelery) as refusal:
        internals.check(_Bare())
    for fault in (
        "the hub has no call_soon",
        "the pool's _busy_workers is no set",
        "the consumer has no task_consumer",
    ):
        assert fault in str(refusal.value)


class _Bare:
    hub: Any = object()
    pool: Any = object()
