"""A CSV file read row by row in constant memory, with a line number for every complaint."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, Literal

from tasks.retry import PermanentError

#: What may stand between two cells.
Delimiter = Literal[",", ";", "\t", "|"]

#: Bytes of one line; a file without line ends would otherwise be read into memory whole.
LINE_BYTES = 1 << 20
#: Columns of one file.
MAX_COLUMNS = 1_000


class BadCsv(PermanentError):
    """The file is not the CSV that it should be; the message names the line."""


class CsvFile:
    """Header and rows of an open CSV file in UTF-8 (a byte order mark is fine), quoted as RFC 4180 says.

    Every row has as many cells as the header; blank lines are skipped. Raises BadCsv for anything else.
    """

    def __init__(self, file: BinaryIO, name: str, delimiter: Delimiter) -> None:
        self.name = name
        self._reader = csv.reader(self._lines(file), delimiter=delimiter, strict=True)
        self.header = self._header()

    @property
    def line(self) -> int:
        """Number of the last line of the row that was read last."""
        return self._reader.line_num

    def rows(self) -> Iterator[list[str]]:
        """The rows after the header."""
        width = len(self.header)
        for row in self._records():
            if len(row) != width:
                raise self.fault(f"{len(row)} cells, but the header has {width}")
            yield row

    def fault(self, what: str, *, line: int | None = None) -> BadCsv:
        """The exception that says what is wrong with a line: the last one read, unless another is named."""
        return BadCsv(f"{self.name}, line {line or self.line}: {what}")

    def _header(self) -> list[str]:
        header = [name.strip() for name in next(self._records(), [])]
        if not header:
            raise BadCsv(f"{self.name} is empty; its first line should name the columns")
        if len(header) > MAX_COLUMNS:
            raise self.fault(f"{len(header)} columns; at most {MAX_COLUMNS} are read")
        if "" in header:
            raise self.fault(f"column {header.index('') + 1} has no name")
        if twice := [name for name, count in Counter(header).items() if count > 1]:
            raise self.fault(f"two columns have the same name: {', '.join(twice)}")
        return header

    def _records(self) -> Iterator[list[str]]:
        try:
            yield from filter(None, self._reader)
        except csv.Error as error:
            raise self.fault(f"not CSV: {error}") from error

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        # Each line is decoded by itself, so that the complaint about a wrong byte can name the line.
        number = 0
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise self.fault(f"longer than {LINE_BYTES:,} bytes", line=number)
            try:
                yield (line.removeprefix(BOM_UTF8) if number == 1 else line).decode()
            except UnicodeDecodeError as error:
                raise self.fault(
                    f"not UTF-8 text ({error.reason} at byte {error.start + 1})", line=number
                ) from error
