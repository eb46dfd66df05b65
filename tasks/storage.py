"""The storage folder: the one place that names, opens and writes the files that people upload and tasks make.

    <storage>/in    uploads; tasks read them
    <storage>/out   what tasks made, each as <task id>-<name>

A name is one plain word and is opened relative to its folder's descriptor, without following links, so no
name leads out of the folder. A file gets its name only when it is whole and on disk: temporary file, fsync,
rename, fsync of the folder. Temporary names start with a dot, which no valid name does.

When things fail
  - A writer that is stopped or fails removes its temporary file.
  - The disk is full: that is a failure like any other, and named so (`NoRoom`); trying again later may help.
  - A writer that is killed leaves it. The task's next attempt removes those of the attempts before it;
    `sweep` removes what nobody came back for.
  - The rename happened but its answer was lost: the next attempt writes the same name again, with the same
    content.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, BinaryIO, Protocol

from pydantic import AfterValidator, Field

from settings import settings
from tasks.retry import PermanentError

#: Bytes read or written at a time.
CHUNK_BYTES = 1 << 18
#: Characters of a name. An output's name carries a task id and an ending besides, and stays under the
#: system's 255.
NAME_LENGTH = 128
_OUTPUT_NAME_LENGTH = NAME_LENGTH + 64

#: Characters of a task's id, with which the name of an output begins.
_ID_LENGTH = 36

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Names that mean a device to Windows, whatever ending they have: a download would break there.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

_IN, _OUT = "in", "out"
_PART = ".part"


class MissingFile(PermanentError):
    """There is no file of that name in the storage folder."""


class NotAFile(PermanentError):
    """The name belongs to a link, a folder, a pipe or a device, none of which is read."""


class TooLarge(PermanentError):
    """The file has more bytes than are allowed."""


class NoRoom(Exception):
    """A disk that files are written to is full, or the quota on it is used up."""


def check_name(name: str, *, length: int = NAME_LENGTH) -> str:
    """The name itself, if it can be a file's; otherwise ValueError with the rule."""
    if len(name) > length:
        raise ValueError(f"a file name has at most {length} characters")
    if not _PLAIN.fullmatch(name) or name.endswith("."):
        raise ValueError(
            "a file name is one plain word: letters, digits, dots, dashes and underscores, beginning with "
            "a letter or a digit and not ending with a dot; folders and paths are not allowed"
        )
    if _DEVICE.fullmatch(name):
        raise ValueError(f"{name} is the name of a device on Windows; choose another")
    return name


#: A parameter that names an uploaded file; checked at the door, so that a bad name never becomes a task.
FileName = Annotated[
    str,
    Field(
        description="Name of an uploaded file: one plain word, no folders",
        json_schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", "maxLength": NAME_LENGTH},
    ),
    AfterValidator(check_name),
]


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def open_input(name: str) -> BinaryIO:
    """An uploaded file, open for reading; MissingFile, NotAFile, TooLarge or ValueError say what is wrong."""
    return _open(_IN, check_name(name))


def open_output(name: str) -> BinaryIO:
    """A file that a task made, open for reading."""
    return _open(_OUT, check_name(name, length=_OUTPUT_NAME_LENGTH))


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def list_inputs() -> list[dict[str, Any]]:
    """Uploaded files by name: `{filename, size, modified_at}`, the time in seconds since 1970 (UTC)."""
    return _list(_IN)


def list_outputs() -> list[dict[str, Any]]:
    """Files that tasks made, in the same shape as `list_inputs`."""
    return _list(_OUT)


def save_upload(name: str, stream: Readable, max_bytes: int) -> dict[str, Any]:
    """Write a stream as an uploaded file, in place of one that had the name: `{filename, size, sha256}`.

    Readers that have the older file open keep it. Raises TooLarge as soon as the stream is longer than
    `max_bytes`, and leaves nothing then.
    """
    file = _PendingFile(_IN, check_name(name), temporary=f".{secrets.token_hex(16)}{_PART}")
    try:
        while chunk := stream.read(CHUNK_BYTES):
            if file.size + len(chunk) > max_bytes:
                raise TooLarge(f"{name} has more than the allowed {max_bytes:,} bytes")
            file.write(chunk)
        file.prepare()
        file.commit()
    finally:
        file.rollback()
    return file.description


def forget_outputs(task_ids: Collection[str]) -> int:
    """Remove what these tasks made; returns how many files that were."""
    with _opened_folder(_OUT) as descriptor:
        theirs = [name for name in os.listdir(descriptor) if name[:_ID_LENGTH] in task_ids]
        return sum(_remove(name, descriptor) for name in theirs)


def sweep(*, older_than_seconds: float = 86_400) -> int:
    """Remove temporary files that nobody wrote to for so long; returns how many there were."""
    return sum(_sweep(folder, time.time() - older_than_seconds) for folder in (_IN, _OUT))


class _PendingFile:
    """A file being written, a participant: `prepare` puts it on disk, `commit` names it.

    Nothing happens before the first write, so that whoever is to roll it back can be told of it first.
    """

    def __init__(self, folder: str, name: str, *, temporary: str) -> None:
        self.name = name
        self.size = 0
        self._what = f"in the storage folder for {name}"
        self._folder = folder
        self._temporary = temporary
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        with taking_room(self._what):
            self._opened().write(data)
        self._hash.update(data)
        self.size += len(data)

    @property
    def description(self) -> dict[str, Any]:
        """`{filename, size, sha256}` of what was written so far."""
        return {"filename": self.name, "size": self.size, "sha256": self._hash.hexdigest()}

    def prepare(self) -> None:
        with taking_room(self._what), self._opened() as file:
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        with taking_room(self._what), _opened_folder(self._folder) as descriptor:
            os.rename(self._temporary, self.name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            os.fsync(descriptor)

    def rollback(self) -> None:
        """Leave nothing; harmless after a commit and when repeated."""
        if self._file is not None:
            with suppress(OSError):  # a full disk: what could not be flushed is thrown away anyhow
                self._file.close()
        with _opened_folder(self._folder) as descriptor:
            _remove(self._temporary, descriptor)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            with _opened_folder(self._folder) as descriptor:
                self._file = os.fdopen(_create(self._temporary, descriptor), "wb", CHUNK_BYTES)
        return self._file


class OutputFile(_PendingFile):
    """A task's file on its way into `<storage>/out`: make it, hand it to `attempt.join`, then write.

    It replaces a file that an earlier attempt of the task may have made, and removes what earlier attempts
    left half written.
    """

    def __init__(self, name: str, *, task_id: str, attempt: int) -> None:
        name = check_name(f"{task_id}-{name}", length=_OUTPUT_NAME_LENGTH)
        with _opened_folder(_OUT) as descriptor:
            for earlier in range(1, attempt + 1):
                _remove(f".{earlier}.{name}{_PART}", descriptor)
        super().__init__(_OUT, name, temporary=f".{attempt}.{name}{_PART}")


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def taking_room(what: str) -> Iterator[None]:
    """What is written in here may not fit."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise NoRoom(f"no room left {what}: {error.strerror}") from error


@contextmanager
def _opened_folder(folder: str) -> Iterator[int]:
    path = settings().storage_dir / folder
    path.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(folder: str, name: str) -> BinaryIO:
    # O_NONBLOCK: opening a pipe that has no writer would wait for one, for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _opened_folder(folder) as folder_descriptor:
        try:
            descriptor = os.open(name, flags, dir_fd=folder_descriptor)
        except FileNotFoundError as error:
            raise MissingFile(f"there is no file {name} in the storage folder") from error
        except OSError as error:
            raise NotAFile(f"{name} cannot be read: {error.strerror}") from error
    try:
        _refuse_unreadable(os.fstat(descriptor), name)
    except PermanentError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb", CHUNK_BYTES)


def _refuse_unreadable(found: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotAFile(f"{name} is not a regular file")
    if found.st_size > settings().upload_bytes:
        raise TooLarge(f"{name} has {found.st_size:,} bytes; at most {settings().upload_bytes:,} are read")


def _create(name: str, folder_descriptor: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o640, dir_fd=folder_descriptor)


def _remove(name: str, folder_descriptor: int) -> bool:
    try:
        os.unlink(name, dir_fd=folder_descriptor)
    except FileNotFoundError:
        return False
    return True


def _list(folder: str) -> list[dict[str, Any]]:
    with _opened_folder(folder) as descriptor, os.scandir(descriptor) as entries:
        files = [
            (entry.name, entry.stat(follow_symlinks=False))
            for entry in entries
            if _PLAIN.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        ]
    return [
        {"filename": name, "size": found.st_size, "modified_at": found.st_mtime}
        for name, found in sorted(files)
    ]


def _sweep(folder: str, before: float) -> int:
    with _opened_folder(folder) as descriptor:
        parts = [name for name in os.listdir(descriptor) if name.startswith(".") and name.endswith(_PART)]
        return sum(_remove(name, descriptor) for name in parts if _is_older(name, before, descriptor))


def _is_older(name: str, before: float, folder_descriptor: int) -> bool:
    try:
        return os.stat(name, dir_fd=folder_descriptor, follow_symlinks=False).st_mtime < before
    except FileNotFoundError:  # its writer has just named or removed it
        return False
