"""Files over HTTP: up, listed and down again, under plain names only."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.system import disk


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, configured: Callable[..., None]) -> Path:
    configured(SLUICE_STORAGE_DIR=tmp_path / "storage", SLUICE_UPLOAD_BYTES=400_000)
    return tmp_path / "storage"


def upload(door: FlaskClient, name: str, content: bytes = b"a,b\n1,2\n", field: str = "file") -> Any:
    return door.post("/api/files", data={field: (io.BytesIO(content), name)})


def files(storage: Path) -> list[str]:
    return sorted(path.name for path in storage.rglob("*") if path.is_file())


def test_a_file_comes_back_as_it_was_sent(door: FlaskClient, storage: Path) -> None:
    content = bytes(range(256)) * 1_200
    answer = upload(door, "people.csv", content)
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/api/files/people.csv"
    assert (answer.get_json()["filename"], answer.get_json()["size"]) == ("people.csv", len(content))
    down = door.get("/api/files/people.csv")
    assert (down.data, down.mimetype) == (content, "application/octet-stream")
    assert down.headers["Content-Disposition"] == "attachment; filename=people.csv"
    assert files(storage) == ["people.csv"]


def test_files_and_outputs_are_listed(door: FlaskClient, storage: Path) -> None:
    upload(door, "b.txt")
    upload(door, "a.txt")
    (storage / "out").mkdir(exist_ok=True)
    (storage / "out" / "019aa5c0-made.gz").write_bytes(b"made")
    listed = door.get("/api/files").get_json()
    assert [each["filename"] for each in listed["items"]] == ["a.txt", "b.txt"]
    assert [each["filename"] for each in listed["outputs"]] == ["019aa5c0-made.gz"]
    assert door.get("/api/files/out/019aa5c0-made.gz").data == b"made"


def test_a_second_upload_takes_the_firsts_place(door: FlaskClient, storage: Path) -> None:
    upload(door, "a.txt", b"first")
    upload(door, "a.txt", b"second")
    assert door.get("/api/files/a.txt").data == b"second"
    assert files(storage) == ["a.txt"]


@pytest.mark.parametrize(
    "name",
    ["../up.txt", "/etc/passwd", "a/b.txt", "..", ".hidden", "a b", "ü.txt", "x" * 129, "NUL.txt", "a."],
)
def test_a_name_that_leads_anywhere_is_refused(name: str, door: FlaskClient, storage: Path) -> None:
    answer = upload(door, name)
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert answer.get_json()["errors"][0]["pointer"] == "#/file"
    assert files(storage) == []


@pytest.mark.parametrize(
    "name", ["..%2fsettings.py", "%2e%2e", "%2fetc%2fpasswd", ".hidden", "a%00b", "x" * 4_096]
)
@pytest.mark.parametrize("folder", ["", "out/"])
def test_a_download_stays_in_its_folder(name: str, folder: str, door: FlaskClient) -> None:
    answer = door.get(f"/api/files/{folder}{name}")
    assert answer.status_code in (404, 422)
    assert answer.mimetype == "application/problem+json"


def test_a_link_or_a_folder_is_no_file(door: FlaskClient, storage: Path) -> None:
    upload(door, "a.txt")
    (storage / "in" / "link").symlink_to("/etc/passwd")
    (storage / "in" / "folder").mkdir()
    for name in ("link", "folder"):
        answer = door.get(f"/api/files/{name}")
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_a_file_over_the_limit_leaves_nothing(door: FlaskClient, storage: Path) -> None:
    assert upload(door, "fits.bin", b"x" * 400_000).status_code == 201
    for size in (400_001, 600_000):
        answer = upload(door, "big.bin", b"x" * size)
        assert (answer.status_code, answer.mimetype) == (413, "application/problem+json")
    assert files(storage) == ["fits.bin"]


@pytest.mark.parametrize(
    "send", [{"data": {}}, {"data": {"other": "x"}}, {"data": b"raw"}, {"json": {"file": "a.txt"}}]
)
def test_an_upload_without_a_file_is_told_how(send: dict[str, Any], door: FlaskClient, storage: Path) -> None:
    answer = door.post("/api/files", **send)
    assert answer.status_code == 422
    assert "multipart/form-data" in answer.get_json()["detail"]
    assert files(storage) == []


def test_an_upload_for_whose_temporary_copy_there_is_no_room_is_refused(
    door: FlaskClient,
    storage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    configured: Callable[..., None],
) -> None:
    small = 600_000
    configured(SLUICE_UPLOAD_BYTES=10 * small)
    with disk.small(tmp_path / "temporary", small):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
        body = head + bytes(2 * small) + b"\r\n--x--\r\n"
        refused = door.post("/api/files", data=body, content_type="multipart/form-data; boundary=x")
        assert upload(door, "small.txt").status_code == 201
    assert (refused.status_code, refused.mimetype) == (507, "application/problem+json")
    assert "for a temporary copy of the upload" in refused.get_json()["detail"]
    assert files(storage) == ["small.txt"]
