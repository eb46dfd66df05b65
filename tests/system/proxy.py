"""A wire between two programs that can be made slow: what goes through it arrives that much later, each way.

The kernels of many machines cannot delay packets themselves (no netem), and a program that can is not in Python.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK_BYTES = 1 << 16


class Proxy:
    """Stands before the server of a URL; `url` is the same with the proxy's port. Use it in a `with`."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        #: Seconds that everything takes, one way. May be changed while connections are open.
        self.delay_seconds = 0.0
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        login, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Delay, and not throttle: any number of chunks may be on their way at a time."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arrivals = asyncio.ensure_future(self._deliver(chunks, writer))
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                chunks.put_nowait((self._loop.time() + self.delay_seconds, chunk))
        chunks.put_nowait((self._loop.time() + self.delay_seconds, b""))
        await arrivals

    async def _deliver(self, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                due, chunk = await chunks.get()
                await asyncio.sleep(due - self._loop.time())
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
        writer.close()
