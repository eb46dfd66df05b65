"""How gunicorn serves the door: `gunicorn --config python:api.gunicorn_config 'api:create_app()'`."""

from __future__ import annotations

from typing import Any

from api import waiting
from tasks import log

worker_class = "gthread"
workers = 2
threads = waiting.THREADS
timeout = 60
graceful_timeout = 30
keepalive = 5
# It would be made in the home folder, which a service may not have.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    log.setup()
    waiting.remember(worker.wsgi, worker)
