"""Lines, words and characters of bytes that arrive in pieces, whether they are text or not."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import Any

_new_decoder = getincrementaldecoder("utf-8")


class Counts:
    """Counts as `wc` does, except that a last line without a line end is a line too."""

    def __init__(self) -> None:
        self._ends = 0
        self._words = 0
        self._characters = 0
        self._last = b"\n"
        self._decoder = _new_decoder()
        self._is_text = True

    def add(self, piece: bytes) -> None:
        if not piece:
            return
        self._ends += piece.count(b"\n")
        self._words += len(piece.split())
        if not self._last.isspace() and not piece[:1].isspace():
            self._words -= 1  # the piece begins in the middle of a word
        self._last = piece[-1:]
        self._count_characters(piece)

    def summary(self) -> dict[str, Any]:
        """`{lines, words, characters, encoding}`; characters are null when the bytes are not UTF-8 text."""
        self._count_characters(b"", final=True)
        return {
            "lines": self._ends + (self._last != b"\n"),
            "words": self._words,
            "characters": self._characters if self._is_text else None,
            "encoding": "utf-8" if self._is_text else "binary",
        }

    def _count_characters(self, piece: bytes, *, final: bool = False) -> None:
        if not self._is_text:
            return
        try:
            self._characters += len(self._decoder.decode(piece, final))
        except UnicodeDecodeError:
            self._is_text = False
