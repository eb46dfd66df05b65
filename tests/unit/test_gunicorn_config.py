"""What gunicorn's master loads, its workers inherit: a reload takes up new code only if the master has none of ours."""

from __future__ import annotations

import subprocess
import sys

from api import waiting
from tests.conftest import CHECKOUT

#: What gunicorn does with its options before it forks; then the rooms of the house that were loaded for it.
MASTER = """
import sys
from gunicorn.app.wsgiapp import WSGIApplication
sys.argv = ["gunicorn", "--config", "file:api/gunicorn_config.py", "api:create_app()"]
threads = WSGIApplication().cfg.threads
print(threads, *{name.partition(".")[0] for name in sys.modules} & {"api", "tasks", "ledger", "settings"})
"""


def test_gunicorns_master_loads_nothing_of_ours() -> None:
    told = subprocess.run([sys.executable, "-c", MASTER], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(waiting.THREADS)]
