"""The commands of a page: which of its blocks speak to the service, and running them as a reader pastes them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import CHECKOUT

README = CHECKOUT / "README.md"
QUICKSTART = CHECKOUT / "docs" / "quickstart.md"
#: The words before a block, and the block.
_BLOCK = re.compile(r"([^\n]*)\n+```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: What a reader sees on the screen stays as it is; the status of each answer is told beside it.
TELLING_CURL = 'curl() { command curl --max-time 60 --write-out "%{stderr}status %{http_code}\\n" "$@"; }'


@dataclass(frozen=True)
class Block:
    words: str
    commands: str

    @property
    def shows_an_error(self) -> bool:
        return self.words.startswith("Errors ")


def speaking_blocks(page: Path = README) -> list[Block]:
    """The fenced blocks that speak to the service, and those that they need, in their order."""
    blocks = [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]
    speak = ("curl", "SLUICE_URL=", "./sluice ")
    return [block for block in blocks if any(word in block.commands for word in speak)]


def run(environment: Mapping[str, str], page: Path = README, *, within: float = 120) -> None:
    """In one shell and one after the other; each answer must be what the page says."""
    blocks = speaking_blocks(page)
    for word in ("curl ", "./sluice ") if page == README else ("./sluice ",):
        assert sum(block.commands.count(word) for block in blocks) >= 5, f"{page.name} lost its lines with {word}"
    script = ["set -euo pipefail", TELLING_CURL]
    for number, block in enumerate(blocks):
        script += [f"echo block {number} >&2", block.commands]
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join(script)],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode} after:\n{done.stdout}\n{done.stderr}"
    for number, told in enumerate(done.stderr.split("block ")[1:]):
        statuses = [int(status) for status in re.findall(r"status (\d+)", told)]
        shown = range(400, 500) if blocks[number].shows_an_error else range(200, 300)
        assert all(status in shown for status in statuses), f"{statuses} for:\n{blocks[number].commands}"
