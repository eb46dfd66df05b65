"""An SMTP server that writes each mail into a folder as an `.eml` file, and sends nothing on.

python -m cli.mail_sink PORT FOLDER
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

#: Bytes of one mail.
LARGEST = 32 * 1024 * 1024


class Folder:
    """Keeps mails in the order of their coming; a file appears whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # aiosmtpd's name
        name = f"{time.time_ns()}-{os.getpid()}-{next(self._numbers)}.eml"
        unfinished = self._path / f".{name}"
        unfinished.write_bytes(_envelope_lines(envelope) + _content(envelope))
        unfinished.rename(self._path / name)
        return f"250 kept as {name}"


def _envelope_lines(envelope: Envelope) -> bytes:
    """Whom the mail was really for, which its own headers need not say."""
    lines = [f"X-Envelope-From: {envelope.mail_from}", *(f"X-Envelope-To: {to}" for to in envelope.rcpt_tos)]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _content(envelope: Envelope) -> bytes:
    content = envelope.content or b""
    return content.encode() if isinstance(content, str) else content


async def serve(port: int, folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = Folder(folder)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGINT, ended.set)
    server = await loop.create_server(
        lambda: SMTP(handler, data_size_limit=LARGEST, enable_SMTPUTF8=True, ident="Sluice mail sink"),
        host="127.0.0.1",
        port=port,
    )
    print(f"listening on 127.0.0.1:{port}, mails go to {folder}")
    async with server:
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
