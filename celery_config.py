"""The queues, and how Celery is to behave: the only place that knows a queue's name.

Three kinds of worker times three priorities make nine quorum queues, `data.high` to `file.low`, and one dead-letter
queue per kind, where a ticket lands that RabbitMQ gave up on. Tickets only point at the ledger, so a lost or doubled
one changes nothing: that is why no result, no ETA and no retry of Celery's own is used.
"""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue

from settings import settings

WORKERS = ("data", "email", "file")
#: Best first: a worker takes from the first of its queues that has a ticket.
PRIORITIES = ("high", "normal", "low")

TICKETS = Exchange("sluice.tickets", type="direct", durable=True)
DEAD_LETTERS = Exchange("sluice.dead", type="direct", durable=True)
#: Rung behind the tickets for a queue, with its worker's name as routing key and its own name as the words, so that an
#: idle worker looks at once. A ring that nobody hears, or that is lost, costs a few milliseconds.
DOORBELL = Exchange("sluice.doorbell", type="direct", durable=True)

#: Deliveries after which RabbitMQ dead-letters a ticket. The ledger bounds attempts long before.
DELIVERY_LIMIT = 20


def queue_name(worker: str, priority: str) -> str:
    return f"{worker}.{priority}"


def worker_of(queue: str) -> str:
    """The kind of worker that serves a queue."""
    return queue.partition(".")[0]


def dead_letter_name(worker: str) -> str:
    return f"{worker}.dead"


def queue(worker: str, priority: str) -> Queue:
    name = queue_name(worker, priority)
    return Queue(
        name,
        exchange=TICKETS,
        routing_key=name,
        durable=True,
        queue_arguments={
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": DEAD_LETTERS.name,
            "x-dead-letter-routing-key": dead_letter_name(worker),
            "x-delivery-limit": DELIVERY_LIMIT,
        },
    )


def dead_letter_queue(worker: str) -> Queue:
    name = dead_letter_name(worker)
    return Queue(
        name,
        exchange=DEAD_LETTERS,
        routing_key=name,
        durable=True,
        queue_arguments={"x-queue-type": "quorum"},
    )


def queues_of(worker: str) -> tuple[Queue, ...]:
    """A worker's queues, best first."""
    return tuple(queue(worker, priority) for priority in PRIORITIES)


def queue_names() -> tuple[str, ...]:
    """The queues that hold tickets, those of one worker together, best first."""
    return tuple(queue_name(worker, priority) for worker in WORKERS for priority in PRIORITIES)


def all_queues() -> tuple[Queue, ...]:
    """Every queue with its dead-letter queue, in the order in which they must be declared."""
    return tuple(
        each for worker in WORKERS for each in (dead_letter_queue(worker), *queues_of(worker))
    )


def better_queues(name: str) -> tuple[str, ...]:
    """The queues of the same worker that go before this one."""
    worker, _, priority = name.partition(".")
    return tuple(queue_name(worker, better) for better in PRIORITIES[: PRIORITIES.index(priority)])


#: Seconds after which a peer that says nothing counts as gone. Without them a cut network hangs a process for ever.
SOCKET_SECONDS = 5


def celery_options() -> dict[str, Any]:
    """Celery's own settings, for workers and for Flower."""
    return {
        "broker_url": settings().broker_url.get_secret_value(),
        "task_queues": [*(each for worker in WORKERS for each in queues_of(worker))],
        "task_create_missing_queues": False,
        "task_default_queue": queue_name("data", "normal"),
        "task_default_exchange": TICKETS.name,
        "task_default_routing_key": queue_name("data", "normal"),
        # The worker writes state and result itself; with a result backend a dead Redis would stop the workers.
        "task_ignore_result": True,
        "result_backend": None,
        "accept_content": ["json"],
        "task_serializer": "json",
        "enable_utc": True,
        "timezone": "UTC",
        # A ticket goes back to RabbitMQ when its worker dies, and is acknowledged once the ledger knows the outcome.
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        # What happens to the ticket of a dead child is said in workers.settle, how a worker ends in workers.drain.
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": settings().concurrency,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": True,
        "worker_max_tasks_per_child": 1000,
        "worker_max_memory_per_child": 400_000,
        "worker_detect_quorum_queues": True,
        "broker_transport_options": {"read_timeout": SOCKET_SECONDS, "write_timeout": SOCKET_SECONDS},
        "broker_heartbeat": 10,
        "broker_connection_timeout": 2,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        "broker_connection_max_retries": None,
        # Exclusive control queues turn a half-open reconnect into RESOURCE_LOCKED, and the worker leaves. A durable one
        # lies on one node of a cluster and cannot be declared while that is down: the worker waited for its return.
        "control_queue_durable": False,
        "control_queue_exclusive": False,
        "event_queue_durable": False,
        "event_queue_exclusive": False,
    }
