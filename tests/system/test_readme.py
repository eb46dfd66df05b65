"""The commands of the README and of the quickstart, run as they stand there."""

from __future__ import annotations

from cli.stack import Stack
from tests import readme


def test_the_readmes_lines_run_as_pasted(stack: Stack) -> None:
    readme.run(stack.environment())


def test_the_quickstarts_lines_run_as_pasted(stack: Stack) -> None:
    readme.run(stack.environment(), readme.QUICKSTART)
