"""What the parts of one stack share: its folders, its ports, its passwords, and where its databases lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cli.credentials import Credentials
from cli.layout import Layout
from cli.placement import ALL_ON_MARIADB


@dataclass(frozen=True)
class Site:
    layout: Layout
    ports: Mapping[str, int]
    credentials: Credentials
    #: The server of each database.
    databases: Mapping[str, str] = field(default_factory=lambda: ALL_ON_MARIADB)
