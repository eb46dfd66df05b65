"""Serves a page that people look at, as `/docs` and `/ui` are, under its own policy."""

from __future__ import annotations

from flask import Response, redirect, request, send_from_directory


def page(folder: str, name: str, *, policy: str) -> Response:
    """The page, or the way to it where a slash was put behind its address: what the page names beside itself would be
    looked for one folder too deep."""
    if request.path.endswith("/"):
        return redirect(f"../{request.path.split('/')[-2]}", code=308)  # type: ignore[return-value]
    return part(folder, name, policy=policy)


def part(folder: str, name: str, *, policy: str) -> Response:
    """A page, or a file that belongs to one."""
    response = send_from_directory(folder, name)
    response.headers["Content-Security-Policy"] = policy
    return response
