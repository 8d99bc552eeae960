"""Relay of TCP connections that notes when something is sent, and can be cut: the network of one exporter."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Passes connections on to another address while it is not cut.

    Args:
        host, port: what it passes connections on to.
        listens_on: an IP address of this machine.
        connects_from: another, by which whoever is connected to tells this relay from others; any by default.

    Attributes:
        port: where it listens.
        sent_at: when clients have sent a key, in monotonic seconds: polls are so told from tries.
    """

    def __init__(self, host: str, port: int, listens_on: str = "127.0.0.1", connects_from: str = "") -> None:
        self.port = 0
        self._connects_from = (connects_from, 0) if connects_from else None
        self._listens_on = listens_on
        self.sent_at: list[float] = []
        self._to = (host, port)
        self._works = asyncio.Event()
        self._works.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def cut(self) -> None:
        """Pass on nothing more, without a word to either side, as a network does that is gone."""
        self._do(self._works.clear)

    def heal(self) -> None:
        """Work again; what was open is closed."""
        self._do(self._open_again)

    async def serve(self, listening: threading.Event) -> None:
        """Listen until ended."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, self._listens_on, 0)
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        async with server:
            await self._ended.wait()
        self._close()

    def end(self) -> None:
        """Stop listening."""
        self._do(self._ended.set)

    def _do(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(call)

    def _open_again(self) -> None:
        # First closed: what was sent by who has long given up must not arrive.
        self._close()
        self._works.set()

    def _close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            await self._works.wait()
            there, back = await asyncio.open_connection(*self._to, local_addr=self._connects_from)
            try:
                await asyncio.gather(self._pass_on(reader, back, is_client=True), self._pass_on(there, writer))
            finally:
                back.close()
        writer.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool = False
    ) -> None:
        while piece := await reader.read(65536):
            if is_client and b"authorization:" in piece.lower():
                self.sent_at.append(time.monotonic())
            await self._works.wait()
            writer.write(piece)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


@contextmanager
def relay(host: str, port: int, listens_on: str = "127.0.0.1", connects_from: str = "") -> Iterator[Relay]:
    """Run a relay in a thread of its own until the block is left."""
    made, listening = Relay(host, port, listens_on, connects_from), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(made.serve(listening)), daemon=True)
    thread.start()
    assert listening.wait(10)
    try:
        yield made
    finally:
        made.end()
        thread.join(10)
