"""From what went wrong to what is told of it: at the door as problem details, in the ledger without any value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy.exc
from flask import Flask
from flask.testing import FlaskClient
from pydantic import BaseModel, ValidationError
from pymysql.err import IntegrityError as DriverError

import settings
from api import auth, create_app
from api.problems import BadRequest, Forbidden, faults_of
from api.strict_json import BadJson
from ledger import db
from ledger.queries import BadCursor
from tasks import failure
from tasks.catalog import UnknownTaskType
from tasks.retry import PermanentError
from tasks.revoke import UnknownTask
from tasks.storage import MissingFile, NoRoom, NotAFile, TooLarge
from tasks.submit import BadParameters
from tests.recording import configure

CANARY = "canary-7f3a"


class Pet(BaseModel, extra="forbid"):
    name: str
    legs: int = 4


def complaint(**values: Any) -> ValidationError:
    with pytest.raises(ValidationError) as fault:
        Pet.model_validate(values)
    return fault.value


@pytest.fixture
def app() -> Iterator[Flask]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        configure(monkeypatch)
        yield create_app()
    settings.settings.cache_clear()


def answer_to(app: Flask, error: Exception) -> Any:
    @auth.public
    def fail() -> str:
        raise error

    app.add_url_rule("/fail", view_func=fail)
    client: FlaskClient = app.test_client()
    return client.get("/fail", headers={"X-Request-ID": "r-1"})


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BadRequest("#/num", "num must be small"), 422, "num: num must be small"),
        (BadRequest("?limit", "too much", status=400), 400, "?limit: too much"),
        (BadJson("NaN is not JSON"), 400, "NaN is not JSON"),
        (UnknownTaskType("emial", "email", ("email",)), 422, "did you mean 'email'?"),
        (BadParameters(complaint(legs=1), Pet), 422, "parameters/name: name is required"),
        (BadCursor("not a cursor of this list"), 400, "?cursor: not a cursor"),
        (UnknownTask("x"), 404, "no task has the id 'x'"),
        (Forbidden("a prefetch may not change anything"), 403, "prefetch"),
        (MissingFile("there is no file 'a'"), 404, "there is no file 'a'"),
        (NotAFile("'a' is a folder"), 404, "'a' is a folder"),
        (TooLarge("more than 5 bytes"), 413, "more than 5 bytes"),
        (db.Unavailable("the database does not answer (2003)"), 503, "try again"),
        (db.Full("the database's disk is full (1114)"), 503, "disk is full"),
        (NoRoom("no room left in the storage folder for x"), 507, "nothing was kept"),
        (RuntimeError(CANARY), 500, "the log has it under the request id"),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, Exception) else "",
)
def test_every_error_becomes_a_problem_document(error: Exception, status: int, said: str, app: Flask) -> None:
    answer = answer_to(app, error)
    body = answer.get_json()
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert (body["status"], body["instance"], body["request_id"]) == (status, "/fail", "r-1")
    assert said in body["detail"]
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert CANARY not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/livez", 405), ("GET", "/%ff", 404)]
)
def test_flasks_own_errors_are_problems_too(method: str, path: str, status: int, app: Flask) -> None:
    answer = app.test_client().open(path, method=method)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert ("Allow" in answer.headers) == (status == 405)


def test_a_misspelt_field_comes_with_the_one_that_was_meant() -> None:
    [fault] = faults_of(complaint(name="Rex", leg=4), Pet)
    assert fault["pointer"] == "#/leg"
    assert fault["detail"] == "there is no such field, did you mean 'legs'?"
    [fault] = faults_of(complaint(name="Rex", zzzzzz=4), Pet)
    assert fault["detail"] == "there is no such field; known are name, legs"


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (ValueError("x"), False),
        (PermanentError("x"), True),
        (TooLarge("x"), True),
        (NoRoom("x"), False),
        (complaint(legs=1), True),
    ],
)
def test_only_some_errors_are_for_good(error: Exception, permanent: bool) -> None:
    assert failure.describe(error)["permanent"] is permanent


def test_an_error_is_kept_without_the_values_of_its_statement() -> None:
    error = sqlalchemy.exc.IntegrityError(
        f"INSERT INTO people VALUES ('{CANARY}')", {"name": CANARY}, DriverError(1062, "Duplicate entry")
    )
    told = failure.describe(error)
    assert "Duplicate entry" in told["message"]
    assert CANARY not in str(told)
    assert CANARY not in failure.describe(complaint(name="Rex", legs=CANARY))["message"]


def test_a_long_message_is_cut_and_an_empty_one_named() -> None:
    assert len(failure.describe(ValueError("x" * 10_000))["message"]) == failure.MESSAGE_CHARACTERS
    assert failure.describe(KeyError())["message"] == "KeyError"


@pytest.mark.parametrize(
    "error",
    [
        sqlalchemy.exc.OperationalError("SELECT 1", {}, DriverError(2013, "Lost connection")),
        sqlalchemy.exc.OperationalError("SELECT 1", {}, DriverError(1040, "Too many connections")),
        sqlalchemy.exc.InterfaceError("SELECT 1", {}, DriverError(0, ""), connection_invalidated=True),
        sqlalchemy.exc.TimeoutError("QueuePool limit of size 8 overflow 64 reached"),
    ],
    ids=["lost", "too many", "invalidated", "pool"],
)
def test_an_absent_database_has_one_name(error: Exception) -> None:
    with pytest.raises(db.Unavailable), db.translated():
        raise error


@pytest.mark.parametrize("number", [1062, 1205, 1213, 1054])
def test_a_database_that_answers_is_not_absent(number: int) -> None:
    with pytest.raises(sqlalchemy.exc.OperationalError), db.translated():
        raise sqlalchemy.exc.OperationalError("SELECT 1", {}, DriverError(number, "no"))


FULL = [
    (sqlalchemy.exc.OperationalError, 1114, "The table 'data' is full"),
    (sqlalchemy.exc.OperationalError, 1021, "Disk full (/tmp/#sql); waiting for someone to free some space"),
    (sqlalchemy.exc.OperationalError, 1030, 'Got error 28 "No space left on device" from storage engine InnoDB'),
    (sqlalchemy.exc.OperationalError, 1026, 'Error writing file "x" (errno: 28 "No space left on device")'),
    (sqlalchemy.exc.InternalError, 3, "Error writing file './x' (Errcode: 122 \"Disk quota exceeded\")"),
    (sqlalchemy.exc.InternalError, 28, "No space left on device"),
]


@pytest.mark.parametrize(("kind", "code", "said"), FULL, ids=[str(code) for _, code, _ in FULL])
def test_a_full_disk_has_one_name_and_is_told_of(kind: type[Exception], code: int, said: str) -> None:
    error = kind("INSERT", {}, DriverError(code, said))
    with pytest.raises(db.Full), db.translated():
        raise error
    told = failure.describe(error)
    assert told["message"].startswith("no room left on the database's disk: ")
    assert told["permanent"] is False


def test_another_fault_of_a_file_is_no_full_disk() -> None:
    error = sqlalchemy.exc.OperationalError("INSERT", {}, DriverError(1030, "Got error 128 from storage engine"))
    with pytest.raises(sqlalchemy.exc.OperationalError), db.translated():
        raise error
