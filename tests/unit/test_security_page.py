"""The page that says who may do what names tests that are there, and packages are pinned as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli import bootstrap
from tests.conftest import CHECKOUT

PAGE = (CHECKOUT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
PINS = sorted(CHECKOUT.glob("requirements*.txt"))


def test_every_promise_names_tests_that_are_there() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") == 4]
    promises = [row for row in rows if "`" in row[2] and ".py" in row[2]]
    assert len(promises) > 15
    for against, _, shown in promises:
        files = re.findall(r"`((?:unit|service|system|containers)/\w+\.py)`", shown)
        assert files, against
        code = "".join((CHECKOUT / "tests" / file).read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"`(test_\w+)`", shown):
            assert f"def {name}(" in code, (against, name)


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_every_package_is_pinned_by_its_hash(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pins = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(pins) > 20
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_packages_are_installed_by_their_hashes_only() -> None:
    assert "--require-hashes" in Path(bootstrap.__file__).read_text(encoding="utf-8")
