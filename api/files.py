"""`/api/files`: upload what file and import tasks work on, and download what they made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from flask import Blueprint, Response, jsonify, request, send_file

from api import answers, auth
from api.described import Media, describe
from api.problems import BadRequest
from ledger import queries
from ledger.callers import Scope
from settings import settings
from tasks import storage
from tasks.storage import MissingFile

#: Characters of a task's id.
_ID_LENGTH = 36

blueprint = Blueprint("files", __name__, url_prefix="/api/files")

_FORM = Media(
    "multipart/form-data",
    {
        "type": "object",
        "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
        "required": ["file"],
    },
)
_ANY_FILE = Media("application/octet-stream")


@blueprint.post("")
@describe({201: answers.Uploaded}, body=_FORM, faults=(400, 413, 422, 507), needs_ledger=False)
@auth.needs(Scope.WRITE)
def upload() -> Response:
    """Store a file: multipart form data with a field `file`, whose file name becomes its name."""
    limit = settings().upload_bytes
    # Room for the form around the file; the file itself is counted while it is written.
    request.max_content_length = limit + 65_536
    # A body of some size is put into a temporary file first, wherever the system keeps those.
    with storage.taking_room("for a temporary copy of the upload"):
        sent = request.files.get("file")
    if sent is None or not sent.filename:
        raise BadRequest("#/file", "send multipart/form-data with a field 'file', as curl -F file=@people.csv does")
    try:
        storage.check_name(sent.filename)
    except ValueError as error:
        raise BadRequest("#/file", str(error)) from None
    saved = storage.save_upload(sent.filename, sent.stream, limit)
    response = jsonify(saved | {"links": {"self": f"/api/files/{sent.filename}"}})
    response.status_code = 201
    response.headers["Location"] = f"/api/files/{sent.filename}"
    return response


@blueprint.get("")
@describe({200: answers.Files}, needs_ledger=False)
@auth.needs(Scope.READ)
def index() -> Response:
    """What can be worked on, and what was made."""
    return jsonify({"items": storage.list_inputs(), "outputs": _seen(storage.list_outputs())})


@blueprint.get("/<name>")
@describe({200: _ANY_FILE}, faults=(422,), needs_ledger=False)
@auth.needs(Scope.READ)
def download(name: str) -> Response:
    """An uploaded file."""
    return _sent(name, storage.open_input)


@blueprint.get("/out/<name>")
@describe({200: _ANY_FILE}, faults=(422,), needs_ledger=False)
@auth.needs(Scope.READ)
def download_output(name: str) -> Response:
    """A file that a task made; its name is in the task's result."""
    if not _seen([{"filename": name}]):
        raise MissingFile(f"there is no file {name[:200]} in the storage folder")
    return _sent(name, storage.open_output)


def _seen(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The files that tasks of the caller made: a name begins with its task's id."""
    ids = {each["filename"][:_ID_LENGTH] for each in outputs}
    mine = queries.seen_of(ids, caller=auth.caller())
    return [each for each in outputs if each["filename"][:_ID_LENGTH] in mine]


def _sent(name: str, open_file: Callable[[str], BinaryIO]) -> Response:
    try:
        file: BinaryIO = open_file(name)
    except ValueError as error:
        raise BadRequest("#/name", str(error)) from None
    # As an attachment of no particular type: an uploaded page must not run as one of ours.
    return send_file(file, mimetype="application/octet-stream", as_attachment=True, download_name=name)
