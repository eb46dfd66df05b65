"""What goes wrong in a way that a sentence explains better than a traceback does."""

from __future__ import annotations


class Trouble(Exception):
    """The command ends with this message and exit code 1."""
