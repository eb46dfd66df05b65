"""Where a webhook may be: which URLs are taken, and which addresses may be connected to.

A client names a URL and we send a request there, from inside the network. So that nobody reaches through us what he
cannot reach himself (SSRF), a URL has one plain form, a name is resolved once and every address of it has to be public,
and the connection goes to the very address that was looked at (`sending`), so that a name which resolves otherwise a
moment later changes nothing.

What is refused here although a browser would take it: user and password, an IPv4 address in any form but four decimal
numbers (`http://2130706433`, `0x7f.1`), characters that parsers disagree about, and ports that the operator has not
named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from settings import Network, settings

#: The longest URL that is taken.
LONGEST_URL = 2_048

_PORTS = {"http": 80, "https": 443}
#: The whole of a URL in the characters of RFC 3986, less user, password and fragment.
_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_SCHEME_AND_HOST = re.compile(r"[A-Za-z]+://[^/?#]*")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: A last label by which resolvers take the whole for an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_HOST = 253

#: The global unicast addresses of IPv6; and what of them leads to somewhere else, or means somebody's own.
_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4: has an IPv4 address in it
        "2001:db8::/32",
        "3fff::/20",  # both for documentation
    )
)


class BadUrl(ValueError):
    """A webhook's URL is not one that is taken; the message says why."""


class Refused(Exception):
    """An address that nothing may be sent to."""


@dataclass(frozen=True)
class Destination:
    scheme: str
    #: A name, or an address without its brackets.
    host: str
    port: int
    #: Path and query.
    target: str

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse(url: str) -> Destination:
    """What a URL says, if it is one that is taken. Raises BadUrl. No name is resolved."""
    if len(url) > LONGEST_URL:
        raise BadUrl(f"a URL may have at most {LONGEST_URL:,} characters")
    found = _URL.fullmatch(_SCHEME_AND_HOST.sub(lambda begins: begins[0].lower(), url, count=1))
    if found is None:
        raise BadUrl(_why_not(url))
    scheme = found["scheme"]
    allowed = settings().webhook_schemes
    if scheme not in allowed:
        raise BadUrl(f"must begin with {' or '.join(f'{each}://' for each in allowed)}")
    port = int(found["port"] or _PORTS[scheme])
    if not any(port in ports for ports in settings().webhook_port_ranges):
        raise BadUrl(f"port {port} is none that webhooks may have; allowed: {', '.join(settings().webhook_ports)}")
    host = _checked(found["host"])
    return Destination(scheme, host, port, (found["path"] or "/") + (found["query"] or ""))


def _why_not(url: str) -> str:
    if "@" in url.partition("://")[2].partition("/")[0]:
        return "a URL with a user or a password is not taken"
    if "#" in url:
        return "a URL with a #fragment is not taken: it would not be sent"
    if not url.isascii():
        return "write the URL in ASCII: the host as xn--..., other characters as %XX"
    return "must be a URL such as https://example.com/hooks/sluice"


def _checked(host: str) -> str:
    """The host, if it is a name or an address in its one form."""
    bare = host.strip("[]")
    labels = bare.split(".")
    if host.startswith("[") or _NUMBER.fullmatch(labels[-1] or labels[0]):
        try:
            address = IPv6Address(bare) if host.startswith("[") else IPv4Address(bare)
        except ValueError:
            raise BadUrl(f"{host} is no address; write IPv4 as four decimal numbers, IPv6 in [brackets]") from None
        if not may_reach(address):
            raise BadUrl(f"{host} is no public address")
        return str(address)
    if len(bare) > _LONGEST_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise BadUrl(f"{host} is no host name")
    if labels[-1] == "localhost" and not may_reach(IPv4Address("127.0.0.1")):
        raise BadUrl(f"{host} is this machine")
    return bare


def checked(addresses: Iterable[str]) -> list[str]:
    """The addresses of a name, if all of them may be connected to. Raises Refused: also one among others is a trap."""
    found = list(dict.fromkeys(addresses))
    for each in found:
        # A scope such as fe80::1%eth0 belongs to an address that is no public one anyway.
        if "%" in each or not may_reach(ip_address(each)):
            raise Refused(each)
    return found


def may_reach(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is public, or the operator allows it."""
    meant = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    return _is_public(meant) or any(_holds(network, meant) for network in settings().webhook_private_networks)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if any(_holds(network, address) for network in _NOT_PUBLIC):
        return False
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    # Python counts multicast as global.
    return address.is_global and not address.is_multicast


def _holds(network: Network, address: IPv4Address | IPv6Address) -> bool:
    return network.version == address.version and address in network
