"""Processes of the service with settings of their own, beside those of the stack or in their place.

    with beside.api(stack, CELERY_BROKER_URL=proxy.url) as service: ...
    with away(stack, "monitor"), beside.monitor(stack, FAKETIME="+1h"): ...
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from cli.stack import Stack
from tests.system import processes
from tests.system.patience import until
from tests.system.service import Service

_BIN = Path(sys.executable).parent
#: Seconds that a process has to come up on a busy machine, and to go.
UP_SECONDS, DOWN_SECONDS = 60.0, 40.0


@contextmanager
def api(stack: Stack, **variables: str) -> Iterator[Service]:
    """Another door to the same service."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--config", "file:api/gunicorn_config.py", "--bind", f"127.0.0.1:{port}"]
    with _process(stack, "api", [str(_BIN / "gunicorn"), *options, "api:create_app()"], variables):
        service = Service(f"http://127.0.0.1:{port}", stack.environment()["SLUICE_API_KEY"])
        until(lambda: _answers(service), "another door", within=UP_SECONDS)
        yield service


@contextmanager
def worker(stack: Stack, kind: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another worker, by the name of `<kind>-beside`."""
    celery = [str(_BIN / "celery"), "-A", f"workers.{kind}", "worker", "-n", f"{kind}-beside@%h"]
    with _process(stack, kind, celery, variables) as process:
        yield process


@contextmanager
def monitor(stack: Stack, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    with _process(stack, "monitor", [sys.executable, "-m", "workers.monitor"], variables) as process:
        yield process


@contextmanager
def _process(
    stack: Stack, like: str, command: list[str], variables: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """With the environment that the stack gives to its own process of this name, whether that runs or not."""
    begins, found, _ = stack.layout.program(like).read_text(encoding="utf-8").partition("echo $$ >")
    assert found, f"the script of {like} has changed"
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    script = f"{begins}\n{exports}\nexec {shlex.join(command)}"
    with (stack.layout.run / f"{like}-beside.log").open("ab") as log:
        process = subprocess.Popen(["/bin/sh", "-c", script], env={}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(DOWN_SECONDS)
        finally:
            for pid in [*processes.children(process.pid), process.pid]:
                processes.kill(pid)
            process.wait()


def _answers(service: Service) -> bool:
    try:
        return service.ask("GET", "/livez").ok
    except requests.RequestException:
        return False
