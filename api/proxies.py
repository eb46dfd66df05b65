"""Whom a request comes from when proxies stand between: those that the operator named are believed, nobody else.

A wrong key is counted for the address that it came from. Without this, all clients behind a proxy have one address, and
one of them keeps the others out; believed from everybody, `X-Forwarded-For` would let each guess for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from settings import Network


class Believed:
    """The application, to which a request that comes by one of these proxies comes from whom the proxy has seen."""

    def __init__(self, application: WSGIApplication, proxies: Collection[Network]) -> None:
        self._application, self._proxies = application, proxies

    def __call__(self, request: WSGIEnvironment, start_response: StartResponse, /) -> Iterable[bytes]:
        request["REMOTE_ADDR"] = self._seen(request.get("REMOTE_ADDR", ""), request.get("HTTP_X_FORWARDED_FOR", ""))
        return self._application(request, start_response)

    def _seen(self, address: str, forwarded: str) -> str:
        """Each proxy appends whom it has seen: what stands before the first one that we do not know, he made up."""
        told = [word.strip() for word in forwarded.split(",") if word.strip()]
        while told and self._is_known(address):
            address = told.pop()
        return address

    def _is_known(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self._proxies)
        except ValueError:  # a socket of the file system has no address
            return False
