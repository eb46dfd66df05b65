"""The broker is a cluster: whoever speaks to it goes on to the next node when some are away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from cli.stack import Stack
from tasks import dispatch, inquiry
from tasks.broker import look
from tasks.dispatch import Publisher
from tests import broker, life, task_types  # noqa: F401  registers the types

QUEUE = "data.normal"
AWAY = "amqp://guest@127.0.0.1:2//"


@pytest.fixture(autouse=True)
def _two_nodes_away(servers: Stack, configured: Callable[..., None]) -> None:
    broker.declare_empty()
    configured(CELERY_BROKER_URL=f"{AWAY};{broker.NOWHERE};{os.environ['CELERY_BROKER_URL']}")


def test_tickets_go_to_the_node_that_is_there() -> None:
    ticket = life.ticket(life.accept())
    publisher, began = Publisher(), time.monotonic()
    try:
        assert dispatch.dispatch(publisher, [ticket]) == 1
    finally:
        publisher.close()
    assert time.monotonic() - began < dispatch.CONNECT_SECONDS
    assert [message.headers["id"] for message in broker.take(QUEUE)] == [ticket.task_id]


def test_a_look_into_the_queues_finds_the_node_that_is_there() -> None:
    with look() as found:
        assert found.ready(QUEUE) == 0
    inquiry._connected().collect()


def test_the_service_is_ready_and_names_those_that_are_away(door: FlaskClient) -> None:
    answer = door.get("/readyz")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "warn")
    refused = "does not answer (ConnectionRefusedError)"
    assert answer.get_json()["checks"]["broker"]["detail"] == f"127.0.0.1:2 {refused}; 127.0.0.1:1 {refused}"
