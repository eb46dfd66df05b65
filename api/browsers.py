"""Keeps a browser from being tricked into changing something: by a link, an image, a prefetch or another site's script.

Browsers say where a request comes from (Fetch Metadata, W3C) and whether it is a mere prefetch; a page cannot forge
these headers. Programs such as curl and Postman send none of them and are let through.
"""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import MethodNotAllowed

from api.problems import Forbidden
from settings import settings

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def refuse_foreign_pages() -> None:
    """Before every request: another site's page may not change anything here."""
    if request.method not in _READING:
        _refuse_if_tricked()


def refuse_unless_meant() -> None:
    """For a route that changes something and may be called by GET, as older clients do."""
    if request.method in _READING:
        if request.method != "GET" or not settings().legacy_get:
            meant = sorted(request.url_rule.methods - _READING) if request.url_rule and request.url_rule.methods else []
            raise MethodNotAllowed(valid_methods=meant, description=f"changes something: use {' or '.join(meant)}")
        _refuse_if_tricked()


def _refuse_if_tricked() -> None:
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        raise Forbidden("a page of another site may not do this")
    purpose = request.headers.get("Sec-Purpose") or request.headers.get("Purpose") or ""
    if "prefetch" in purpose.lower() or "prerender" in purpose.lower():
        raise Forbidden("a prefetch may not change anything")
