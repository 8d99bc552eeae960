"""Both halves in one event loop: for the demo and for tests; `serve` gives each a process of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from exporter.app.composition import LeftHalf, open_left_half
from exporter.charges import Clock, utc_now
from exporter.ledger import Ledger
from exporter.metrics.publication import Publication
from exporter.settings import Settings
from exporter.web.asgi import Application
from exporter.web.server import listen, serve_web


@dataclass(slots=True)
class Joined:
    """An exporter at work.

    Attributes:
        url: where it listens.
        half: the left half, for whoever wants to have it poll at once.
        collecting: ends early only with an error.
        latest: what has been published last; None before the first.
        published: set at every publication, for whoever waits for one.
    """

    url: str
    half: LeftHalf
    collecting: asyncio.Task[None]
    latest: Publication | None = None
    published: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def joined(
    settings: Settings,
    *,
    clock: Clock = utc_now,
    notes: tuple[str, ...] = (),
    links: tuple[tuple[str, str], ...] = (),
) -> AsyncIterator[Joined]:
    """Run an exporter until the block is left.

    Raises:
        ConfigurationError, LedgerError: it cannot start, or, at the end, why it has stopped by itself.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    listener = listen(settings.listen.host, settings.listen.port)

    def on_scrape(sequence: int) -> None:
        scraped.add(task := loop.create_task(half.desk.run(partial(Ledger.scraped, sequence=sequence))))
        task.add_done_callback(scraped.discard)

    def publish(publication: Publication) -> None:
        running.latest = publication
        running.published.set()
        application.publish(publication)

    def emit(publication: Publication) -> None:
        loop.call_soon_threadsafe(publish, publication)

    scraped: set[asyncio.Task[None]] = set()
    application = Application(
        on_scrape=on_scrape,
        access_level=logging.INFO if settings.access_log else logging.DEBUG,
        clock=clock,
    )
    try:
        half = await open_left_half(settings, emit=emit, clock=clock, notes=notes, links=links)
    except BaseException:
        listener.close()
        raise
    host, port = listener.getsockname()[:2]
    collecting = asyncio.create_task(half.collector.run(stop))
    running = Joined(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", half, collecting)
    serving = asyncio.create_task(serve_web(application, listener, stop))
    try:
        yield running
    finally:
        stop.set()
        await asyncio.wait((serving, collecting))
        await asyncio.gather(*scraped, return_exceptions=True)
        await half.close()
        await asyncio.gather(serving, collecting)
