"""Messages handed to a real SMTP server, which takes, refuses, delays or drops them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from settings import settings
from tasks.retry import OutcomeUnknown, PermanentError
from tasks.types.email import EmailSending, send
from tasks.work import mail
from tests.recording import TASK_ID, RecordingAttempt, configure
from tests.service.mailbox import WHERE, Mailbox, free_port


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def url(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    def login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login, data.password) == (b"me", b"right"), handled=False)

    controller = Controller(mailbox, **WHERE, port=free_port(), authenticator=login, auth_require_tls=False)
    controller.start()
    url = f"127.0.0.1:{controller.port}"
    configure(monkeypatch, SMTP_URL=f"smtp://{url}", MAIL_FROM="Sluice <sluice@example.org>")
    yield url
    controller.stop()
    settings.cache_clear()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (path := tmp_path / "localhost.pem").write_bytes(made.public_bytes(pem) + private)
    return path


@pytest.fixture(params=["starttls", "smtps"])
def tls_url(
    request: pytest.FixtureRequest, mailbox: Mailbox, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A server that speaks TLS only, after STARTTLS or from the first byte."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port = free_port()
    if request.param == "smtps":
        controller = Controller(mailbox, **WHERE, port=port, ssl_context=context)
        url = f"smtps://localhost:{port}"
    else:
        controller = Controller(mailbox, **WHERE, port=port, tls_context=context, require_starttls=True)
        url = f"smtp://localhost:{port}?starttls=1"
    controller.start()
    configure(monkeypatch, SMTP_URL=url)
    yield url
    controller.stop()
    settings.cache_clear()


def begin(**parameters: Any) -> tuple[RecordingAttempt, dict[str, Any]]:
    attempt = RecordingAttempt()
    return attempt, send(attempt, EmailSending.model_validate({"to": "recipient@example.com", **parameters}))


def finish(**parameters: Any) -> dict[str, Any]:
    attempt, result = begin(**parameters)
    attempt.succeed()
    return result


@pytest.mark.usefixtures("url")
def test_the_example_body_is_delivered_once(mailbox: Mailbox) -> None:
    assert finish() == {
        "sent": True,
        "to": "recipient@example.com",
        "message_id": f"<{TASK_ID}@example.org>",
        "refused": {},
        "answer": "250 queued as 42",
    }
    [envelope] = mailbox.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("sluice@example.org", ["recipient@example.com"])


@pytest.mark.usefixtures("url")
def test_nothing_is_sent_before_the_decision(mailbox: Mailbox) -> None:
    attempt, _ = begin()
    attempt.prepare()
    assert mailbox.envelopes == []
    attempt.undo()
    assert (mailbox.envelopes, mailbox.resets) == ([], 1)


@pytest.mark.usefixtures("url")
def test_a_message_arrives_as_it_was_written(mailbox: Mailbox) -> None:
    finish(body=".\n..\nFrom here\n" + "ü" * 2_000, html="<p>.</p>", subject="Grüße")
    content = mailbox.envelopes[0].content
    assert isinstance(content, bytes)
    message = message_from_bytes(content, policy=policy.default)
    assert message["Subject"] == "Grüße"
    text = message.get_body(("plain",))
    assert text is not None
    assert text.get_content().splitlines() == [".", "..", "From here", "ü" * 2_000]


@pytest.mark.usefixtures("url")
def test_each_recipient_is_one_in_the_envelope(mailbox: Mailbox) -> None:
    finish(to=["a@example.com", "b@example.com", "a@example.com"], cc="c@example.com")
    assert mailbox.envelopes[0].rcpt_tos == ["a@example.com", "b@example.com", "c@example.com"]


@pytest.mark.usefixtures("url")
def test_recipients_that_are_refused_beside_others_are_reported(mailbox: Mailbox) -> None:
    mailbox.answers["b@example.com"] = "550 no such user"
    result = finish(to=["a@example.com", "b@example.com"])
    assert result["refused"] == {"b@example.com": "550 no such user"}
    assert mailbox.envelopes[0].rcpt_tos == ["a@example.com"]


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize(
    ("key", "what"), [("MAIL", "the sender"), ("recipient@example.com", "every recipient")]
)
def test_a_refusal_for_good_is_permanent_and_quotes_the_server(mailbox: Mailbox, key: str, what: str) -> None:
    mailbox.answers[key] = "550 5.1.1 we do not know them"
    attempt, _ = begin()
    with pytest.raises(PermanentError, match=f"refused {what}: 550 5.1.1 we do not know them"):
        attempt.prepare()
    attempt.undo()


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("key", ["MAIL", "recipient@example.com"])
def test_a_refusal_for_now_is_tried_again(mailbox: Mailbox, key: str) -> None:
    mailbox.answers[key] = "451 greylisted"
    attempt, _ = begin()
    with pytest.raises(mail.MailDelayed, match="451 greylisted"):
        attempt.prepare()
    attempt.undo()


@pytest.mark.usefixtures("url")
def test_one_recipient_delayed_and_one_refused_is_tried_again(mailbox: Mailbox) -> None:
    mailbox.answers |= {"a@example.com": "550 no", "b@example.com": "450 later"}
    attempt, _ = begin(to=["a@example.com", "b@example.com"])
    with pytest.raises(mail.MailDelayed, match="450 later"):
        attempt.prepare()


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize(
    ("verdict", "error"),
    [("554 spam", PermanentError), ("452 disk full", mail.MailDelayed), ("drop", OutcomeUnknown)],
)
def test_the_servers_verdict_on_the_message_counts(
    mailbox: Mailbox, verdict: str, error: type[Exception]
) -> None:
    mailbox.verdict = verdict
    attempt, result = begin()
    with pytest.raises(error):
        attempt.succeed()
    assert "answer" not in result
    assert result["sent"] == "uncertain"


def test_a_server_that_is_not_there_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, SMTP_URL=f"smtp://127.0.0.1:{free_port()}")
    attempt, _ = begin()
    with pytest.raises(mail.MailDelayed, match="does not answer"):
        attempt.prepare()
    attempt.undo()
    settings.cache_clear()


@pytest.mark.timeout(20)
def test_a_server_that_never_greets_does_not_hold_us_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configure(monkeypatch, SMTP_URL=f"smtp://127.0.0.1:{silent.getsockname()[1]}")
        attempt, _ = begin()
        with pytest.raises(mail.MailDelayed, match="timed out"):
            attempt.prepare()
    settings.cache_clear()


@pytest.mark.timeout(20)
def test_a_server_that_speaks_nonsense_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-nonsense\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        configure(monkeypatch, SMTP_URL=f"smtp://127.0.0.1:{listener.getsockname()[1]}")
        attempt, _ = begin()
        with pytest.raises(mail.MailDelayed):
            attempt.prepare()
        thread.join()
    settings.cache_clear()


def test_a_login_is_made_when_the_url_has_one(
    url: str, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, SMTP_URL=f"smtp://me:right@{url}")
    finish()
    assert len(mailbox.envelopes) == 1


def test_a_refused_login_is_tried_again_and_keeps_its_secret(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, SMTP_URL=f"smtp://me:wrong-secret@{url}")
    attempt, _ = begin()
    with pytest.raises(mail.MailDelayed, match="refused our login") as refusal:
        attempt.prepare()
    assert "wrong-secret" not in str(refusal.value)


@pytest.mark.usefixtures("tls_url")
def test_a_message_goes_through_tls_when_the_url_says_so(
    mailbox: Mailbox, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    finish()
    assert len(mailbox.envelopes) == 1


@pytest.mark.usefixtures("tls_url")
def test_a_certificate_that_nobody_vouches_for_is_not_trusted(mailbox: Mailbox) -> None:
    attempt, _ = begin()
    with pytest.raises(mail.MailDelayed, match="certificate"):
        attempt.prepare()
    assert mailbox.envelopes == []


def test_starttls_is_not_given_up_silently(
    url: str, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, SMTP_URL=f"smtp://{url}?starttls=1")
    attempt, _ = begin()
    with pytest.raises(mail.MailDelayed, match="STARTTLS"):
        attempt.prepare()
    assert mailbox.envelopes == []
