"""What file_processing finds in files, and makes of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from settings import settings
from tasks import storage
from tasks.retry import PermanentError
from tasks.types.file import FileProcessing, process
from tasks.work import thumbnail
from tasks.work.counts import Counts
from tests.recording import TASK_ID, RecordingAttempt, configure


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    configure(monkeypatch, SLUICE_STORAGE_DIR=tmp_path)
    yield tmp_path
    settings.cache_clear()


def upload(name: str, content: bytes) -> None:
    storage.save_upload(name, io.BytesIO(content), 1 << 26)


def run(name: str, **options: Any) -> dict[str, Any]:
    """The result of a task that succeeds."""
    attempt = RecordingAttempt()
    result: dict[str, Any] = process(attempt, FileProcessing.model_validate({"filename": name, **options}))
    attempt.succeed()
    return result


def produced(result: dict[str, Any]) -> bytes:
    with storage.open_output(result["output"]["filename"]) as file:
        return file.read()


def picture(width: int, height: int, *, mode: str = "RGB", kind: str = "PNG", **options: Any) -> bytes:
    encoded = io.BytesIO()
    Image.new(mode, (width, height)).save(encoded, kind, **options)
    return encoded.getvalue()


def test_the_example_body_sums_a_file_up() -> None:
    upload("your_file.txt", "Hello, wörld\nlast line".encode())
    assert run("your_file.txt") == {
        "processed": True,
        "filename": "your_file.txt",
        "operation": "summary",
        "size": 23,
        "sha256": hashlib.sha256("Hello, wörld\nlast line".encode()).hexdigest(),
        "lines": 2,
        "words": 4,
        "characters": 22,
        "encoding": "utf-8",
    }


def test_a_binary_file_is_counted_without_characters() -> None:
    upload("x.bin", b"\xff\xfe\x00 \n")
    result = run("x.bin", operation="counts")
    assert (result["lines"], result["words"], result["characters"], result["encoding"]) == (
        1,
        1,
        None,
        "binary",
    )


@given(st.binary(max_size=60), st.integers(1, 7))
def test_counts_do_not_depend_on_how_the_bytes_are_cut(content: bytes, step: int) -> None:
    whole, pieces = Counts(), Counts()
    whole.add(content)
    for start in range(0, len(content), step):
        pieces.add(content[start : start + step])
    assert whole.summary() == pieces.summary()
    assert whole.summary()["words"] == len(content.split())


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1", "md5", "blake2b"])
def test_a_checksum_is_what_others_compute(algorithm: str) -> None:
    upload("a", b"abc")
    result = run("a", operation="checksum", algorithm=algorithm)
    assert result["checksum"] == hashlib.new(algorithm, b"abc").hexdigest()


def test_a_compressed_file_unpacks_to_the_original() -> None:
    content = b"line of text\n" * 100_000
    upload("log.txt", content)
    result = run("log.txt", operation="compress")
    assert result["output"]["filename"] == f"{TASK_ID}-log.txt.gz"
    assert result["output"]["sha256"] == hashlib.sha256(produced(result)).hexdigest()
    assert gzip.decompress(produced(result)) == content


def test_compressing_twice_gives_the_same_bytes() -> None:
    upload("a", b"abc")
    first = produced(run("a", operation="compress"))
    assert first == produced(run("a", operation="compress"))
    assert first[4:8] == b"\0\0\0\0"  # no time in it


def test_a_stopped_task_leaves_no_file_behind(folder: Path) -> None:
    upload("a", b"abc")
    attempt = RecordingAttempt()
    process(attempt, FileProcessing(filename="a", operation="compress"))
    attempt.prepare()
    attempt.undo()
    assert list((folder / "out").iterdir()) == []


def test_progress_is_told_in_bytes() -> None:
    upload("a", b"x" * (storage.CHUNK_BYTES + 1))
    attempt = RecordingAttempt()
    process(attempt, FileProcessing(filename="a", operation="checksum"))
    assert attempt.told == [
        (storage.CHUNK_BYTES, storage.CHUNK_BYTES + 1),
        (storage.CHUNK_BYTES + 1, storage.CHUNK_BYTES + 1),
    ]


def test_a_thumbnail_keeps_the_proportions() -> None:
    upload("wide.png", picture(400, 200))
    result = run("wide.png", operation="thumbnail", size=100)
    assert (result["width"], result["height"]) == (100, 50)
    assert result["output"]["filename"] == f"{TASK_ID}-wide.png.png"
    assert Image.open(io.BytesIO(produced(result))).size == (100, 50)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pictures_of_any_mode_become_thumbnails(mode: str) -> None:
    upload("x.png", picture(40, 40, mode=mode))
    assert run("x.png", operation="thumbnail", size=16)["width"] == 16


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP", "TIFF"])
def test_other_formats_become_png(kind: str) -> None:
    upload("x", picture(40, 40, kind=kind))
    assert produced(run("x", operation="thumbnail")).startswith(b"\x89PNG")


def test_a_jpeg_is_turned_upright_and_loses_its_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held on its side
    exif[0x010E] = "where I live"
    upload("photo.jpg", picture(200, 100, kind="JPEG", exif=exif))
    result = run("photo.jpg", operation="thumbnail", size=64)
    assert (result["width"], result["height"]) == (32, 64)
    assert result["output"]["filename"].endswith("-photo.jpg.jpg")
    assert b"where I live" not in produced(result)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_a_truncated_image_is_refused_clearly(kind: str) -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    encoded = io.BytesIO()
    noise.save(encoded, kind)
    upload("cut.img", encoded.getvalue()[: len(encoded.getvalue()) // 2])
    with pytest.raises(thumbnail.BadImage, match=r"cut\.img"):
        run("cut.img", operation="thumbnail")


@pytest.mark.parametrize(
    "content", [b"", b"not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_picture_is_refused_clearly(content: bytes) -> None:
    upload("x", content)
    with pytest.raises(thumbnail.BadImage, match="x is not an image"):
        run("x", operation="thumbnail")


def test_a_picture_that_would_fill_the_memory_is_not_decoded() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1_000))
    for name, content in (("bomb.png", bomb), ("large.png", picture(8_000, 7_000, mode="1"))):
        upload(name, content)
        with pytest.raises(thumbnail.BadImage, match="pixels"):
            run(name, operation="thumbnail")


def test_a_csv_profile_tells_what_each_column_holds() -> None:
    upload("people.csv", '\ufeffname,age\nAda,36\n"Grace\nHopper",\nAda,2.5e1\n'.encode())
    result = run("people.csv", operation="csv_profile")
    assert result["rows"] == 3
    assert result["columns"]["name"] == {
        "empty": 0,
        "numbers": 0,
        "texts": 3,
        "distinct": 2,
        "distinct_is_exact": True,
        "length": {"min": 3, "max": 12},
    }
    assert result["columns"]["age"]["empty"] == 1
    assert result["columns"]["age"]["statistics"] == {
        "min": 25.0,
        "max": 36.0,
        "mean": 30.5,
        "stdev": pytest.approx(7.7781746),
    }


def test_a_csv_profile_counts_many_distinct_values_up_to_its_limit() -> None:
    upload("ids.csv", b"id\n" + b"".join(b"%d\n" % number for number in range(12_000)))
    column = run("ids.csv", operation="csv_profile")["columns"]["id"]
    assert (column["distinct"], column["distinct_is_exact"]) == (10_000, False)


@pytest.mark.parametrize("cell", ["nan", "inf", "1_000", "1e999", "0x10", "٣"])
def test_what_only_python_reads_as_a_number_is_text(cell: str) -> None:
    upload("x.csv", f"a\n{cell}\n".encode())
    assert run("x.csv", operation="csv_profile")["columns"]["a"]["texts"] == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n1,2,3\n", "line 3: 3 cells, but the header has 2"),
        (b"a,b\n1\n", "line 2: 1 cells"),
        (b"a,a\n", "line 1: two columns have the same name: a"),
        (b"a,\n", "line 1: column 2 has no name"),
        (b"a\n1\n\xff\xfe\n", "line 3: not UTF-8"),
        (b'a\n"1', "line 2: not CSV"),
        (b'a\n"1"2\n', "line 2: not CSV"),
        (b"a\n" + b"x" * (1 << 21), "line 2: longer than"),
        (b'a\n"' + b"x\n" * 100_000, "field larger than field limit"),
        (b",".join(b"c%d" % n for n in range(1_001)) + b"\n", "1001 columns"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8"),
    ],
)
def test_what_is_no_csv_is_refused_with_its_line(content: bytes, complaint: str) -> None:
    upload("x.csv", content)
    with pytest.raises(PermanentError, match=complaint):
        run("x.csv", operation="csv_profile")


@pytest.mark.parametrize(
    "operation", ["summary", "checksum", "counts", "compress", "thumbnail", "csv_profile"]
)
def test_a_missing_file_is_named_by_every_operation(operation: str) -> None:
    with pytest.raises(PermanentError, match="there is no file absent"):
        run("absent", operation=operation)


@pytest.mark.parametrize("operation", ["summary", "checksum", "counts", "compress"])
def test_an_empty_file_is_a_file(operation: str) -> None:
    upload("empty", b"")
    assert run("empty", operation=operation)["size"] == 0


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "Field required"),
        ({"filename": "../etc/passwd"}, "one plain word"),
        ({"filename": "a" * 4096}, "at most 128 characters"),
        ({"filename": 5}, "valid string"),
        ({"filename": "a", "operation": "delete"}, "operation"),
        ({"filename": "a", "size": 64}, "size belongs to operation 'thumbnail'"),
        ({"filename": "a", "operation": "thumbnail", "size": 10**6}, "size"),
        ({"filename": "a", "operation": "thumbnail", "size": "64"}, "size"),
        ({"filename": "a", "operation": "checksum", "algorithm": "crc"}, "algorithm"),
        ({"filename": "a", "mode": "w"}, "Extra inputs"),
    ],
)
def test_wrong_parameters_are_refused_with_the_reason(body: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        FileProcessing.model_validate(body)
