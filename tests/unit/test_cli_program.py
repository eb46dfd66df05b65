"""The script of a program: it becomes the program, with its pid in the file and its values unharmed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.program import MARK, Program

SHOW = "import os; print(os.getpid(), os.environ['X'], os.environ['STACK_OF_SLUICE'], sep='|')"


@pytest.mark.parametrize("value", ["plain", "it's 50% $HOME", 'a "b"', "tail\\"])
def test_a_script_becomes_its_program_with_its_pid_written_down(tmp_path: Path, value: str) -> None:
    pid_file = tmp_path / "it's a folder" / "p.pid"
    pid_file.parent.mkdir()
    program = Program("p", (sys.executable, "-c", SHOW), {"X": value})
    script = program.script(stack_id="abc", pid_file=pid_file, home=tmp_path)
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{pid_file.read_text().strip()}|{value}|abc/p"


def test_another_version_of_the_code_makes_another_script(tmp_path: Path) -> None:
    def script(version: str) -> str:
        return Program("p", ("true",), version=version).script(
            stack_id="abc", pid_file=tmp_path / "p", home=tmp_path
        )

    assert script("1") != script("2")
    assert f"export {MARK}=abc/p" in script("1")
