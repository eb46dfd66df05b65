"""One message's way to the mail server in two steps: everything that may be refused, then the message itself.

    prepare   connect, EHLO, STARTTLS, AUTH, MAIL FROM, RCPT TO for each recipient
    commit    DATA with the message, then its last byte, and the answer to it
    rollback  RSET, QUIT: the server forgets the sender and the recipients

When things fail
  - The server says 5xx: trying again cannot help, PermanentError with its words.
  - It says 4xx, or does not answer before the message is on its way: MailDelayed, which is tried again.
  - It refuses some recipients and takes others: the message goes to the others, and `refused` names the
    rest. Trying again would send it twice to those who have it.
  - The line drops before the last byte, which is the final dot's: the server may not take the message (RFC 5321,
    4.1.1.4), so it is MailDelayed.
  - It drops between the last byte and the answer: nobody knows whether the message was taken. OutcomeUnknown, and
    the task's `if_uncertain` says what follows, because a second mail cannot be taken back. (The Message-ID is the
    same for every attempt, so whoever tries again risks a duplicate that mail programs can tell.)
  - The worker dies: `begin_last_step` notes in the ledger, right before the last byte, that this is such a moment. It
    also asks whether the task is still this attempt's; if not, the message is abandoned without its last byte.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import failpoints
from tasks.retry import OutcomeUnknown, PermanentError

#: Seconds to wait for a connection, and for each answer before the message is sent.
ANSWER_SECONDS = 20.0
#: Seconds to wait for the answer to the message; servers look for spam and viruses before they give it.
VERDICT_SECONDS = 120.0
#: Seconds to wait for the answer to a goodbye, which changes nothing.
PARTING_SECONDS = 2.0

_DEFAULT_PORTS = {"smtp": 25, "smtps": 465}
_STARTTLS_PORT = 587
#: Where an SMTP answer's code begins to mean "go on", "not now" and "never".
_GO_ON, _NOT_NOW, _NEVER = 200, 400, 500


class MailDelayed(Exception):
    """The mail server cannot take the message now."""


@dataclass(frozen=True)
class Server:
    """Where mail is handed in."""

    host: str
    port: int
    #: TLS from the first byte.
    tls: bool = False
    starttls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse(url: str) -> Server:
    """`smtp://[user:password@]host[:port][?starttls=1]`, or `smtps://` for TLS from the first byte.

    ValueError says what is wrong, without the password.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("a mail server's URL is smtp://host:port or smtps://host:port")
    if unknown := options.keys() - {"starttls"}:
        raise ValueError(f"unknown option in the mail server's URL: {', '.join(sorted(unknown))}")
    starttls = options.get("starttls", ["0"])[-1] == "1"
    return Server(
        host=parts.hostname,
        port=parts.port or (_STARTTLS_PORT if starttls else _DEFAULT_PORTS[parts.scheme]),
        tls=parts.scheme == "smtps",
        starttls=starttls and parts.scheme == "smtp",
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


class Delivery:
    """One message to be delivered: a participant of an attempt.

    It writes into `report` what only the server knows: `refused`, `{recipient: the server's words}` for
    those it did not take, `answer`, what it said to the message, and `sent`, which is "uncertain" before that.
    """

    def __init__(
        self,
        server: Server,
        *,
        sender: str,
        recipients: Sequence[str],
        message: bytes,
        report: dict[str, Any],
        begin_last_step: Callable[[], None],
    ) -> None:
        self.server = server
        self.sender = sender
        self.recipients = recipients
        self.message = message
        self.report = report
        self.begin_last_step = begin_last_step
        self._smtp: smtplib.SMTP | None = None

    def prepare(self) -> None:
        with self._translated():
            self._smtp = smtp = self._connect()
            self._secure(smtp)
            self._check("the sender", *smtp.mail(self.sender))
            answers = {recipient: smtp.rcpt(recipient) for recipient in self.recipients}
        refusals = {recipient: answer for recipient, answer in answers.items() if not _is_yes(answer[0])}
        self.report["sent"] = "uncertain"
        self.report["refused"] = {recipient: _words(*answer) for recipient, answer in refusals.items()}
        if len(refusals) == len(answers):
            # The mildest: one that may be taken later is reason enough to try all of them again.
            self._check("every recipient", *min(refusals.values()))

    def commit(self) -> None:
        try:
            code, said = self._send(self._connected())
            self._check("the message", code, said)
            self.report |= {"sent": True, "answer": _words(code, said)}
        finally:
            self._leave()

    def rollback(self) -> None:
        if self._smtp is not None:
            _wait_at_most(PARTING_SECONDS, self._smtp)
            with suppress(smtplib.SMTPException, OSError):
                self._smtp.rset()
            self._leave()

    def _connect(self) -> smtplib.SMTP:
        # A name for EHLO is given, because smtplib would ask the DNS for one and wait.
        name = socket.gethostname()
        host, port = self.server.host, self.server.port
        if self.server.tls:
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(host, port, name, timeout=ANSWER_SECONDS, context=context)
        return smtplib.SMTP(host, port, name, timeout=ANSWER_SECONDS)

    def _secure(self, smtp: smtplib.SMTP) -> None:
        smtp.ehlo_or_helo_if_needed()
        if self.server.starttls:
            smtp.starttls(context=ssl.create_default_context())
            smtp.ehlo()
        if self.server.user:
            try:
                smtp.login(self.server.user, self.server.password)
            except smtplib.SMTPAuthenticationError as error:
                # 5xx, but the operator's to mend: the message itself is not at fault.
                raise MailDelayed(f"the mail server {self.server} refused our login") from error

    def _send(self, smtp: smtplib.SMTP) -> tuple[int, bytes]:
        with self._translated():
            self._check("the message", *smtp.docmd("DATA"))
            _wait_at_most(VERDICT_SECONDS, smtp)
            smtp.send(_quoted(self.message))
        self._begin_last_step(smtp)
        try:
            smtp.send(_END)
            failpoints.reach("f22")
            code, said = smtp.getreply()
            if code < _GO_ON:
                raise smtplib.SMTPException(f"no answer but {_words(code, said)}")
            return code, said
        except (smtplib.SMTPException, OSError) as error:
            raise OutcomeUnknown(
                f"sent to {self.server}, but its answer was lost ({error}): it may have been delivered"
            ) from error

    def _begin_last_step(self, smtp: smtplib.SMTP) -> None:
        try:
            failpoints.reach("f21")
            self.begin_last_step()
        except BaseException:
            # Whatever is said on this line now would be part of the message.
            self._smtp = None
            smtp.close()
            raise

    def _connected(self) -> smtplib.SMTP:
        if self._smtp is None:
            raise RuntimeError("prepare comes before commit")
        return self._smtp

    def _leave(self) -> None:
        """Part politely; what is done is done, so nothing that fails here matters."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            _wait_at_most(PARTING_SECONDS, smtp)
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()
            smtp.close()

    def _check(self, what: str, code: int, said: bytes) -> None:
        if not _is_yes(code):
            kind = PermanentError if code >= _NEVER else MailDelayed
            raise kind(f"the mail server {self.server} refused {what}: {_words(code, said)}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """smtplib's errors become ours, where they enter the house."""
        try:
            yield
        except smtplib.SMTPResponseException as error:
            said = error.smtp_error
            self._check("us", error.smtp_code, said if isinstance(said, bytes) else said.encode())
            raise
        except (smtplib.SMTPException, OSError) as error:
            raise MailDelayed(f"the mail server {self.server} does not answer: {error}") from error


def _wait_at_most(seconds: float, smtp: smtplib.SMTP) -> None:
    if smtp.sock is not None:
        smtp.sock.settimeout(seconds)


def _is_yes(code: int) -> bool:
    return _GO_ON <= code < _NOT_NOW


def _words(code: int, said: bytes) -> str:
    """A server's answer on one line, printable and short."""
    line = " ".join(said.decode("utf-8", "replace").split())
    return f"{code} " + "".join(letter if letter.isprintable() else "?" for letter in line)[:500]


#: Ends the message. Its last byte is what a server waits for before it takes it.
_END = b".\r\n"


def _quoted(message: bytes) -> bytes:
    """The message as DATA carries it, without its end: CRLF, and a dot before a line's first dot."""
    lines = [b"." + line if line.startswith(b".") else line for line in message.splitlines()]
    return b"\r\n".join([*lines, b""])
