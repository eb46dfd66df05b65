"""Names stay inside the storage folder, and a file is there whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings import settings
from tasks import storage
from tests.recording import TASK_ID, configure

HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../your_file.txt",
    "..%2fyour_file.txt",
    "%2e%2e/x",
    "a/b",
    "a\\b",
    "/etc/passwd",
    ".hidden",
    "-rf",
    "name.",
    "with space",
    "nul\0byte",
    "line\n",
    "line\r\nbreak",
    "C:evil",
    "con",
    "NUL.txt",
    "ünïcode",
    "\u202ecod.exe",
    "a" * 129,
    "a" * 4096,
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    configure(monkeypatch, SLUICE_STORAGE_DIR=tmp_path / "storage", SLUICE_UPLOAD_BYTES=4096)
    yield tmp_path / "storage"
    settings.cache_clear()


_opened: list[object] | None = None


def _note_opening(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(arguments[0])


@pytest.fixture
def opened() -> Iterator[list[object]]:
    """Every path that Python asks the system to open. A hook stays for good, so it is told when to be silent."""
    global _opened
    sys.addaudithook(_note_opening)
    _opened = []
    yield _opened
    _opened = None


def upload(name: str, content: bytes) -> dict[str, object]:
    return storage.save_upload(name, io.BytesIO(content), 4096)


def contents(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def output(attempt: int = 1, name: str = "x.gz") -> storage.OutputFile:
    return storage.OutputFile(name, task_id=TASK_ID, attempt=attempt)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name)[:24])
def test_hostile_names_are_refused_before_anything_is_opened(name: str, folder: Path) -> None:
    for use in (storage.check_name, storage.open_input, lambda name: upload(name, b"x")):
        with pytest.raises(ValueError, match=r"file name|device"):
            use(name)
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["your_file.txt", "a", "9", "A-b_c.tar.gz", "a..b", "a" * 128, "console.txt"]
)
def test_plain_names_are_taken(name: str) -> None:
    assert storage.check_name(name) == name


@given(st.text(max_size=200))
def test_whatever_is_taken_is_one_component_of_a_path(name: str) -> None:
    try:
        storage.check_name(name)
    except ValueError:
        return
    assert Path("/in", name).parent == Path("/in")
    assert name.isascii() and name.isprintable() and len(name) <= 128


def test_an_upload_is_read_back_and_described(folder: Path) -> None:
    info = upload("a.txt", b"hello\n")
    assert info["size"] == 6
    assert str(info["sha256"]).startswith("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")
    with storage.open_input("a.txt") as file:
        assert file.read() == b"hello\n"
    assert contents(folder / "in") == ["a.txt"]


def test_an_upload_over_the_limit_leaves_nothing(folder: Path) -> None:
    with pytest.raises(storage.TooLarge, match="4,096"):
        upload("big.bin", b"x" * 4097)
    assert contents(folder / "in") == []


def test_an_upload_whose_sender_goes_away_leaves_the_old_file(folder: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise ConnectionResetError
            return super().read(3)

    upload("a.txt", b"old")
    with pytest.raises(ConnectionResetError):
        storage.save_upload("a.txt", Broken(b"newer"), 4096)
    assert (folder / "in" / "a.txt").read_bytes() == b"old"
    assert contents(folder / "in") == ["a.txt"]


def test_an_empty_upload_is_an_empty_file() -> None:
    assert upload("empty", b"")["size"] == 0
    with storage.open_input("empty") as file:
        assert file.read() == b""


def test_a_reader_keeps_the_file_that_an_upload_replaces() -> None:
    upload("a.txt", b"old")
    with storage.open_input("a.txt") as file:
        upload("a.txt", b"new")
        assert file.read() == b"old"


def test_a_missing_file_is_named() -> None:
    with pytest.raises(storage.MissingFile, match=r"absent\.txt"):
        storage.open_input("absent.txt")


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    upload("a.txt", b"x")
    (tmp_path / "secret").write_text("secret")
    (folder / "in" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(storage.NotAFile):
        storage.open_input("link")


def test_an_upload_replaces_a_link_and_not_what_it_points_to(folder: Path, tmp_path: Path) -> None:
    upload("a.txt", b"x")
    (tmp_path / "secret").write_text("secret")
    (folder / "in" / "link").symlink_to(tmp_path / "secret")
    upload("link", b"mine")
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (folder / "in" / "link").is_symlink()


@pytest.mark.timeout(10)
def test_pipes_folders_and_devices_are_refused_without_waiting(folder: Path) -> None:
    upload("a.txt", b"x")
    os.mkfifo(folder / "in" / "pipe")
    (folder / "in" / "folder").mkdir()
    (folder / "in" / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "zero"):
        with pytest.raises(storage.NotAFile, match=name):
            storage.open_input(name)


def test_no_name_opens_anything_outside_the_folder(folder: Path, tmp_path: Path, opened: list[object]) -> None:
    upload("a.txt", b"x")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    names = ("link", "pipe", "nested", "absent")
    (folder / "in" / "link").symlink_to(secret)
    os.mkfifo(folder / "in" / "pipe")
    (folder / "in" / "nested").mkdir()
    opened.clear()
    for name in (*HOSTILE_NAMES, str(secret), "../../secret", *names):
        for use in (storage.open_input, storage.open_output, lambda name: upload(name, b"x")):
            with suppress(ValueError, storage.MissingFile, storage.NotAFile, OSError):
                use(name)
    paths = [Path(os.fsdecode(each)) for each in opened if isinstance(each, str | bytes | os.PathLike)]
    assert paths, "uploads are opened, or nothing is noted here"
    # A plain word is opened relative to the folder's descriptor; everything else is the folder or below it.
    assert {str(path) for path in paths if path.is_absolute() or path.name != str(path)} <= {
        str(each) for each in (folder, folder / "in", folder / "out")
    }
    assert secret.read_text() == "secret"


def test_a_file_over_the_limit_is_not_opened(folder: Path) -> None:
    upload("a.txt", b"x")
    os.truncate(folder / "in" / "a.txt", 1 << 40)
    with pytest.raises(storage.TooLarge, match=r"a\.txt"):
        storage.open_input("a.txt")


def test_refused_files_are_closed_again(folder: Path) -> None:
    upload("a.txt", b"x")
    (folder / "in" / "folder").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(storage.NotAFile):
            storage.open_input("folder")
    assert len(os.listdir("/proc/self/fd")) == before


def test_lists_show_whole_files_only(folder: Path) -> None:
    upload("b.txt", b"12")
    upload("a.txt", b"1")
    (folder / "in" / ".x.part").write_text("half")
    (folder / "in" / "folder").mkdir()
    assert [(file["filename"], file["size"]) for file in storage.list_inputs()] == [
        ("a.txt", 1),
        ("b.txt", 2),
    ]
    assert storage.list_outputs() == []


def test_an_output_is_invisible_until_its_commit(folder: Path) -> None:
    file = output()
    file.write(b"data")
    file.prepare()
    assert storage.list_outputs() == []
    file.commit()
    assert contents(folder / "out") == [f"{TASK_ID}-x.gz"]
    with storage.open_output(f"{TASK_ID}-x.gz") as written:
        assert written.read() == b"data"


@pytest.mark.parametrize("prepared", [False, True])
def test_a_rolled_back_output_leaves_nothing(folder: Path, prepared: bool) -> None:
    file = output()
    file.write(b"data")
    if prepared:
        file.prepare()
    file.rollback()
    file.rollback()
    assert contents(folder / "out") == []


def test_a_full_disk_is_named_and_nothing_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    file = output()
    file.write(b"data")
    with pytest.raises(storage.NoRoom, match="no room left in the storage folder"):
        file.prepare()
    file.rollback()
    assert contents(folder / "out") == []


def test_rolling_back_after_a_commit_keeps_the_file(folder: Path) -> None:
    file = output()
    file.write(b"data")
    file.prepare()
    file.commit()
    file.rollback()
    assert contents(folder / "out") == [f"{TASK_ID}-x.gz"]


def test_an_attempt_killed_before_its_commit_is_cleaned_up_by_the_next(folder: Path) -> None:
    if (child := os.fork()) == 0:
        killed = output(attempt=1)
        killed.write(b"half")
        killed.prepare()
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert contents(folder / "out") == [f".1.{TASK_ID}-x.gz.part"]
    file = output(attempt=2)
    file.write(b"whole")
    file.prepare()
    file.commit()
    assert contents(folder / "out") == [f"{TASK_ID}-x.gz"]


def test_the_sweep_takes_what_nobody_wrote_to_for_long(folder: Path) -> None:
    upload("a.txt", b"x")
    for name in (".old.part", ".new.part"):
        (folder / "in" / name).write_text("half")
    os.utime(folder / "in" / ".old.part", (1, 1))
    assert storage.sweep() == 1
    assert contents(folder / "in") == [".new.part", "a.txt"]
