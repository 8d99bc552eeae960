"""A proxy on this machine that takes every request to one server, whatever host it is for."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class LocalProxy:
    """Speaks HTTP, with and without CONNECT, and SOCKS 5.

    Attributes:
        target: the port of the server.
        wants: the user and password without which it refuses, like `user:password`; empty to admit everybody.
        status: the status with which it refuses every CONNECT; empty to refuse none.
        asked: the first line of each request, or the host and port of a SOCKS request.
    """

    target: int
    wants: str = ""
    status: str = ""
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            head = await self._socks(reader, writer) if first == b"\x05" else await self._http(first, reader, writer)
            if head is not None:
                await self._carry(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _http(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        head = first + await reader.readuntil(b"\r\n\r\n")
        line = head.partition(b"\r\n")[0].decode()
        self.asked.append(line)
        wanted = b"proxy-authorization: basic " + base64.b64encode(self.wants.encode()).lower()
        if self.wants and wanted not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return None
        if not line.startswith("CONNECT "):
            return head
        writer.write(f"HTTP/1.1 {self.status or '200 OK'}\r\n\r\n".encode())
        await writer.drain()
        return None if self.status else b""

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        (methods,) = await reader.readexactly(1)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        _version, _connect, _reserved, kind, length = await reader.readexactly(5)
        assert kind == 3, "the name is to be resolved by the proxy"
        host = (await reader.readexactly(length)).decode()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        return b""

    async def _carry(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_target, to_target = await asyncio.open_connection("127.0.0.1", self.target)
        to_target.write(head)
        there = asyncio.create_task(_pipe(reader, to_target))
        await _pipe(from_target, writer)
        there.cancel()
        to_target.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def running(proxy: LocalProxy) -> AsyncIterator[LocalProxy]:
    """Run a proxy in this loop."""
    listening = await asyncio.start_server(proxy, "127.0.0.1", 0)
    proxy.port = int(listening.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        listening.close()
