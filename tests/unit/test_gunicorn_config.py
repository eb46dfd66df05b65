"""What gunicorn's master loads, its workers inherit: a reload takes up new code only if the master has none of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from api import gunicorn_config, waiting
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


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("seen", "whole"),
    [
        (b"", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (HEAD + b"Content-Length: 3\r\n\r\nab", False),
        (HEAD + b"content-length:3\r\n\r\nabc", True),
        (HEAD + b"X: Content-Length: 3\r\n\r\n", True),
        (HEAD + b"Content-Length: 100000\r\n\r\n", True),
        (HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", True),
        (b"x" * gunicorn_config.SHORT_BYTES, True),
    ],
)
def test_a_thread_takes_a_request_when_it_is_there(seen: bytes, whole: bool) -> None:
    assert gunicorn_config.is_whole(seen) is whole
