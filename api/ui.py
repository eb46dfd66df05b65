"""`/ui`: a page that shows how the service does, and one task from end to end. It is a client like any other.

Plain HTML, CSS and ES modules from `api/pages/ui`, without a build and without anything from elsewhere. The page itself
is public and tells nothing: what it shows it asks of the API, with the key that its user types in.
"""

from __future__ import annotations

import os
from importlib.resources import files

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from api import auth, served
from api.described import Media, describe

blueprint = Blueprint("ui", __name__)

_FOLDER = str(files("api") / "pages" / "ui")
_PAGE = "ui.html"
_FILES = frozenset(os.listdir(_FOLDER)) - {_PAGE}

#: No script or style but these files, and no way from a text to markup at all (Trusted Types, in browsers that have
#: them): parameters, errors and remarks of tasks are written by whoever submits them.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@blueprint.get("/ui")
@describe({200: Media("text/html"), 308: None}, needs_ledger=False)
@auth.public
def page() -> Response:
    """See how the service does, look into a task, stop it, try it again."""
    return _for_here(served.page(_FOLDER, _PAGE, policy=POLICY))


@blueprint.get("/ui/<page_file>")
@describe({200: Media("*/*")}, needs_ledger=False)
@auth.public
def page_file(page_file: str) -> Response:
    """A script, style or picture of that page."""
    if page_file not in _FILES:
        raise NotFound
    return _for_here(served.part(_FOLDER, page_file, policy=POLICY))


def _for_here(response: Response) -> Response:
    """Its files are asked for anew each time, by their ETags: modules of two versions would not fit together."""
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
