"""On what it was measured, in words that another reader can compare with."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

_LIBRARIES = ("celery", "flask", "gunicorn", "sqlalchemy", "pymysql", "dramatiq", "rq", "fastapi", "procrastinate")


def describe(folder: Path) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "sync_us": round(_sync_seconds(folder) * 1e6),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _sync_seconds(folder: Path) -> float:
    """What it takes to have half a kilobyte on the disk."""
    path, taken = folder / "sync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 512)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    return median(taken)
