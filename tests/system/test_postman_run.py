"""The Postman collection, run by newman against the whole service."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli import newman
from cli.stack import Stack

#: Seconds for all of it, on a machine that has other things to do; on a quiet one it takes some ten.
RUN_SECONDS = 500


@pytest.mark.timeout(RUN_SECONDS + 100)
def test_every_request_of_the_collection_is_answered_as_it_says(stack: Stack, tmp_path: Path) -> None:
    if not newman.is_possible():
        pytest.skip(f"the Postman collection is not run: {newman.NO_NPM}")
    newman.install()
    variables, report = stack.environment(), tmp_path / "report.json"
    done = newman.run(
        variables["SLUICE_URL"],
        variables["SLUICE_API_KEY"],
        *("--color", "off", "--reporters", "cli,json", "--reporter-json-export", str(report)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    asked = [each["item"]["name"] for each in json.loads(report.read_text(encoding="utf-8"))["run"]["executions"]]
    assert list(dict.fromkeys(asked)) == names(json.loads(newman.COLLECTION.read_text(encoding="utf-8")))


def names(collection: dict[str, Any]) -> list[str]:
    return [item["name"] for folder in collection["item"] for item in folder["item"]]
