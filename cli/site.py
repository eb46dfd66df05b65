"""What the parts of one stack share: its folders, its ports and its passwords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cli.credentials import Credentials
from cli.layout import Layout


@dataclass(frozen=True)
class Site:
    layout: Layout
    ports: Mapping[str, int]
    credentials: Credentials
