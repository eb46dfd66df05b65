"""A specialised worker: all that `celery -A workers.data worker` needs is in the application that `build` makes."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from celery import Celery, signals
from celery.apps.worker import Worker
from celery.exceptions import CPendingDeprecationWarning
from celery.utils.nodenames import NODENAME_DEFAULT, default_nodename, nodename, nodesplit
from celery.worker import state
from celery.worker.consumer import Consumer

import celery_config
from ledger import db, fitness, schema
from ledger.grants import Role
from ledger.presence import BEAT_SECONDS
from settings import settings
from tasks import catalog, lifecycle, parent
from tasks import log as task_log
from tasks.message import terms_of
from workers import children, metrics, remote
from workers.drain import Drain
from workers.packs import Packs
from workers.pauses import LOOK_SECONDS, Pauses
from workers.presence import Beats
from workers.priority import PullStep
from workers.settle import Settled

log = logging.getLogger(__name__)

#: Seconds that the parent waits for the ledger; without its answer the lease tells of a dead child.
PATIENCE_SECONDS = 2.0

#: Between two attempts to connect to RabbitMQ.
RECONNECT_SECONDS = 1
#: For how long events for Flower are gathered into one message.
EVENTS_SECONDS = 0.1
#: And how many at most. Celery's two dozen are the events of eight short tasks.
EVENTS = 1_000


def build(kind: str) -> Celery:
    """The application of one kind of worker: its three queues, its task types, and how its process behaves."""
    app: Any = Celery("sluice", set_as_current=True)
    # Celery reads CELERY_RESULT_BACKEND by itself, past its own settings.
    app.backend_cls = "disabled"
    app.config_from_object(
        celery_config.celery_options()
        | {
            "task_queues": list(celery_config.queues_of(kind)),
            # There is no semaphore: a ticket is taken only when a child waits for one.
            "worker_pool_putlocks": False,
        }
    )
    remote.answer_only(app)
    app.steps["consumer"].add(PullStep)
    app.Worker = type("Worker", (Specialised,), {"app": app, "kind": kind})
    register_types(app, kind)
    return app  # type: ignore[no-any-return]


def register_types(app: Any, kind: str) -> None:
    """One Celery task per task type of this kind, and no other: Celery brings some of its own."""
    app.finalize()
    app.tasks.clear()
    catalog.load()
    for task_type in catalog.types_of(kind):
        app.task(run, name=task_type.name, bind=True, Request=Settled, shared=False)


def run(self: Any, attempt: int) -> str | None:
    """What every ticket makes a child do."""
    terms = terms_of(self.request.delivery_info["routing_key"], self.request.timelimit[0])
    return lifecycle.run(self.request.id, attempt, worker=self.request.hostname, terms=terms)


class LeanConsumer(Consumer):
    """Celery's consumer without what pull and the ledger make needless."""

    connection_errors: tuple[type[Exception], ...]
    #: The worker.
    controller: Any

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc,valid-type]
        """No gossip, and none of the 28 queues of native delayed delivery: due times are rows in the ledger."""

        default_steps = [  # noqa: RUF012  as Celery has it
            step
            for step in Consumer.Blueprint.default_steps
            if not step.endswith((":Gossip", ":DelayedDelivery", ":Agent"))
        ]

    def ensure_connected(self, conn: Any) -> Any:
        """Celery waits longer after each failure, up to half a minute; tickets would wait as long after an outage."""
        return conn.ensure_connection(
            self._on_no_connection,
            interval_start=RECONNECT_SECONDS,
            interval_step=0,
            interval_max=RECONNECT_SECONDS,
            callback=self._while_no_connection,
        )

    def _while_no_connection(self) -> None:
        state.maybe_shutdown()
        self.controller.beats.beat(reaches_broker=False)

    def _on_no_connection(self, error: Exception, interval: float) -> None:
        log.warning("cannot reach RabbitMQ, trying again: %s", error)

    def on_send_event_buffered(self) -> None:  # type: ignore[override]
        """Celery sends now. Flower can wait a moment, and one message for many events costs less than three a task."""

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        hub.call_repeatedly(EVENTS_SECONDS, self._flush_events)  # type: ignore[attr-defined]
        hub.call_repeatedly(BEAT_SECONDS, self.controller.beats.beat)
        self.event_dispatcher.buffer_limit = EVENTS  # type: ignore[attr-defined]
        self.controller.beats.beat_now()
        hub.call_repeatedly(LOOK_SECONDS, self.controller.pauses.look)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A type that only a newer door knows yet: the attempt fails, and is tried again when the wait is over. What is
        no ticket for a waiting task is dead-lettered. Celery gives no body here: it leaves that to the children."""
        match message.headers, message.payload:
            case {"id": str(task_id), "task": str(name)}, [[int(attempt)], *_]:
                reason = f"worker {self.hostname} knows no task type {name!r}; restart it with the code that does"
                if parent.refused(task_id, attempt, worker=self.hostname, reason=reason):
                    message.ack_log_error(log, self.connection_errors)
                    return
        log.error("no ticket, dead-lettered: %s", exc)
        message.reject_log_error(log, self.connection_errors)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Celery acknowledges what it cannot read; a dead letter can still be looked at."""
        log.error("no ticket, dead-lettered: %s", exc)
        message.reject_log_error(log, self.connection_errors)


class Specialised(Worker):
    """Celery's worker program with our pool, our consumer and our way to end, whatever the command line says."""

    kind = ""
    pool: Any
    drain: Drain | None = None

    def __init__(self, app: Celery | None = None, hostname: str | None = None, **options: Any) -> None:
        self.beats = Beats(self)
        self.pauses = Pauses()
        self.packs = Packs(self)
        super().__init__(
            app,
            self._named(hostname or ""),
            **options | {"without_gossip": True, "without_mingle": True, "quiet": True},
        )

    def _named(self, hostname: str) -> str:
        """`data@host` where Celery would say `celery@host`; what -n says stays."""
        name, host = nodesplit(default_nodename(hostname))
        return nodename(self.kind if name == NODENAME_DEFAULT else str(name), host)

    def setup_defaults(self, **options: Any) -> Any:  # type: ignore[override]
        return super().setup_defaults(
            **options | {"pool": children.Pool, "consumer_cls": LeanConsumer, "task_events": True}
        )

    def setup_logging(self, colorize: bool | None = None) -> Any:
        done = super().setup_logging(colorize)
        # At each lost connection Celery tells that tasks will not go on in some later version. Here it is set.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        return done

    def install_platform_tweaks(self, worker: Any) -> None:
        super().install_platform_tweaks(worker)
        # Whatever the parent asks the ledger, all its children wait for.
        db.be_patient(PATIENCE_SECONDS)
        fitness.tell((each.name for each in schema.databases()), Role.WORKER)
        self.drain = Drain(self, grace_seconds=settings().shutdown_grace_seconds)
        self.drain.listen()
        metrics.serve(metrics.OfWorker(self))

    def _process_task(self, req: Any) -> None:
        if not self.packs.takes(req):
            super()._process_task(req)  # type: ignore[misc]

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        if self.drain is not None and self.pool is not None and self.pool._pool is not None:
            self.drain.run()
            self.beats.end()
        super().stop(in_sighandler, exitcode)
        if self.drain is not None and self.drain.phase_ends is not None:
            # What the interpreter would tidy up now may hang on a server that hangs, and nobody needs it any more.
            logging.shutdown()
            os._exit(os.EX_OK if exitcode is None else exitcode)


@signals.setup_logging.connect
def _log_as_all_of_us(**_: Any) -> None:
    """That this is connected keeps Celery from setting up logging of its own."""
    task_log.setup()
