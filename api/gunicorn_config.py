"""How gunicorn serves the door: `gunicorn --config file:api/gunicorn_config.py 'api:create_app()'`.

As a file and not as a module, and without imports of ours at the top: what gunicorn's master has loaded, its workers
inherit, and a SIGHUP, which starts new workers while the old ones finish, would not take up new code.
"""

from __future__ import annotations

from typing import Any

worker_class = "gthread"
workers = 2
#: `api.waiting` shares them out.
threads = 32
timeout = 60
graceful_timeout = 30
keepalive = 5
# It would be made in the home folder, which a service may not have.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    from api import waiting
    from tasks import log

    log.setup()
    waiting.remember(worker.wsgi, worker)
