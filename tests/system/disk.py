"""A disk of a test's own that can be full: a tmpfs, which takes exactly as much as it was told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


class Disk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, *, but: int) -> None:
        """Leave so many bytes free and no more."""
        found = os.statvfs(self.folder)
        self._be((found.f_blocks - found.f_bfree) * found.f_frsize + but)

    def make_room(self, size: int) -> None:
        """Be as big as that from now on."""
        self._be(size)

    def _be(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@contextmanager
def small(folder: Path, size: int) -> Iterator[Disk]:
    """Lies over the folder, whose own files are hidden meanwhile."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={size},mode=700"]
    done = subprocess.run(["mount", *options, "sluice-test", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        # Lazy: somebody may be reading a file there at this moment.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
