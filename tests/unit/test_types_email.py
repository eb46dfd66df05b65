"""Whom email_sending writes to, and what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from settings import settings
from tasks.types.email import EmailSending, check_address, compose, text_of
from tasks.work import mail
from tests.recording import TASK_ID, configure


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    configure(monkeypatch)
    yield
    monkeypatch.undo()
    settings.cache_clear()


def sent(**parameters: Any) -> EmailMessage:
    """The message as its receiver reads it."""
    composed = compose(TASK_ID, "Sluice <sluice@example.org>", EmailSending.model_validate(parameters))
    received = message_from_bytes(composed.as_bytes(), policy=policy.default)
    assert isinstance(received, EmailMessage)
    return received


def part(message: EmailMessage, subtype: str) -> str:
    found = message.get_body((subtype,))
    assert isinstance(found, EmailMessage)
    return str(found.get_content()).replace("\r\n", "\n")


def test_the_example_body_makes_a_whole_message() -> None:
    message = sent(to="recipient@example.com")
    assert message["To"] == "recipient@example.com"
    assert message["From"] == "Sluice <sluice@example.org>"
    assert message["Subject"] and message["Date"] and message.get_content()


def test_every_attempt_has_the_same_message_id() -> None:
    ids = {sent(to="a@example.com")["Message-ID"] for _ in range(3)}
    assert ids == {f"<{TASK_ID}@example.org>"}


def test_text_and_html_stand_side_by_side() -> None:
    message = sent(to="a@example.com", subject="Grüße 🎉", body="Tschüß\n.\nend", html="<p>Tschüß</p>")
    assert message.get_content_type() == "multipart/alternative"
    assert message["Subject"] == "Grüße 🎉"
    assert part(message, "plain") == "Tschüß\n.\nend\n"
    assert part(message, "html") == "<p>Tschüß</p>\n"


def test_html_alone_is_given_a_text_for_plain_readers() -> None:
    message = sent(to="a@example.com", html="<h1>News</h1><style>p{}</style><p>It &amp; all<br>works</p>")
    assert part(message, "plain") == "News\nIt & all\nworks\n"


@given(st.text(max_size=300))
def test_any_html_can_be_read_as_text(html: str) -> None:
    assert "\n\n" not in text_of(html)


def test_the_message_is_ascii_with_short_lines() -> None:
    raw = compose(
        TASK_ID, "sluice@localhost", EmailSending(to="a@example.com", body="ü" * 5_000, html="x" * 5_000)
    ).as_bytes()
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998


def test_copies_and_answers_go_where_they_should() -> None:
    parameters = EmailSending(
        to=["a@example.com", "b@example.com"], cc="c@example.com", reply_to="d@example.com"
    )
    message = compose(TASK_ID, "sluice@localhost", parameters)
    assert (message["Cc"], message["Reply-To"]) == ("c@example.com", "d@example.com")
    assert parameters.recipients == ["a@example.com", "b@example.com", "c@example.com"]


@pytest.mark.parametrize(
    "address",
    [
        "recipient@example.com",
        "first.last+tag@mail.example.co.uk",
        "user@localhost",
        "x@example.test",
        "ops@corp.local",
        "o'neil@example.com",
    ],
)
def test_one_address_is_taken_as_it_stands(address: str) -> None:
    assert EmailSending(to=address).to == address


def test_a_domain_of_other_letters_is_written_in_ascii() -> None:
    assert EmailSending(to="a@bücher.example").to == "a@xn--bcher-kva.example"


TRICKS = [
    "",
    "@",
    "no-at-sign",
    "a@b.c, evil@x",
    "a@b.co,evil@b.co",
    "a@b.co;evil@b.co",
    "a@b.co evil@b.co",
    "Name <a@b.co>",
    "<a@b.co>",
    "a@b.co\n",
    "a@b.co\r\nBcc: evil@b.co",
    "a@b.co>\r\nRCPT TO:<evil@b.co",
    "a@b.co\0",
    " a@b.co",
    '"a b"@b.co',
    '"a@b.co, evil"@b.co',
    "a@[127.0.0.1]",
    "a@b..co",
    "a@gmail",
    "group:a@b.co;",
    "ü@b.co",
    "a@b.co(comment)",
    "\ud800@b.co",
    "a" * 65 + "@b.co",
    "a@" + "b" * 250 + ".co",
    "a" * 100_000,
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: ascii(trick)[:28])
@pytest.mark.parametrize("field", ["to", "cc", "reply_to"])
def test_what_is_not_exactly_one_address_is_refused(trick: str, field: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        EmailSending.model_validate({"to": "a@example.com", field: trick})
    assert [fault["loc"] for fault in refusal.value.errors()] == [(field,)]
    with pytest.raises(ValidationError, match="to"):
        EmailSending.model_validate({"to": ["a@example.com", trick]})


@given(st.text(max_size=80) | st.text(max_size=20).map(lambda text: f"a@example.com{text}"))
def test_whatever_is_taken_stays_one_recipient_in_the_header(text: str) -> None:
    try:
        address = check_address(text)
    except ValueError:
        return
    message = compose(TASK_ID, "sluice@localhost", EmailSending(to=address))
    assert [str(each.addr_spec) for each in message["To"].addresses] == [address]
    assert address.isascii() and address.isprintable()


@pytest.mark.parametrize(
    "to", [None, 5, True, [], {}, {"a@example.com": 1}, [["a@example.com"]], [None], ["a@example.com"] * 51]
)
def test_recipients_are_one_address_or_a_short_list(to: Any) -> None:
    with pytest.raises(ValidationError, match="to"):
        EmailSending.model_validate({"to": to})


def test_a_recipient_named_twice_gets_one_message() -> None:
    assert EmailSending(to=["a@example.com", "a@example.com"], cc="a@example.com").recipients == [
        "a@example.com"
    ]


def test_to_and_cc_share_one_limit() -> None:
    with pytest.raises(ValidationError, match="more than 50"):
        EmailSending(
            to=[f"a{number}@example.com" for number in range(26)],
            cc=[f"b{number}@example.com" for number in range(26)],
        )


@pytest.mark.parametrize(
    "break_", ["\r\nBcc: evil@x.co", "\n", "\r", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]
)
def test_a_subject_is_one_line_and_the_field_is_named(break_: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        EmailSending(to="a@example.com", subject=f"Hello{break_}")
    assert refusal.value.errors()[0]["loc"] == ("subject",)


@given(st.text(max_size=200))
def test_no_subject_can_add_a_header(subject: str) -> None:
    try:
        parameters = EmailSending(to="a@example.com", subject=subject)
    except ValidationError:
        return
    raw = compose(TASK_ID, "sluice@localhost", parameters).as_bytes()
    read = message_from_bytes(raw, policy=policy.default)
    expected = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"]
    assert [name for name in read.keys() if not name.startswith(("Content-", "MIME-"))] == expected  # noqa: SIM118


@pytest.mark.parametrize("field", ["body", "html"])
def test_texts_keep_their_lines_but_no_control_characters(field: str) -> None:
    EmailSending.model_validate({"to": "a@example.com", field: "a\tb\r\nc\n"})
    with pytest.raises(ValidationError, match="control characters"):
        EmailSending.model_validate({"to": "a@example.com", field: "a\0b"})


def test_parameters_survive_the_ledger() -> None:
    parameters = EmailSending(to=["a@example.com"], subject="x", reply_to="b@example.com")
    stored = parameters.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert EmailSending.model_validate(stored) == parameters


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://localhost", mail.Server("localhost", 25)),
        ("smtp://mail:2525", mail.Server("mail", 2525)),
        ("smtps://mail", mail.Server("mail", 465, tls=True)),
        ("smtp://mail?starttls=1", mail.Server("mail", 587, starttls=True)),
        ("smtp://mail:25?starttls=0", mail.Server("mail", 25)),
        ("smtp://me%40x:p%3Aw%2F@mail:26", mail.Server("mail", 26, user="me@x", password="p:w/")),
        ("smtp://[::1]:25", mail.Server("::1", 25)),
    ],
)
def test_a_mail_servers_url_says_how_to_reach_it(url: str, server: mail.Server) -> None:
    assert mail.parse(url) == server


@pytest.mark.parametrize(
    "url", ["", "localhost:25", "http://u:secret@mail", "smtp://", "smtp://u:secret@m?tls=1"]
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="mail server's URL") as refusal:
        mail.parse(url)
    assert "secret" not in str(refusal.value)


def test_a_servers_password_is_not_shown() -> None:
    assert "secret" not in repr(mail.parse("smtp://u:secret@mail"))


def test_mails_go_to_the_operators_domains_only(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, SLUICE_MAIL_DOMAINS="Example.com, example.org")
    assert EmailSending(to=["a@example.com", "b@EXAMPLE.org"], cc="c@example.com").recipients
    for field, strange in (("to", "a@other.example"), ("cc", "a@sub.example.com"), ("to", "a@example.com.evil.test")):
        with pytest.raises(ValidationError, match=r"no mail goes to .* from here, only to example.com, example.org"):
            EmailSending.model_validate({"to": "a@example.com", field: ["b@example.com", strange]})
