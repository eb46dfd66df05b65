"""By which queues a worker is asked questions."""

from __future__ import annotations

import re
from typing import Any, cast

from celery import Celery

from cli import roles
from cli.servers import rabbitmq
from workers import remote


def test_each_connection_has_a_queue_of_another_name_that_the_worker_may_make() -> None:
    app = cast("Any", Celery("one"))
    remote.answer_only(app)
    names = [app.control.mailbox.get_queue("data@somewhere").name for _ in range(2)]
    assert names[0] != names[1]
    for pattern in rabbitmq.PERMISSIONS[roles.WORKER.broker]:
        assert all(re.fullmatch(pattern, name) for name in names)
