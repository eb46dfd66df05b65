"""Base images under the names that Dockerfile and docker-compose.yml use, made of Debian's packages.

For machines that reach a mirror of Debian but no registry of images: debootstrap makes two bases, and each Dockerfile
in `standins/` makes one image of it, with the programs, users, folders and variables of the official one so far as our
files rely on them. Mirror, proxies and certificates are this machine's own.

    python -m tests.containers.images

They are marked as stand-ins, and an image of the same name that is none is left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cli import mysql_packages
from tests.containers import engine

STANDINS = Path(__file__).parent / "standins"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Image:
    #: Its folder in `standins/`, and where its name stands in our files.
    name: str
    #: The suite of Debian that has the version.
    suite: str


#: Debian's trixie has Python 3.13, and its unstable the servers in the versions nearest to those that we name.
IMAGES = (
    Image("python", "trixie"),
    Image("rabbitmq", "sid"),
    Image("mysql", "sid"),
    Image("redis", "sid"),
    Image("mail", "trixie"),
    Image("nginx", "sid"),
    Image("prometheus", "sid"),
)


def make_missing() -> None:
    """Make every image that is not there."""
    names = engine.image_names()
    for image in IMAGES:
        if not engine.has_image(names[image.name]):
            _make(image, names[image.name])


def _make(image: Image, name: str) -> None:
    base = _base(image.suite)
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        shutil.copytree(STANDINS / image.name, context, dirs_exist_ok=True)
        shutil.copyfile(CERTIFICATES, context / "ca-certificates.crt")
        (context / "pip.conf").write_text(_pip_configuration())
        # The host's network: its way to the mirror need not be open to a bridge.
        options = {"network": "host", "build-arg": f"BASE={base}", "label": f"{engine.STANDIN}=1", "tag": name}
        engine.docker("build", *(f"--{option}={value}" for option, value in options.items()), str(context))


def _pip_configuration() -> str:
    told = {"cert": str(CERTIFICATES)}
    for option in ("index-url", "proxy"):
        asked = [sys.executable, "-m", "pip", "config", "get", f"global.{option}"]
        kept = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        found = os.environ.get(f"PIP_{option.upper().replace('-', '_')}", kept)
        told |= {option: found} if found else {}
    return "[global]\n" + "".join(f"{option} = {value}\n" for option, value in told.items())


def _apt_configuration() -> str:
    """What this machine's apt is told about its mirror."""
    options = ("Check-Valid-Until", "http::Proxy", "https::Proxy")
    command = ["apt-config", "dump", *(f"Acquire::{option}" for option in options)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _base(suite: str) -> str:
    name = f"sluice-standin-debian:{suite}"
    if not engine.has_image(name):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / suite
            _debootstrap(suite, root)
            (root / "etc" / "apt" / "apt.conf.d" / "90machine").write_text(_apt_configuration())
            with subprocess.Popen(["tar", "--create", "--directory", root, "."], stdout=subprocess.PIPE) as packed:
                engine.docker("import", "--change", f"LABEL {engine.STANDIN}=1", "-", name, stdin=packed.stdout)
    return name


def _debootstrap(suite: str, root: Path) -> None:
    options = ["--variant=minbase", "--include=ca-certificates"]
    mirror = mysql_packages.debian_mirror()
    subprocess.run(["debootstrap", *options, suite, root, mirror], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    make_missing()
