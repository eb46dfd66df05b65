"""Brings a real MySQL server into a folder: Debian's newest packages, unpacked beside the system and not installed.

    python3 -m cli.mysql_packages [--optional]

Debian 12 has MariaDB only; MySQL's own server is in unstable ("sid"), and wants a newer C library than this system has.
So apt downloads the server with everything that it needs, down to the C library, from the mirror that apt uses anyway,
and `cli.servers.mysql` starts the server through the loader among them. apt works on lists, a status and a cache of its
own beside the folder: this takes no root, and the system's packages are neither looked at nor touched.

With `--optional`, packages that cannot be fetched are told and no failure; whatever else goes wrong still is one.

Runs before there is a virtual environment, so it uses the standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cli import bootstrap
from cli.layout import CHECKOUT, MYSQL
from cli.output import Output
from cli.trouble import Trouble

PACKAGE = "mysql-server-core"
SUITE = "sid"
SERVER = Path("usr/sbin/mysqld")
#: Debian's keys, where its newer releases keep them; older ones trust them anyway.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class NotFetched(Trouble):
    """MySQL's packages could not be fetched."""


def main(arguments: Sequence[str]) -> int:
    output = Output.terminal()
    try:
        with bootstrap.alone():
            bring(MYSQL, output)
    except NotFetched as missing:
        output.line()
        output.failed(str(missing))
        if "--optional" in arguments:
            output.note("the tests on MySQL are left out")
            return 0
        return 1
    except Trouble as trouble:
        output.line()
        output.failed(str(trouble))
        return 1
    return 0


def is_there(folder: Path = MYSQL) -> bool:
    return (folder / SERVER).exists()


def bring(folder: Path, output: Output, mirror: str | None = None) -> None:
    """Fetch and unpack what is not there yet. Beside its place first: what was interrupted starts over."""
    name = str(folder.relative_to(CHECKOUT) if folder.is_relative_to(CHECKOUT) else folder)
    if is_there(folder):
        output.done("mysql", f"already in {name}")
        return
    unfinished, apt = folder.with_name(f"{folder.name}.unfinished"), folder.with_name(f"{folder.name}.apt")
    for left in (unfinished, apt, folder):
        shutil.rmtree(left, ignore_errors=True)
    for each in (unfinished, apt):
        each.mkdir(mode=0o700, parents=True)
    with output.step("list", f"what Debian {SUITE} has"):
        source = mirror or debian_mirror()
        options = private_apt(apt, source)
        fetch([*options, "update", "--error-on=any"], f"the list of packages cannot be fetched from {source}")
    with output.step("download", f"{PACKAGE} and what it needs"):
        fetch([*options, "install", "--yes", "--download-only", PACKAGE], "the packages cannot be fetched")
    with output.step("unpack", f"into {name}"):
        for package in sorted((apt / "cache" / "archives").glob("*.deb")):
            bootstrap.run(
                ["dpkg-deb", "--extract", str(package), str(unfinished)], f"unpacking {package.name}"
            )
        shutil.rmtree(apt)
        if not is_there(unfinished):
            raise Trouble(f"{PACKAGE} is unpacked, and there is no {SERVER} in it")
        unfinished.rename(folder)


def debian_mirror() -> str:
    """The mirror that apt is set up with. Debian's security updates have mirrors of their own, without unstable."""
    if not bootstrap.is_installed("apt-get"):
        raise NotFetched("MySQL's packages are fetched by apt, and there is no apt-get here")
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = mirrors(told.stdout)
    if not found:
        raise NotFetched(
            "apt knows no mirror of Debian, from which MySQL could be fetched; is this Debian, and was "
            "`apt-get update` run?"
        )
    return found[0]


def mirrors(index_targets: str) -> list[str]:
    """The mirrors of Debian among apt's sources, the first one first."""
    rows = (line.split("|", 2) for line in index_targets.splitlines())
    return list(dict.fromkeys(uri for origin, label, uri in rows if (origin, label) == ("Debian", "Debian")))


def private_apt(folder: Path, mirror: str) -> list[str]:
    """An apt that believes nothing to be installed, with one source. Proxies and passwords are the system's."""
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (folder / "sources.list").write_text(f"deb {signed}{mirror} {SUITE} main\n")
    (folder / "status").touch()
    (folder / "none").mkdir()
    for each in ("state/lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": folder / "none",
        "Dir::Etc::PreferencesParts": folder / "none",
        "Dir::Etc::Preferences": folder / "none" / "preferences",
        "Dir::State": folder / "state",
        "Dir::State::Status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::Archives": folder / "cache" / "archives",
        # The user whom apt downloads as could not write into a folder that is its owner's alone.
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
    }
    given = (each for name, value in options.items() for each in ("--option", f"{name}={value}"))
    return ["apt-get", "--quiet", *given]


def fetch(command: Sequence[str], complaint: str) -> None:
    try:
        bootstrap.run(command, complaint)
    except bootstrap.BootstrapFailed as failure:
        raise NotFetched(str(failure)) from failure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
