"""Where a webhook is posted to: the addresses of a name are looked at once, and TLS asks for that name."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.webhooks import sending
from tests import life, receiver, task_types  # noqa: F401  registers the types
from tests.receiver import Receiver
from tests.service.posting import ENDS, deliver, only

Names = Callable[..., list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Gives a name addresses, one after the other; the list of questions."""
    real = socket.getaddrinfo

    def give(name: str, *addresses: str) -> list[str]:
        asked: list[str] = []

        def answer(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
            if host != name:
                return real(host, port, *arguments, **named)
            asked.append(host)
            return real(addresses[min(len(asked), len(addresses)) - 1], port, *arguments, **named)

        monkeypatch.setattr(socket, "getaddrinfo", answer)
        return asked

    return give


def test_a_name_that_leads_inside_is_not_connected_to(
    hook: Receiver, names: Names, configured: Callable[..., None]
) -> None:
    configured(SLUICE_WEBHOOK_NETWORKS="")
    named = f"http://inside.example:{hook.port}/"
    task_id = life.accept(webhook={"url": named, "events": ENDS})
    life.work(task_id)
    names("inside.example", "127.0.0.1")
    deliver()
    [tried] = only(task_id).tries
    assert (tried.error, hook.got) == ("its name leads to an address that is not public", [])


def test_a_name_that_changes_after_the_look_is_asked_for_once(
    hook: Receiver, names: Names, configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is public, each after it is this machine: the connection goes to the first."""
    configured(SLUICE_WEBHOOK_NETWORKS="")
    reached: list[Any] = []

    def connect(address: Any, seconds: float) -> Any:
        reached.append(address[1][0])
        raise ConnectionRefusedError

    monkeypatch.setattr(sending, "_connect", connect)
    task_id = life.accept(webhook={"url": f"http://rebinding.example:{hook.port}/", "events": ENDS})
    life.work(task_id)
    asked = names("rebinding.example", "8.8.8.8", "127.0.0.1")
    deliver()
    assert (reached, len(asked), hook.got) == (["8.8.8.8"], 1, [])


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver with a certificate for `receiver.example`, whose authority this process trusts."""
    certificate = self_signed("receiver.example", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sending._tls.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiver.receiving(context) as found:
        context.sni_callback = lambda connection, name, _: found.names.append(name)
        yield found
    sending._tls.cache_clear()


def self_signed(name: str, folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "receiver.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def tried_at(host: str, port: int) -> Any:
    task_id = life.accept(webhook={"url": f"https://{host}:{port}/", "events": ENDS})
    life.work(task_id)
    deliver()
    [tried] = only(task_id).tries
    return tried


def test_tls_asks_for_the_name_at_the_address_that_was_looked_at(secure: Receiver, names: Names) -> None:
    names("receiver.example", "127.0.0.1")
    tried = tried_at("receiver.example", secure.port)
    assert (tried.error, tried.status) == (None, 204)
    assert secure.names == ["receiver.example"]
    assert secure.got[0].headers["host"] == f"receiver.example:{secure.port}"


def test_a_certificate_of_another_name_is_refused(secure: Receiver, names: Names) -> None:
    names("other.example", "127.0.0.1")
    tried = tried_at("other.example", secure.port)
    assert ("its certificate is not trusted" in tried.error, secure.got) == (True, [])


def test_a_certificate_of_an_unknown_authority_is_refused(
    secure: Receiver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    sending._tls.cache_clear()
    names("receiver.example", "127.0.0.1")
    tried = tried_at("receiver.example", secure.port)
    assert ("its certificate is not trusted" in tried.error, secure.got) == (True, [])
