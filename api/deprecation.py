"""Tells on each answer of a method that new clients should not use since when that is so, and until when it is there.

Which methods these are, the routes say (`described.describe`), to the OpenAPI document and to us.
"""

from __future__ import annotations

from flask import Flask, Response, request

from api.described import description_of

#: RFC 9745 and RFC 8594.
SINCE = "@1798761600"
UNTIL = "Fri, 31 Dec 2027 23:59:59 GMT"


def register(app: Flask) -> None:
    @app.after_request
    def _(response: Response) -> Response:
        view = app.view_functions.get(request.endpoint or "")
        said = description_of(view) if view else None
        if said and request.method in said.deprecated:
            response.headers["Deprecation"] = SINCE
            response.headers["Sunset"] = UNTIL
        return response
