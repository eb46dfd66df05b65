"""Runs the Postman collection by newman, which npm brings into `.sluice/newman`, at the versions of docs/postman.

    python -m cli.newman        against the service that SLUICE_URL names, or the stack on this machine
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli import door
from cli.layout import CHECKOUT, DEFAULT_STATE, write_private
from cli.trouble import Trouble
from client.errors import SluiceError

SOURCE = CHECKOUT / "docs" / "postman"
COLLECTION = SOURCE / "sluice.postman_collection.json"
ENVIRONMENT = SOURCE / "sluice.postman_environment.json"
#: What says which versions.
PACKAGES = ("package.json", "package-lock.json")
FOLDER = DEFAULT_STATE / "newman"
PROGRAM = FOLDER / "node_modules" / "newman" / "bin" / "newman.js"

NO_NPM = "npm and node are not here, and newman comes from npm: apt install npm"


class NewmanMissing(Trouble):
    """Newman is not here and cannot be brought."""


def is_possible() -> bool:
    return bool(shutil.which("npm") and shutil.which("node"))


def install() -> None:
    """Bring newman, unless it is here already."""
    if not is_possible():
        raise NewmanMissing(NO_NPM)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_current():
            _install()


def _is_current() -> bool:
    return PROGRAM.exists() and all(
        (FOLDER / name).exists() and (FOLDER / name).read_bytes() == (SOURCE / name).read_bytes() for name in PACKAGES
    )


def _install() -> None:
    # The lock comes last: without it a half-done folder is not taken for a whole one.
    (FOLDER / PACKAGES[-1]).unlink(missing_ok=True)
    making = FOLDER / "making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    for name in PACKAGES:
        shutil.copyfile(SOURCE / name, making / name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=making, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NewmanMissing(f"npm could not bring newman: {(done.stderr or done.stdout).strip()[-1000:]}")
    shutil.rmtree(FOLDER / "node_modules", ignore_errors=True)
    (making / "node_modules").rename(FOLDER / "node_modules")
    for name in PACKAGES:
        (making / name).rename(FOLDER / name)
    making.rmdir()


def run(url: str, key: str | None, *options: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """One run of the whole collection; exit code 1 when something in it failed."""
    with _environment(url, key) as environment:
        return subprocess.run(
            ["node", str(PROGRAM), "run", str(COLLECTION), "--environment", str(environment), *options],
            text=True,
            check=False,
            **how,
        )


@contextmanager
def _environment(url: str, key: str | None) -> Iterator[Path]:
    """In a file, because everybody could read a key that is an argument."""
    told: dict[str, Any] = json.loads(ENVIRONMENT.read_text(encoding="utf-8"))
    path = FOLDER / f"environment.{os.getpid()}.json"
    write_private(path, json.dumps(told | {"values": _filled(told["values"], {"baseUrl": url, "apiKey": key or ""})}))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _filled(values: list[dict[str, Any]], given: Mapping[str, str]) -> list[dict[str, Any]]:
    return [each | {"value": given.get(each["key"], each["value"])} for each in values]


def main() -> int:
    try:
        url, key = door.address()
        install()
    except (Trouble, SluiceError) as trouble:
        sys.stderr.write(f"{trouble}\n")
        return 1
    return run(url, key).returncode


if __name__ == "__main__":
    sys.exit(main())
