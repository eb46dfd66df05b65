"""Which URLs a webhook may have, and which addresses are connected to: one table for each, however it is spelt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

import settings
from tasks.webhooks import destination
from tasks.webhooks.destination import BadUrl, Refused
from tests.recording import configure

Configured = Callable[..., None]


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configured]:
    def change(**variables: str) -> None:
        usual = {"SLUICE_WEBHOOK_SCHEMES": "https", "SLUICE_WEBHOOK_PORTS": "443,80", "SLUICE_WEBHOOK_NETWORKS": ""}
        configure(monkeypatch, **usual | variables)

    change()
    yield change
    monkeypatch.undo()
    settings.settings.cache_clear()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM/Hooks?x=Y", "https://example.com/Hooks?x=Y"),
        ("https://example.com:443/", "https://example.com/"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("https://xn--bcher-kva.example/%C3%BC", "https://xn--bcher-kva.example/%C3%BC"),
        ("https://example.com?a=b", "https://example.com/?a=b"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:0:0::1111]/", "https://[2606:4700::1111]/"),
    ],
)
def test_a_url_is_kept_in_its_one_spelling(url: str, kept: str) -> None:
    assert destination.parse(url).url == kept


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "must be a URL"),
        ("example.com/hook", "must be a URL"),
        ("http://example.com/", "must begin with https://"),
        ("ftp://example.com/", "must begin with https://"),
        ("file:///etc/passwd", "must be a URL"),
        ("gopher://example.com:70/_x", "must begin with"),
        ("https://user@example.com/", "user or a password"),
        ("https://user:secret@example.com/", "user or a password"),
        ("https://example.com:secret@127.0.0.1/", "user or a password"),
        ("https://example.com/#x", "fragment"),
        ("https://exämple.com/", "ASCII"),
        ("https://example.com\\@127.0.0.1/", "user or a password"),
        ("https://example.com\\.evil.org/", "must be a URL"),
        ("https://example.com /", "must be a URL"),
        ("https://example.com/a b", "must be a URL"),
        ("https://example.com/a\r\nX: y", "must be a URL"),
        ("https://example.com/\x00", "must be a URL"),
        ("https:///path", "must be a URL"),
        ("https://example.com:8443/", "port 8443"),
        ("https://example.com:0/", "port 0"),
        ("https://example.com:99999/", "port 99999"),
        ("https://example.com:4 43/", "must be a URL"),
        ("https://-example.com/", "no host name"),
        ("https://example..com/", "no host name"),
        ("https://example.com./", "no host name"),
        (f"https://{'a' * 64}.com/", "no host name"),
        (f"https://{'a.' * 130}com/", "no host name"),
        (f"https://example.com/{'x' * 2048}", "at most 2,048"),
    ],
)
def test_what_is_no_plain_url_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(BadUrl, match=said):
        destination.parse(url)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0177.0.0.1", "0177.1", "017700000001", "0x7f.0.0.1"),
        *("0x7f000001", "0x7f.1", "127.0.0.1.", "0", "0.0.0.0", "1", "00", "0x0", "127.0.0.0x1", "256.256.256.256"),
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "2852039166", "100.64.0.1", "198.18.0.1"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1"),
        *("localhost", "LOCALHOST", "localhost.", "a.localhost", "localhost.localhost"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]"),
        *("[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]"),
        *("[5f00::1]", "[3fff::1]", "[100::1]", "[2001:db8::1]", "[fe80::1%25lo]", "[::ffff:169.254.169.254]"),
        *("[1.2.3.4]", "[localhost]", "[]", "①②⑦.⓪.⓪.①", "127。0。0。1"),
    ],
)
def test_no_spelling_of_an_inner_address_is_taken(host: str) -> None:
    with pytest.raises(BadUrl):
        destination.parse(f"https://{host}/")


@pytest.mark.parametrize(
    ("addresses", "refused"),
    [
        (["8.8.8.8", "2606:4700::1111"], None),
        (["::ffff:8.8.8.8"], None),
        (["8.8.8.8", "127.0.0.1"], "127.0.0.1"),
        (["2606:4700::1111", "fd00::1"], "fd00::1"),
        (["169.254.169.254"], "169.254.169.254"),
        (["fe80::1%eth0"], "fe80::1%eth0"),
        (["::ffff:10.0.0.1"], "::ffff:10.0.0.1"),
        (["64:ff9b::a00:1"], "64:ff9b::a00:1"),
        (["2002:a00:1::"], "2002:a00:1::"),
        (["224.0.0.251"], "224.0.0.251"),
    ],
)
def test_one_inner_address_of_a_name_is_one_too_many(addresses: list[str], refused: str | None) -> None:
    if refused is None:
        assert destination.checked(addresses) == addresses
    else:
        with pytest.raises(Refused, match=refused.replace("%", "%")):
            destination.checked(addresses)


def test_what_the_operator_allows_is_reached_and_nothing_beside_it(configured: Configured) -> None:
    configured(
        SLUICE_WEBHOOK_SCHEMES="https,http",
        SLUICE_WEBHOOK_PORTS="80,8000-8001",
        SLUICE_WEBHOOK_NETWORKS="127.0.0.0/8, 10.1.0.0/16",
    )
    for url in ("http://127.0.0.1:8000/", "http://localhost:8001/", "https://10.1.2.3:80/", "http://[::ffff:7f00:1]/"):
        destination.parse(url)
    for url in ("http://127.0.0.1:8002/", "http://10.2.0.1/", "http://[::1]/", "http://2130706433/"):
        with pytest.raises(BadUrl):
            destination.parse(url)
    assert not destination.may_reach(ip_address("169.254.169.254"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SLUICE_WEBHOOK_SCHEMES", "ftp"),
        ("SLUICE_WEBHOOK_PORTS", "https"),
        ("SLUICE_WEBHOOK_PORTS", "0"),
        ("SLUICE_WEBHOOK_PORTS", "1-70000"),
        ("SLUICE_WEBHOOK_PORTS", "90-80"),
        ("SLUICE_WEBHOOK_NETWORKS", "10.0.0.1/8"),
        ("SLUICE_WEBHOOK_NETWORKS", "home"),
    ],
)
def test_a_wrong_setting_is_told_at_boot(variable: str, value: str, configured: Configured) -> None:
    configured(**{variable: value})
    with pytest.raises(settings.SettingsError, match=variable):
        settings.load()
