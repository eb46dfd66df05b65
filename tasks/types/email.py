"""`email_sending`: one message by SMTP, as text or as text with HTML."""

from __future__ import annotations

import unicodedata
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, parseaddr
from html.parser import HTMLParser
from typing import Annotated, Any, Self

import email_validator
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from settings import settings
from tasks.attempt import Attempt
from tasks.catalog import task_type
from tasks.retry import IfUncertain
from tasks.work import mail

MOST_RECIPIENTS = 50
_ADDRESS_LENGTH = 254
_SUBJECT_LENGTH = 500
_TEXT_LENGTH = 200_000

DEFAULT_SUBJECT = "Message from Sluice"
DEFAULT_BODY = "This message was sent by Sluice."

#: Unicode's categories of what has no place in a line: controls, line and paragraph separators, lone
#: surrogates.
_BREAKING = frozenset({"Cc", "Zl", "Zp", "Cs"})
#: Controls that a text is made of.
_LAYOUT = frozenset("\t\n\r")

# Names that no public mail server has, but the private one that we hand our mail to may.
for _name in {"local", "localhost", "test"} & set(email_validator.SPECIAL_USE_DOMAIN_NAMES):
    email_validator.SPECIAL_USE_DOMAIN_NAMES.remove(_name)


def check_address(address: object) -> str:
    """The one address that the text is, its domain in ASCII; otherwise ValueError.

    Nothing besides the address: no name, no angle brackets, no second address, which a mail program would
    deliver to.
    """
    if not isinstance(address, str):
        raise ValueError("an e-mail address is a text")
    if len(address) > _ADDRESS_LENGTH:
        raise ValueError(f"an e-mail address has at most {_ADDRESS_LENGTH} characters")
    try:
        found = email_validator.validate_email(
            address, strict=True, check_deliverability=False, globally_deliverable=False, allow_smtputf8=False
        )
    except email_validator.EmailNotValidError as error:
        raise ValueError(f"{address!r} is not one e-mail address: {error}") from error
    if "." not in found.ascii_domain and found.ascii_domain != "localhost":
        raise ValueError(
            f"{address!r} is not one e-mail address: the part after the @-sign should have a period"
        )
    return found.ascii_email or address


def check_recipients(to: object) -> str | list[str]:
    """One address, or a list of up to 50, each once."""
    if not isinstance(to, list):
        return check_address(to)
    if not 1 <= len(to) <= MOST_RECIPIENTS:
        raise ValueError(f"a list of 1 to {MOST_RECIPIENTS} addresses, not of {len(to)}")
    return list(dict.fromkeys(check_address(address) for address in to))


def check_domains(to: str | list[str]) -> str | list[str]:
    """Recipients to whom this service may write; otherwise ValueError."""
    allowed = settings().mail_domains
    for address in [to] if isinstance(to, str) else to:
        domain = address.rpartition("@")[2].lower()
        if allowed and domain not in allowed:
            raise ValueError(f"no mail goes to {domain} from here, only to {', '.join(allowed)}")
    return to


def check_line(line: str) -> str:
    """A text for a header: one line, no control characters; otherwise ValueError."""
    if any(unicodedata.category(letter) in _BREAKING for letter in line):
        raise ValueError("line breaks and control characters are not allowed here")
    return line


def check_text(text: str) -> str:
    """A text of any number of lines, without other control characters; otherwise ValueError."""
    if any(unicodedata.category(letter) == "Cc" and letter not in _LAYOUT for letter in text):
        raise ValueError("control characters other than tabs and line breaks are not allowed here")
    return text


_ADDRESS_SCHEMA = {"type": "string", "format": "email", "maxLength": _ADDRESS_LENGTH}

EmailAddress = Annotated[str, PlainValidator(check_address), WithJsonSchema(_ADDRESS_SCHEMA)]
Recipients = Annotated[
    str | list[str],
    PlainValidator(check_recipients),
    AfterValidator(check_domains),
    WithJsonSchema(
        {
            "anyOf": [
                _ADDRESS_SCHEMA,
                {"type": "array", "items": _ADDRESS_SCHEMA, "minItems": 1, "maxItems": MOST_RECIPIENTS},
            ]
        }
    ),
]
Text = Annotated[str, Field(max_length=_TEXT_LENGTH), AfterValidator(check_text)]


class EmailSending(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"to": "recipient@example.com"},
                {
                    "to": ["ada@example.com", "grace@example.com"],
                    "subject": "Good news",
                    "body": "It works.",
                    "html": "<p>It <b>works</b>.</p>",
                },
            ]
        },
    )

    to: Recipients = Field(description="One address, or a list of up to 50")
    subject: Annotated[str, Field(max_length=_SUBJECT_LENGTH), AfterValidator(check_line)] = DEFAULT_SUBJECT
    body: Text | None = Field(
        default=None, description="The message as text; made from the HTML where that is given alone"
    )
    html: Text | None = Field(default=None, description="The message as HTML, beside the text")
    cc: Recipients | None = Field(default=None, description="Further recipients, shown to all")
    reply_to: EmailAddress | None = Field(default=None, description="Where answers should go")
    if_uncertain: IfUncertain = Field(
        default=IfUncertain.HOLD,
        strict=False,
        description="What to do when the mail server got the whole message and its answer was lost: hold the task "
        "until somebody finds out, retry (which may send it twice), or treat_as_done (which may be wrong)",
    )

    @property
    def recipients(self) -> list[str]:
        """Everybody who gets the message, each once."""
        return list(dict.fromkeys(_listed(self.to) + _listed(self.cc)))

    @model_validator(mode="after")
    def _few_enough(self) -> Self:
        if len(self.recipients) > MOST_RECIPIENTS:
            raise ValueError(f"to and cc together name more than {MOST_RECIPIENTS} recipients")
        return self


@task_type(
    "email_sending",
    worker="email",
    parameters=EmailSending,
    timeout_seconds=300,
    if_uncertain=IfUncertain.HOLD,
    mails=lambda parameters: len(parameters.recipients),
)
def send(attempt: Attempt, parameters: EmailSending) -> dict[str, Any]:
    """Send one e-mail message.

    The result is `{sent: true, to, message_id, refused, answer}`: `refused` names recipients that the mail
    server did not take while it took others, `answer` is what it said to the message. Refused for good
    (5xx): the task fails at once. Refused for now (4xx), or no answer: it is tried again. The Message-ID is
    the same for every attempt. When nobody knows whether the server took the message, `if_uncertain` says what
    follows; `sent` is `"uncertain"` in a result that was taken for granted.
    """
    sender = parseaddr(settings().mail_from)[1]
    message = compose(attempt.task_id, settings().mail_from, parameters)
    result = {"sent": False, "to": parameters.to, "message_id": message["Message-ID"]}
    attempt.join(
        mail.Delivery(
            mail.parse(settings().smtp_url.get_secret_value()),
            sender=sender,
            recipients=parameters.recipients,
            message=message.as_bytes(),
            report=result,
            begin_last_step=attempt.begin_last_step,
        )
    )
    return result


def compose(task_id: str, mail_from: str, parameters: EmailSending) -> EmailMessage:
    """The message, ready to be sent."""
    domain = parseaddr(mail_from)[1].rpartition("@")[2]
    # 7 bits: a server that cannot pass on eight would have to refuse the message.
    message = EmailMessage(SMTP.clone(cte_type="7bit"))
    message["From"] = mail_from
    message["To"] = ", ".join(_listed(parameters.to))
    if parameters.cc:
        message["Cc"] = ", ".join(_listed(parameters.cc))
    if parameters.reply_to:
        message["Reply-To"] = parameters.reply_to
    message["Subject"] = parameters.subject
    message["Date"] = localtime()
    message["Message-ID"] = f"<{task_id}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_text(parameters))
    if parameters.html is not None:
        message.add_alternative(parameters.html, subtype="html")
    return message


def _text(parameters: EmailSending) -> str:
    if parameters.body is not None:
        return parameters.body
    return DEFAULT_BODY if parameters.html is None else text_of(parameters.html)


def _listed(recipients: str | list[str] | None) -> list[str]:
    if recipients is None:
        return []
    return [recipients] if isinstance(recipients, str) else recipients


def text_of(html: str) -> str:
    """What a reader without HTML should see of it: the words, a line for each block."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.words).split("\n"))
    return "\n".join(line for line in lines if line) + "\n"


class _Reader(HTMLParser):
    _BLOCKS = frozenset({"p", "br", "div", "li", "tr", "hr", "pre", "h1", "h2", "h3", "h4", "h5", "h6"})
    _UNSEEN = frozenset({"script", "style", "head", "title"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in self._UNSEEN
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in self._UNSEEN and self._unseen > 0
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.words.append(data)

    def _break(self, tag: str) -> None:
        if tag in self._BLOCKS:
            self.words.append("\n")
