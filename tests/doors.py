"""The HTTP door in this process, as the holder of some key finds it."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from api import create_app
from ledger import keys
from ledger.callers import Scope

#: Opens everything; the tests' own, there for the whole session.
MASTER = keys.make()


def key(owner: str, *scopes: Scope, **bounds: Any) -> str:
    """A new key, as its owner holds it."""
    secret = keys.make()
    keys.add(secret, owner=owner, scopes=scopes or tuple(Scope), **bounds)
    return secret.words


def door_for(shown: str | None = MASTER.words, app: Flask | None = None) -> FlaskClient:
    """A client that shows this key with every request; None shows none."""
    client = (app or create_app()).test_client()
    if shown is not None:
        client.environ_base["HTTP_X_API_KEY"] = shown
    return client
