"""One request and its answer; asked again, for as long as patience lasts, where that can do no harm.

What was refused with 429, or never left this machine, may always be asked again. What got lost on the way, or was
answered with 503, only when doing it twice is doing it once: that is for the caller to say (`is_safe`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.exceptions import InvalidHeader, InvalidJSONError
from urllib3.exceptions import NewConnectionError

from client import errors

#: Seconds for a connection, and for an answer besides what it was told to wait for.
CONNECT_SECONDS, ANSWER_SECONDS = 3.1, 15.0
#: Seconds before the first repetition, doubling, and at most.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0

#: Statuses that something before the service may answer in its stead, without a problem document.
_FOR_NOW = frozenset({429, 502, 503, 504})


class Line:
    """The way to one service, with one key."""

    def __init__(self, url: str, key: str | None, *, patience: float) -> None:
        self.url = _checked(url).rstrip("/")
        #: Seconds for which a call is repeated while the service is away.
        self.patience = patience
        self._session = requests.Session()
        self._session.headers.update({"Accept": "application/json", "User-Agent": "sluice-client"})
        if key:
            self._session.headers["X-API-Key"] = _printable(key)

    def ask(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        is_safe: bool = True,
        seconds: float = 0,
        accept: frozenset[int] = frozenset(),
        patience: float | None = None,
    ) -> Any:
        """The JSON of the answer. Raises Problem and Unreachable.

        Args:
            is_safe: whether it does no harm to do it twice.
            seconds: how long the service was told to wait before it answers.
            accept: statuses of refusals that are an answer here.
            patience: seconds for which it is repeated, other than usual.
        """
        until = time.monotonic() + (self.patience if patience is None else patience)
        for pause in _pauses():
            try:
                answer = self.send(method, path, json=json, query=query, headers=headers, seconds=seconds)
                if is_success(answer) or answer.status_code in accept:
                    return None if answer.status_code == HTTPStatus.NO_CONTENT else _json(answer)
                raise problem(answer)
            except (errors.Unreachable, errors.Unavailable, errors.TooManyRequests) as trouble:
                rest = getattr(trouble, "retry_after", None) or pause
                if not _may_be_repeated(trouble, is_safe) or time.monotonic() + rest > until:
                    raise
            time.sleep(rest)
        raise AssertionError("there is always another pause")

    def send(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 0,
        stream: bool = False,
    ) -> requests.Response:
        """One request, whatever is answered. Raises Unreachable and Unsendable."""
        try:
            return self._session.request(
                method,
                self.url + path,
                json=json,
                params=query,
                headers=headers,
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS + seconds),
                stream=stream,
                # The key is for this address, and not for whatever it points to.
                allow_redirects=False,
            )
        except (InvalidHeader, InvalidJSONError, UnicodeError) as error:
            raise errors.Unsendable(f"this cannot be sent: {error}") from error
        except requests.RequestException as error:
            raise unreachable(self.url, error) from error


def quoted(word: str) -> str:
    """A part of a path. An empty one would lead elsewhere: to all tasks, say."""
    if not word:
        raise errors.Unsendable("the name or id of what is meant is empty")
    return quote(word, safe="")


def is_success(answer: requests.Response) -> bool:
    """Not by being told to go elsewhere."""
    return HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES


def unreachable(url: str, error: requests.RequestException) -> errors.Unreachable:
    if isinstance(error, requests.ConnectTimeout) or isinstance(_cause(error), NewConnectionError):
        return errors.Unreachable(f"nobody answers at {url}", was_sent=False)
    if isinstance(error, requests.Timeout):
        return errors.Unreachable(f"{url} took too long to answer", was_sent=True)
    return errors.Unreachable(f"the line to {url} was cut before the answer was here", was_sent=True)


def _cause(error: requests.RequestException) -> object:
    """What urllib3 says inside of what requests says."""
    inner = error.args[0] if error.args else None
    return getattr(inner, "reason", inner)


def _may_be_repeated(trouble: errors.SluiceError, is_safe: bool) -> bool:
    if isinstance(trouble, errors.Unreachable):
        return is_safe or not trouble.was_sent
    return is_safe or isinstance(trouble, errors.TooManyRequests)


def _pauses() -> Iterator[float]:
    """Growing, and never quite the same, so that clients which were cut off together do not come back together."""
    for number in count():
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(number, 10))
        yield longest * random.uniform(0.5, 1)


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except requests.JSONDecodeError:
        raise _not_sluice(answer) from None


def problem(answer: requests.Response) -> errors.SluiceError:
    """What a refusal says, also one by something between us and the service, which has no document."""
    try:
        document = answer.json()
    except requests.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or "status" not in document:
        if answer.status_code not in _FOR_NOW:
            return _not_sluice(answer)
        document = {"title": answer.reason, "detail": f"said by what stands before {answer.url}"}
    return errors.problem(document | {"status": answer.status_code}, retry_after=_retry_after(answer))


def _not_sluice(answer: requests.Response) -> errors.NotSluice:
    kind = answer.headers.get("Content-Type", "nothing").partition(";")[0]
    return errors.NotSluice(
        f"{answer.url} answered {answer.status_code} with {kind}: is that the address of Sluice's API?"
    )


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds, said as such or as a time."""
    word = answer.headers.get("Retry-After", "")
    if word.isascii() and word.isdigit():
        return float(word)
    try:
        return max(0.0, parsedate_to_datetime(word).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  a wrong one is noticed when it is read
    except ValueError as error:
        raise errors.BadAddress(f"{url!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise errors.BadAddress(f"{url!r} is no address of a service, such as http://127.0.0.1:5000")
    return url


def _printable(key: str) -> str:
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise errors.BadAddress("the API key holds characters that no key has; look for a blank or a line end in it")
    return key
