"""How the bytes of an answer reach the caller: whole, streamed, slowly, cut off, or not as JSON at all."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import Receive, Send

from exporter.simulator.faults import Fault

JSON = "application/json"
_HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"
_TICK = 1.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One answer on its way: the connection's two halves, the headers that every answer has, and the faults."""

    receive: Receive
    send: Send
    headers: Mapping[str, str]
    hits: Mapping[str, Fault]


async def deliver(delivery: Delivery, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send a body that is known whole, as the faults say."""
    send, hits = delivery.send, delivery.hits
    fields = {**delivery.headers, **headers}
    if "not_json" in hits:
        fields["content-type"], body = "text/html; charset=utf-8", _HTML
    elif "empty_body" in hits:
        body = b""
    fields["content-length"] = str(len(body))
    await _start(send, status, fields)
    if "truncated_body" in hits:
        await _cut_off(send, body[: len(body) // 2])
        return
    slow = hits.get("slow_body")
    if slow:
        step = max(1, -(-len(body) // slow.pieces))
        for start in range(0, len(body), step):
            await _piece(send, body[start : start + step])
            await _pause(delivery, slow)
    await send({"type": "http.response.body", "body": b"" if slow else body, "more_body": False})


async def stream(delivery: Delivery, headers: Mapping[str, str], chunks: AsyncIterator[str]) -> None:
    """Send a body as it is made, as the faults say."""
    send, hits = delivery.send, delivery.hits
    slow = hits.get("slow_body")
    if {"truncated_body", "not_json", "empty_body"} & hits.keys():
        whole = [chunk async for chunk in chunks]
        await deliver(delivery, 200, headers, "".join(whole).encode())
        return
    await _start(send, 200, {**delivery.headers, **headers})
    async for chunk in chunks:
        await _piece(send, chunk.encode())
        if slow:
            await _pause(delivery, slow)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def hang(receive: Receive, seconds: float | None) -> bool:
    """Wait so many seconds, or until the caller has gone; tell whether it has."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
            return True
    return False


async def _pause(delivery: Delivery, slow: Fault) -> None:
    await hang(delivery.receive, _TICK if slow.seconds is None else slow.seconds)


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _piece(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _cut_off(send: Send, body: bytes) -> None:
    await _piece(send, body)
    # The server sees that bytes are missing, says so by an exception, and closes the connection.
    with suppress(RuntimeError):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
