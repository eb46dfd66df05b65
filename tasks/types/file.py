"""`file_processing`: what an uploaded file holds, or a file made from it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks import storage
from tasks.attempt import Attempt
from tasks.catalog import task_type
from tasks.work.counts import Counts
from tasks.work.csv_file import CsvFile, Delimiter

Operation = Literal["summary", "checksum", "counts", "compress", "thumbnail", "csv_profile"]

#: Which operation each option belongs to.
_OPTIONS: dict[str, Operation] = {"algorithm": "checksum", "size": "thumbnail", "delimiter": "csv_profile"}

#: zlib's number for a gzip container; it writes no name and no time, so equal files become equal archives.
_GZIP = 31


class FileProcessing(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"filename": "your_file.txt"},
                {"filename": "your_file.txt", "operation": "checksum", "algorithm": "sha512"},
                {"filename": "picture.png", "operation": "thumbnail", "size": 256},
                {"filename": "people.csv", "operation": "csv_profile"},
            ]
        },
    )

    filename: storage.FileName
    operation: Operation = Field(
        default="summary",
        description="summary: SHA-256 and counts; checksum; counts: lines, words, characters; compress: "
        "a gzip file; thumbnail: a small picture; csv_profile: what each column holds",
    )
    algorithm: Literal["sha256", "sha512", "sha1", "md5", "blake2b"] = Field(
        default="sha256", description="Of operation checksum"
    )
    size: int = Field(
        default=256, ge=16, le=2048, description="Of operation thumbnail: longest side, in pixels"
    )
    delimiter: Delimiter = Field(
        default=",", description="Of operation csv_profile: what stands between two cells"
    )

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        for option in sorted(self.model_fields_set & _OPTIONS.keys()):
            if self.operation != _OPTIONS[option]:
                raise ValueError(
                    f"{option} belongs to operation {_OPTIONS[option]!r}, not {self.operation!r}"
                )
        return self


@task_type("file_processing", worker="file", parameters=FileProcessing)
def process(attempt: Attempt, parameters: FileProcessing) -> dict[str, Any]:
    """Checksum, count, compress, profile or picture an uploaded file.

    The result is `{processed: true, filename, operation, size}` (bytes) and

        summary      sha256, lines, words, characters, encoding
        checksum     algorithm, checksum (hexadecimal)
        counts       lines, words, characters, encoding
        compress     output: {filename, size, sha256}
        thumbnail    output as above, and width and height in pixels
        csv_profile  rows, and for each column what it holds

    An output file is named <task id>-<name> and is there from the moment the task succeeded. A missing
    file, a folder, a link, a file over the limit, something that is no picture or no CSV: the task fails at
    once and says so.
    """
    with storage.open_input(parameters.filename) as file:
        outcome = _OPERATIONS[parameters.operation](attempt, parameters, file)
        return {
            "processed": True,
            "filename": parameters.filename,
            "operation": parameters.operation,
            "size": storage.size_of(file),
            **outcome,
        }


def _chunks(attempt: Attempt, file: BinaryIO) -> Iterator[bytes]:
    """The file in pieces, with progress in bytes."""
    done, total = 0, storage.size_of(file)
    while chunk := file.read(storage.CHUNK_BYTES):
        yield chunk
        done += len(chunk)
        attempt.progress(done, total)


def _summary(attempt: Attempt, parameters: FileProcessing, file: BinaryIO) -> dict[str, Any]:
    checksum, counts = hashlib.sha256(), Counts()
    for chunk in _chunks(attempt, file):
        checksum.update(chunk)
        counts.add(chunk)
    return {"sha256": checksum.hexdigest(), **counts.summary()}


def _checksum(attempt: Attempt, parameters: FileProcessing, file: BinaryIO) -> dict[str, Any]:
    checksum = hashlib.new(parameters.algorithm, usedforsecurity=False)
    for chunk in _chunks(attempt, file):
        checksum.update(chunk)
    return {"algorithm": parameters.algorithm, "checksum": checksum.hexdigest()}


def _counts(attempt: Attempt, parameters: FileProcessing, file: BinaryIO) -> dict[str, Any]:
    counts = Counts()
    for chunk in _chunks(attempt, file):
        counts.add(chunk)
    return counts.summary()


def _compress(attempt: Attempt, parameters: FileProcessing, file: BinaryIO) -> dict[str, Any]:
    output = _output(attempt, parameters.filename + ".gz")
    compressor = zlib.compressobj(wbits=_GZIP)
    for chunk in _chunks(attempt, file):
        output.write(compressor.compress(chunk))
    output.write(compressor.flush())
    return {"output": output.description}


def _thumbnail(attempt: Attempt, parameters: FileProcessing, file: BinaryIO) -> dict[str, Any]:
    from tasks.work import thumbnail  # noqa: PLC0415  Pillow, for those who draw

    total = storage.size_of(file)
    attempt.progress(0, total)
    picture, ending, (width, height) = thumbnail.make(file, parameters.filename, parameters.size)
    output = _output(attempt, parameters.filename + ending)
    output.write(picture)
    attempt.progress(total, total)
    return {"output": output.description, "width": width, "height": height}


def _csv_profile(attempt: Attempt, parameters: FileProcessing, file: BinaryIO) -> dict[str, Any]:
    from tasks.work import csv_profile  # noqa: PLC0415  needed by this operation alone

    total = storage.size_of(file)
    table = CsvFile(file, parameters.filename, parameters.delimiter)
    found = csv_profile.profile(table, every_rows=1_000, then=lambda: attempt.progress(file.tell(), total))
    attempt.progress(total, total)
    return found


def _output(attempt: Attempt, name: str) -> storage.OutputFile:
    output = storage.OutputFile(name, task_id=attempt.task_id, attempt=attempt.number)
    attempt.join(output)
    return output


_OPERATIONS: dict[Operation, Callable[[Attempt, FileProcessing, BinaryIO], dict[str, Any]]] = {
    "summary": _summary,
    "checksum": _checksum,
    "counts": _counts,
    "compress": _compress,
    "thumbnail": _thumbnail,
    "csv_profile": _csv_profile,
}
