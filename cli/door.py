"""The way from a command to the service: where it is, and what went wrong as a sentence with the way out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli import credentials, dotenv, exits, ports
from cli.layout import CHECKOUT, DEFAULT_STATE, Layout
from cli.trouble import Trouble
from client.errors import (
    BadAddress,
    Conflict,
    Forbidden,
    NotFound,
    NotOver,
    Problem,
    SluiceError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from client.sluice import KEY, URL, Sluice

#: Seconds for which a command tries again before it says that the service is away.
PATIENCE_SECONDS = 5.0
_STATE = "SLUICE_STATE_DIR"
_API = "api"


class Refused(Trouble):
    """The service said no, or nothing at all."""

    def __init__(self, error: SluiceError) -> None:
        self._error, self._faults = error, _faults(error)
        super().__init__(error.title if self._faults and isinstance(error, Problem) else str(error))
        self.exit_code = exits.of_error(error)

    def more(self) -> Sequence[str]:
        return [*self._faults, *_way_out(self._error)]


def _faults(error: SluiceError) -> list[str]:
    """A line for each of several; a single one is in the problem's sentence."""
    faults = error.faults if isinstance(error, Problem) else []
    return [f"{each['pointer'].removeprefix('#/')}: {each['detail']}" for each in faults] if len(faults) > 1 else []


def on_service(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the service, and makes what goes wrong with it a sentence."""

    @functools.wraps(command)
    def with_service(*arguments: Any, **options: Any) -> Any:
        try:
            return command(service(), *arguments, **options)
        except SluiceError as error:
            raise Refused(error) from error

    return with_service


def service() -> Sluice:
    url, key = address()
    return Sluice(url, key, patience=PATIENCE_SECONDS)


def address() -> tuple[str, str | None]:
    """The service of the environment, or the one on this machine. No argument has the key: everybody could read it."""
    url, key = os.environ.get(URL), os.environ.get(KEY)
    if url:
        return url, key
    url, own_key = _on_this_machine()
    return url, key or own_key


def _on_this_machine() -> tuple[str, str]:
    """The address and the key of the stack that `sluice up` starts here."""
    chosen = dotenv.read(CHECKOUT / ".env") | os.environ
    layout = Layout(Path(chosen.get(_STATE) or DEFAULT_STATE))
    kept, port = credentials.load(layout.credentials), ports.load(layout.ports).get(_API)
    if kept is None or port is None:
        raise BadAddress(f"{URL} does not say where the service is, and there is no stack on this machine")
    return f"http://127.0.0.1:{port}", kept.api_key


def _way_out(error: SluiceError) -> list[str]:
    if isinstance(error, TooManyRequests):
        return [f"Try again in {error.retry_after:g} s."] if error.retry_after else []
    return next((list(lines) for kind, lines in _WAYS_OUT.items() if isinstance(error, kind)), [])


_WAYS_OUT: Mapping[type[SluiceError], Sequence[str]] = {
    BadAddress: (
        f"Set {URL} and {KEY}, or start a stack on this machine: make up",
    ),
    Unreachable: (
        f"Is it running, and is that its address? It comes from {URL} or the stack on this machine: make status",
    ),
    Unauthorized: (
        f"The key comes from {KEY}. For the stack on this machine: eval \"$(make env)\", or sluice keys create",
    ),
    Forbidden: ("Ask for a key that may: sluice keys create --help tells which scopes there are.",),
    NotFound: ("sluice list shows the tasks that your key may see, sluice queues the queues.",),
    NotOver: ("It goes on. Look again by sluice get or sluice watch; sluice explain says why it takes long.",),
    Conflict: ("sluice get shows how the task stands.",),
}
