"""`/openapi.json`, and Swagger UI at `/docs`, all of it from our own files: it works without a network."""

from __future__ import annotations

from importlib.resources import files

from flask import Blueprint, Response, current_app, json, send_from_directory
from werkzeug.exceptions import NotFound

from api import answers, auth, openapi, served
from api.described import Media, describe

blueprint = Blueprint("docs", __name__)

_OURS = str(files("api") / "pages")
#: As its makers built it.
_SWAGGER_UI = str(files("flask_swagger_ui") / "dist")
_FILES = {
    "docs.css": _OURS,
    "docs.js": _OURS,
    "favicon-32x32.png": _SWAGGER_UI,
    "swagger-ui.css": _SWAGGER_UI,
    "swagger-ui-bundle.js": _SWAGGER_UI,
}
_KEPT_SECONDS = 3_600

#: Nothing from elsewhere, and no script but these files: whoever gets a word into the page gets no script into it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@blueprint.get("/openapi.json")
@describe({200: answers.Document}, needs_ledger=False)
@auth.public
def document() -> Response:
    """What this service takes and answers, as OpenAPI 3.1."""
    made = current_app.extensions.get("openapi")
    if made is None:
        made = current_app.extensions["openapi"] = json.dumps(openapi.document(current_app))
    return Response(made, content_type="application/json")


@blueprint.get("/docs")
@describe({200: Media("text/html"), 308: None}, needs_ledger=False)
@auth.public
def page() -> Response:
    """Read this document, and try it out."""
    return served.page(_OURS, "docs.html", policy=POLICY)


@blueprint.get("/docs/<page_file>")
@describe({200: Media("*/*")}, needs_ledger=False)
@auth.public
def page_file(page_file: str) -> Response:
    """A script, style or picture of that page."""
    folder = _FILES.get(page_file)
    if folder is None:
        raise NotFound
    return send_from_directory(folder, page_file, max_age=_KEPT_SECONDS)
