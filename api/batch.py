"""Checks the tasks of a batch one by one, so that the client learns of all their faults at once."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from api import schemas
from api.answers import Fault
from api.problems import Invalid, faults_in, faults_of
from ledger.acceptance import NewTask
from ledger.callers import Caller
from tasks import submit
from tasks.catalog import UnknownTaskType
from tasks.submit import BadParameters

#: Faults that are told of one batch.
MOST_FAULTS = 100


def checked(body: schemas.BatchBody, *, caller: Caller) -> list[NewTask]:
    """The tasks that would be written down. Raises Invalid with the faults of all of them, up to a bound."""
    found: list[NewTask] = []
    faults: list[Fault] = []
    for number, given in enumerate(body.tasks):
        try:
            found.append(_checked(given, caller=caller))
        except ValidationError as error:
            faults += faults_of(error, schemas.SubmitBody, f"#/tasks/{number}")
        except (UnknownTaskType, BadParameters) as error:
            faults += faults_in(error, f"#/tasks/{number}")
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise Invalid(faults[:MOST_FAULTS])
    return found


def _checked(given: dict[str, Any], *, caller: Caller) -> NewTask:
    return submit.check(schemas.SubmitBody.model_validate(given).submission(), caller=caller)
