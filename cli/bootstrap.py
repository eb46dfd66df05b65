"""Makes a bare Debian ready: the missing packages, the virtual environment, the pinned requirements.

    python3 -m cli.bootstrap [--dev] [--bench]

Runs before there is a virtual environment, so it uses the standard library only. A server that `.env` or the
environment points elsewhere is not installed. Debian starts and enables a server with its package; that is kept from
happening, since the stack starts its own, and whoever has databases on the usual ports shall not find new ones there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli import dotenv
from cli.layout import CHECKOUT, VENV
from cli.output import Output
from cli.trouble import Trouble

OLDEST_PYTHON = (3, 11)
LOCK = CHECKOUT / ".venv.lock"
#: Says for which requirements the virtual environment was made.
STAMP = VENV / ".requirements"
#: Lines of a failed command that are shown.
LINES = 25


@dataclass(frozen=True)
class Need:
    """A Debian package, by the program in it that the stack calls."""

    package: str
    program: str
    #: The variables that, all given, make it superfluous.
    unless: tuple[str, ...] = ()
    #: The services that Debian would start at the next boot.
    services: tuple[str, ...] = ()


NEEDS = (
    Need(
        "rabbitmq-server",
        "/usr/lib/rabbitmq/bin/rabbitmq-server",
        unless=("CELERY_BROKER_URL",),
        services=("rabbitmq-server", "epmd"),
    ),
    # The server's programs without the service around them.
    Need("mariadb-server-core", "mariadb-install-db", unless=("LEDGER_DATABASE_URL", "DATA_DATABASE_URL")),
    Need("mariadb-client-core", "my_print_defaults", unless=("LEDGER_DATABASE_URL", "DATA_DATABASE_URL")),
    Need("redis-server", "redis-server", unless=("CELERY_RESULT_BACKEND",), services=("redis-server",)),
    # What `make up` shows to try next, and the README's lines.
    Need("curl", "curl"),
)
#: What only tests call: a small compiler, for the clock that is wrong, and what the proxy and the units of the
#: documentation are tried with.
NEEDS_OF_TESTS = (
    Need("tcc", "tcc"),
    Need("nginx-light", "nginx", services=("nginx",)),
    Need("systemd", "systemd-analyze"),
)
#: What only the benchmark calls: its load, and a peer's database.
NEEDS_OF_BENCH = (
    Need("wrk", "wrk"),
    Need("postgresql", "pg_ctlcluster", services=("postgresql",)),
)

#: Run as root. Services are not started (exit code 101 of policy-rc.d) while packages are installed, whatever stood in
#: that file before is put back whatever happens, and what was not enabled before is not enabled after.
INSTALL = """\
set -eu
policy=/usr/sbin/policy-rc.d
saved=$policy.before-sluice
restore() {
    if grep -qs '^# sluice: ' "$policy"; then rm -f "$policy"; fi
    if [ -e "$saved" ]; then mv -f "$saved" "$policy"; fi
}
restore
trap restore EXIT
trap 'exit 130' HUP INT TERM
if [ -e "$policy" ]; then mv "$policy" "$saved"; fi
printf '#!/bin/sh\\n# sluice: no service is started while its packages are installed\\nexit 101\\n' > "$policy"
chmod 755 "$policy"
strangers=
for service in $services; do
    if [ ! -e "/lib/systemd/system/$service.service" ]; then strangers="$strangers $service"; fi
done
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $packages
for service in $strangers; do
    for unit in "$service.service" "$service.socket"; do
        systemctl disable "$unit" > /dev/null 2>&1 || true
    done
    update-rc.d "$service" disable > /dev/null 2>&1 || true
done
"""


_PIP_INSTALL = ("-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes")


class BootstrapFailed(Trouble):
    """The machine could not be made ready."""


def main(arguments: Sequence[str]) -> int:
    output = Output.terminal()
    needs, requirements = [*NEEDS], ["requirements.txt"]
    for option, more in (("--dev", NEEDS_OF_TESTS), ("--bench", NEEDS_OF_BENCH)):
        if option in arguments:
            needs += more
            requirements.append(f"requirements-{option.removeprefix('--')}.txt")
    try:
        check_python()
        with alone():
            install_packages(missing_packages(needs), output)
            make_venv(requirements, output)
    except Trouble as trouble:
        output.line()
        output.failed(str(trouble))
        return 1
    return 0


def check_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        wanted, found = ".".join(map(str, OLDEST_PYTHON)), ".".join(map(str, sys.version_info[:3]))
        raise BootstrapFailed(f"Python {wanted} or newer is needed, and {sys.executable} is {found}")


@contextmanager
def alone() -> Iterator[None]:
    """`make up` and `make test` at the same time make one environment, one after the other."""
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def missing_packages(needs: Iterable[Need]) -> list[Need]:
    given = {**dotenv.read(CHECKOUT / ".env"), **os.environ}
    missing = [need for need in needs if not is_elsewhere(need, given) and not is_installed(need.program)]
    if not has_venv_module():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        missing.append(
            Need(f"python{version}-venv" if sys.executable.startswith("/usr/bin") else "python3-venv", "")
        )
    return missing


def is_elsewhere(need: Need, given: Mapping[str, str]) -> bool:
    return bool(need.unless) and all(given.get(name) or given.get(f"{name}_FILE") for name in need.unless)


def is_installed(program: str) -> bool:
    return (
        shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
        is not None
    )


def has_venv_module() -> bool:
    """Debian's Python comes without what makes a virtual environment work."""
    done = subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False)
    return done.returncode == 0


def install_packages(needs: Sequence[Need], output: Output) -> None:
    if not needs:
        return
    packages = " ".join(need.package for need in needs)
    if not is_installed("apt-get"):
        raise BootstrapFailed(f"these must be installed first: {packages}")
    as_root = root_prefix(packages)
    services = " ".join(service for need in needs for service in need.services)
    script = f"packages='{packages}'\nservices='{services}'\n{INSTALL}"
    with output.step("packages", packages):
        run([*as_root, "sh", "-c", script], "apt-get could not install them")
    absent = [need.program for need in needs if need.program and not is_installed(need.program)]
    if absent:
        raise BootstrapFailed(f"the packages are installed, and still there is no {', '.join(absent)}")


def root_prefix(packages: str) -> list[str]:
    if os.geteuid() == 0:
        return []
    if is_installed("sudo"):
        return ["sudo"]
    raise BootstrapFailed(f"neither root nor sudo: have somebody run `apt-get install {packages}`")


def make_venv(requirements: Iterable[str], output: Output) -> None:
    if VENV.is_symlink():
        # Making it anew would empty the environment of whoever it belongs to.
        raise BootstrapFailed(
            f".venv is a link to {VENV.readlink()}: remove the link, or set up that checkout instead"
        )
    files = [CHECKOUT / name for name in requirements]
    wanted = [stamp(file) for file in files]
    found = STAMP.read_text().split("\n") if STAMP.exists() and is_alive(VENV) else []
    if set(wanted) <= set(found):
        return
    python = str(VENV / "bin" / "python")
    if not is_alive(VENV):
        with output.step("environment", "virtual environment in .venv"):
            run([sys.executable, "-m", "venv", "--clear", str(VENV)], "it could not be made")
    with output.step("packages", " and ".join(file.name for file in files)):
        for file in files:
            # Of what only tests import, most is never imported: it is compiled when it is.
            options = [] if file.name == "requirements.txt" else ["--no-compile"]
            run([python, *_PIP_INSTALL, *options, "-r", str(file)], "pip could not install them")
    STAMP.write_text("\n".join(sorted({*wanted, *stamps_that_still_hold(found)})))


def stamps_that_still_hold(found: Iterable[str]) -> list[str]:
    """The environment keeps what `--dev` put there, as long as those requirements are the same."""
    holding = {stamp(file) for file in CHECKOUT.glob("requirements*.txt")}
    return [each for each in found if each in holding]


def stamp(requirements: Path) -> str:
    return (
        f"{requirements.name} {hashlib.sha256(requirements.read_bytes()).hexdigest()} {sys.version_info[:2]}"
    )


def is_alive(venv: Path) -> bool:
    """Whether it works: not after Python was upgraded or removed, nor after the checkout was moved."""
    python, pip = venv / "bin" / "python", venv / "bin" / "pip"
    if not python.exists() or not pip.exists() or str(venv) not in pip.read_text(encoding="utf-8"):
        return False
    told = subprocess.run(
        [str(python), "-c", "import sys, pip; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() == str(sys.version_info[:2])


def run(command: Sequence[str], complaint: str) -> None:
    """Run it quietly; when it fails, its last lines are part of the message. sudo may still ask for a password."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=CHECKOUT, check=False
    )
    if done.returncode != 0:
        last = "\n".join(f"    | {line}" for line in done.stdout.strip().splitlines()[-LINES:])
        raise BootstrapFailed(f"{complaint}:\n{last}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
