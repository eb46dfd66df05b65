"""What goes wrong in a way that a sentence explains better than a traceback does."""

from __future__ import annotations

from collections.abc import Sequence


class Trouble(Exception):
    """The command ends with this message, the lines that tell more, and an exit code."""

    exit_code = 1

    def more(self) -> Sequence[str]:
        """What else is worth saying, a line each."""
        return ()
