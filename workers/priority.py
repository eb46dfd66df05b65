"""Strict priority by pull: each free child gets the best ticket that there is at that moment.

Celery lets RabbitMQ push. Pushed tickets are spread over the queues in turn, and they are reserved: with two replicas
a high ticket waited 7.5 seconds in the hands of the busy one while the other had nothing to do. So nothing is pushed
here. A worker takes a ticket only when a child of its own waits for one, and takes it from the best queue that has any:

    a child is free ──> how deep are high, normal, low?  ──> basic.get from the first that is not empty ──> child
          ^                 (passive queue.declare)                                                           │
          └───────────────────────────── done, or a new child reported for work ──────────────────────────────┘

Whatever number of replicas does this, a ticket never waits in a worker while a child is free somewhere, and no lower
ticket starts while a higher one is in its queue. Within a queue the order is RabbitMQ's: first in, first out.

Why the passive declare first: a basic.get on an empty quorum queue is a write to its log, a passive declare is not.
The questions about the queues are sent together, so that they cost one round trip; in a backlog only the queues above
it are asked about. A busy worker asks when a child becomes free. An idle one asks every LOOK_SECONDS, and when the
doorbell rings, with which the dispatcher says into which queue it is just putting tickets: there a basic.get finds
them, since it stands behind them in the queue's log, while a declare would not count them before they are on disk.

When things fail
----------------
* The connection breaks, or RabbitMQ is away: Celery's consumer connects again, for ever, and starts this step anew.
  Tickets in hand go back to their queues; their tasks go on, and whoever gets such a ticket finds them claimed.
* RabbitMQ is frozen: every read and write has a deadline (`celery_config.SOCKET_SECONDS`), then it is as above.
* A queue was deleted: RabbitMQ answers 404 and closes the channel that asked. That is mostly one that does nothing
  but ask, so that no ticket goes back with it. Every queue is declared again and the next look goes on.
* A queue is purged: the tickets are gone, which the ledger notices. Here the next look finds nothing.
* A message is no ticket (not JSON, no known type, wrong arguments): it is dead-lettered and the worker goes on.
* A child dies: it is not free before its replacement has reported for work (`workers.children`).

The price: RabbitMQ's page shows no consumers for these queues, because there are none.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

from amqp import spec
from amqp.exceptions import NotFound, RecoverableConnectionError
from celery import bootsteps
from celery.worker import state
from celery.worker.consumer import Tasks
from kombu import Consumer, Queue
from kombu.serialization import prepare_accept_content

import celery_config
from workers import internals, metrics, packs
from workers.children import Children
from workers.packs import Packs
from workers.pauses import Pauses

log = logging.getLogger(__name__)

#: How often a worker with a free child looks for tickets, whether the doorbell rang or not.
LOOK_SECONDS = 0.2
#: How soon to look again when the bell was quicker than the tickets.
EARLY_SECONDS = 0.005
#: How soon to look whether a pack has been claimed.
CLAIMED_SECONDS = 0.001
#: For how long the next ticket of a pack is waited for: somebody else may have had it.
PACK_SECONDS = 0.01


class Pull:
    """Stands where Celery keeps its push consumer, with as much of its interface as Celery uses."""

    def __init__(self, consumer: Any, queues: Iterable[Queue]) -> None:
        self.hub = consumer.hub
        self.children: Children = consumer.pool._pool
        self.connection = consumer.connection
        self.connection_errors = consumer.connection_errors
        self.channel_errors = consumer.channel_errors
        self.accept = prepare_accept_content(consumer.app.conf.accept_content)
        self.queues = _best_first(queues)
        self.pauses: Pauses = consumer.controller.pauses
        self.packs: Packs = consumer.controller.packs
        #: Gave a ticket just now and had more.
        self.rich: Queue | None = None
        #: The names of queues of which the bell told, and into which nobody has looked since.
        self.told: set[str] = set()
        #: Set by Celery's event loop.
        self.on_message: Callable[[Any], None] = _nowhere
        self.asking = self.connection.channel()
        self.channel = self.connection.channel()
        #: On which tickets of a pack come: a channel has its own bound of what is sent on it.
        self.packing, self.bound = self.connection.channel(), 0
        self.timer: Any = None
        self.waits = False

    def consume(self) -> None:
        """Start looking for tickets."""
        if self.timer is None:
            self.timer = self.hub.call_repeatedly(LOOK_SECONDS, self.fill)
            self.children.on_free = self.look_soon
            self.look_soon()

    def cancel(self) -> None:
        """Take no ticket any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self.children.on_free = None

    def close(self) -> None:
        self.cancel()
        self.asking.close()
        self.channel.close()
        self.packing.close()

    def qos(self, **_: Any) -> None:
        """Nothing is prefetched, so there is nothing to limit."""

    @property
    def is_taking(self) -> bool:
        return self.timer is not None and state.should_stop is None and state.should_terminate is None

    def look_soon(self) -> None:
        """Not now: who calls this is in the middle of reading a child's report, or RabbitMQ's."""
        self.hub.call_soon(self.fill)

    def rung(self, name: str) -> None:
        """Tickets are on their way into a queue. Who has no free child looks for the best ones when he has."""
        if self.children.free > 0:
            self.told |= {queue.name for queue in self.queues if queue.name == name}
            self.look_soon()

    def look_later(self) -> None:
        """When a pack that is on its way may have been claimed."""

        def look() -> None:
            self.waits = False
            self.fill()

        if not self.waits:
            self.waits = True
            self.hub.call_later(CLAIMED_SECONDS, look)

    def fill(self) -> None:
        """Give each free child the best ticket there is, with those behind it when many short ones wait."""
        try:
            while self.is_taking and self.children.free > 0:
                if self.packs.unclaimed:
                    return self.look_later()
                queue = self.best_queue()
                if queue is None:
                    return
                was_told = queue.name in self.told
                first = self.take(queue)
                if first is None and was_told:
                    self.hub.call_later(EARLY_SECONDS, self.fill)
                    continue
                if first is None:
                    return
                others = self.take_pack(queue, first)
                if others:
                    with self.packs.gather(queue.name):
                        for each in (first, *others):
                            self.hand_over(each)
                else:
                    self.hand_over(first)
        except self.channel_errors as error:
            # From a timer only errors of the connection would reach the loop that connects again.
            raise RecoverableConnectionError(f"a channel broke: {error}") from error

    def best_queue(self) -> Queue | None:
        """The best queue that has a ticket. One that had more or of which the bell told, and those below it, need no
        asking; paused ones are passed over."""
        queues = [queue for queue in self.queues if queue.name not in self.pauses.names]
        known = next((queue for queue in queues if queue is self.rich or queue.name in self.told), None)
        above = queues[: queues.index(known)] if known else queues
        depths = zip(above, self.depths(above), strict=False)
        return next((queue for queue, depth in depths if depth), known)

    def depths(self, queues: Sequence[Queue]) -> list[int]:
        """How many tickets each queue has; nothing when one was missing, until the next look."""
        try:
            for queue in queues:
                self.asking.send_method(spec.Queue.Declare, "BsbbbbbF", (0, queue.name, *_PASSIVE, {}))
            answers = [self.asking.wait(spec.Queue.DeclareOk, returns_tuple=True) for _ in queues]
        except NotFound as missing:
            self.declare_again(missing)
            return []
        return [messages for _, messages, _ in answers]

    def take(self, queue: Queue) -> Any:
        """The oldest message of a queue, or None when somebody else was quicker."""
        self.rich = None
        self.told.discard(queue.name)
        try:
            raw = self.channel.basic_get(queue.name)
        except NotFound as missing:
            # With this channel its unacknowledged tickets went back; a closed one tells their requests so.
            self.channel.close()
            self.channel = self.connection.channel()
            self.declare_again(missing)
            return None
        if raw is None:
            return None
        metrics.TICKETS.labels(queue.name).inc()
        if raw.delivery_info["message_count"]:
            self.rich = queue
        return self.channel.message_to_python(raw)

    def take_pack(self, queue: Queue, first: Any) -> list[Any]:
        """Those that go with a ticket just taken, in their order. From the first on that has to go alone they are given
        back: the next free child gets that one."""
        number = self.packs.sizes.of(queue.name, first.delivery_info["message_count"])
        if number == 1 or not packs.fits(first):
            return []
        found = [self.packing.message_to_python(raw) for raw in self._consume(queue, number - 1)]
        metrics.TICKETS.labels(queue.name).inc(len(found))
        fitting = list(takewhile(packs.fits, found))
        if len(fitting) < len(found):
            self.give_back(found[len(fitting) :])
            self.packs.sizes.cut(queue.name, 1 + len(fitting))
        return fitting

    def give_back(self, messages: Sequence[Any]) -> None:
        """Each to its place. RabbitMQ's answer is waited for: the next ticket is fetched on another channel, which
        might be quicker than this one and get what was behind them."""
        for message in messages:
            message.reject(requeue=True)
        self.packing.basic_qos(0, self.bound, False)

    def _consume(self, queue: Queue, number: int) -> list[Any]:
        """Up to so many tickets. A basic.get for each would wait for each. This is a push, but a bounded one, which is
        over at once: when RabbitMQ has sent them all it sends no more before one is acknowledged, and reads before that
        that nobody listens any more. When it has not, it is heard out."""
        found: list[Any] = []
        try:
            if number != self.bound:
                self.packing.basic_qos(0, number, False)
                self.bound = number
            # Under a tag of its own: to a quorum queue one that is used again is still the old one.
            tag = self.packing.basic_consume(queue.name, uuid.uuid4().hex, nowait=True, callback=found.append)
            # Set once: for each frame anew it would take as long as to read them.
            with suppress(TimeoutError), self.connection.connection.transport.having_timeout(PACK_SECONDS):
                while len(found) < number:
                    self.connection.drain_events(timeout=None)
            self.packing.basic_cancel(tag, nowait=len(found) == number)
            self.packing.callbacks.pop(tag, None)
        except NotFound as missing:
            self.packing.close()
            self.packing, self.bound = self.connection.channel(), 0
            self.declare_again(missing)
            return []
        return found

    def declare_again(self, missing: NotFound) -> None:
        log.warning("a queue is missing, declaring all: %s", missing)
        self.rich = None
        declare_all(self.connection)

    def hand_over(self, message: Any) -> None:
        """To the child that is free, through Celery's own machinery of checks, events and time limits."""
        message.accept = self.accept
        try:
            if message.errors:
                message._reraise_error()
            self.on_message(message)
        except self.connection_errors:
            raise
        except Exception:
            # Whatever is wrong with one message must not end the worker.
            log.exception("no ticket, dead-lettered: %s", message.delivery_info)
            if not message.acknowledged:
                message.reject()


class PullStep(bootsteps.StartStopStep):
    """Puts Pull in the place of the push consumer, for each connection anew.

    Not a subclass of Celery's step: others require that one by name, so both would be loaded.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        internals.check(consumer)
        # Before the first look for tickets, so that a worker that has just been started heeds the pauses too.
        consumer.controller.pauses.look()
        declare_all(consumer.connection)
        pull = Pull(consumer, consumer.app.amqp.queues.consume_from.values())
        consumer.task_consumer = pull
        hear_doorbell(consumer.connection, consumer.controller.kind, pull.rung)


def hear_doorbell(connection: Any, kind: str, wake: Callable[[str], None]) -> None:
    """Call `wake` with the queue of each ring. The bell is this connection's own and ends with it."""
    bell = Queue(
        exchange=celery_config.DOORBELL, routing_key=kind, durable=False, exclusive=True, auto_delete=True
    )

    def told(ring: Any) -> None:
        wake(ring.body if isinstance(ring.body, str) else bytes(ring.body).decode())

    Consumer(connection.channel(), [bell], no_ack=True, on_message=told, accept=None).consume()


def declare_all(connection: Any) -> None:
    """Declare every queue of every worker; those that exist stay as they are."""
    with connection.channel() as channel:
        for queue in celery_config.all_queues():
            queue(channel).declare()


def _best_first(queues: Iterable[Queue]) -> list[Queue]:
    return sorted(queues, key=lambda queue: celery_config.PRIORITIES.index(queue.name.rpartition(".")[2]))


def _nowhere(message: Any) -> None:
    raise AssertionError("Celery's event loop has not said where tickets go")


#: Arguments of a passive queue.declare: passive, durable, exclusive, auto_delete, nowait.
_PASSIVE = (True, False, False, False, False)
