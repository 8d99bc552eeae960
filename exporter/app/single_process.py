"""Both halves in one event loop: for the demo and for tests."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from exporter.app.mcp import listen_for_mcp, serve_mcp
from exporter.app.serve import web_application
from exporter.app.wiring import LeftHalf, open_left_half
from exporter.charges import Clock, utc_now
from exporter.events.store import SharedReader
from exporter.inquiry import Inquirer
from exporter.publication import Publication
from exporter.settings import Listen, Settings
from exporter.web.server import LISTEN_SETTING, listen, serve_web


@dataclass(slots=True)
class SingleProcess:
    """An exporter at work.

    Attributes:
        url: where it listens.
        mcp_url: where agents ask; empty where they cannot.
        half: the left half, for whoever wants to have it poll at once.
        collecting: ends early only with an error.
        latest: what has been published last; None before the first.
        published: set at every publication, for whoever waits for one.
    """

    url: str
    half: LeftHalf
    collecting: asyncio.Task[None]
    mcp_url: str = ""
    latest: Publication | None = None
    published: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def in_one_process(
    settings: Settings,
    *,
    clock: Clock = utc_now,
    notes: tuple[str, ...] = (),
    links: tuple[tuple[str, str], ...] = (),
    listen_setting: str = LISTEN_SETTING,
) -> AsyncIterator[SingleProcess]:
    """Run an exporter until the block is left; `listen_setting` is what an error about the address names.

    Raises:
        ConfigurationError, LedgerError: it cannot start, or, at the end, why it has stopped by itself.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_scrape(sequence: int) -> None:
        scraped.add(task := loop.create_task(half.ledger.scraped(sequence)))
        task.add_done_callback(scraped.discard)

    def on_protobuf() -> None:
        half.publisher.write_protobuf()

    def publish(publication: Publication) -> None:
        running.latest = publication
        running.published.set()
        application.publish(publication)

    def emit(publication: Publication) -> None:
        loop.call_soon_threadsafe(publish, publication)

    def connect() -> socket.socket:
        return half.responder.connect()

    scraped: set[asyncio.Task[None]] = set()
    with ExitStack() as opened:
        listener = opened.enter_context(listen(settings.listen.host, settings.listen.port, setting=listen_setting))
        if (mcp_listener := listen_for_mcp(settings)) is not None:
            opened.enter_context(mcp_listener)
        mcp_port = None if mcp_listener is None else mcp_listener.getsockname()[1]
        inquirer = Inquirer(connect)
        requests = SharedReader(settings.requests_url) if settings.requests_url else None
        application = web_application(
            settings,
            on_scrape=on_scrape,
            on_protobuf=on_protobuf,
            clock=clock,
            mcp_port=mcp_port,
            inquirer=inquirer,
            requests=requests,
        )
        half = await open_left_half(settings, emit=emit, clock=clock, notes=notes, links=links)
        opened.pop_all()
    collecting = asyncio.create_task(half.collector.run(stop))
    mcp_url = f"{_url(mcp_listener)}/mcp" if mcp_listener is not None else ""
    running = SingleProcess(_url(listener), half, collecting, mcp_url)
    serving = asyncio.create_task(serve_web(application, listener, stop))
    answering = asyncio.create_task(
        serve_mcp(
            settings,
            mcp_listener,
            lambda: application.published,
            stop,
            inquirer=inquirer,
            clock=clock,
            requests=requests,
        )
    )
    try:
        yield running
    finally:
        stop.set()
        await asyncio.wait((serving, answering, collecting))
        await asyncio.gather(*scraped, return_exceptions=True)
        await half.close()
        if requests is not None:
            requests.close()
        await asyncio.gather(serving, answering, collecting)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{Listen(host, port)}"
