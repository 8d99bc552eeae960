"""`fal-exporter serve`: this process serves what the collector process publishes."""

import asyncio
import os
import signal

import structlog
import uvloop

from exporter import __version__
from exporter.app.mcp import listen_for_mcp, serve_mcp
from exporter.app.process import CollectorError, CollectorProcess
from exporter.app.web import web_application
from exporter.metrics.publication import Publication
from exporter.settings import Settings
from exporter.web.server import listen, serve_web

_log = structlog.get_logger(__name__)


def run_serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    Raises:
        ConfigurationError: the address cannot be listened on.
        CollectorError: the collector gave up, for example because the ledger cannot be opened.
    """
    uvloop.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = listen(settings.listen.host, settings.listen.port)
    mcp_listener = listen_for_mcp(settings)
    process = CollectorProcess()
    application = web_application(
        settings,
        on_scrape=process.scraped,
        collector=lambda: process.pid,
        mcp_port=None if mcp_listener is None else mcp_listener.getsockname()[1],
    )
    problems: list[CollectorError] = []

    def published(publication: Publication) -> None:
        loop.call_soon_threadsafe(application.publish, publication)

    def ended(problem: CollectorError) -> None:
        problems.append(problem)
        loop.call_soon_threadsafe(stop.set)

    process.start(settings, publish=published, ended=ended)
    host, port = listener.getsockname()[:2]
    _log.info("serving", version=__version__, address=f"http://{host}:{port}", pid=os.getpid(), collector=process.pid)
    serving = asyncio.create_task(serve_web(application, listener, stop))
    answering = asyncio.create_task(serve_mcp(settings, mcp_listener, lambda: application.published, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.to_thread(process.stop)
    await asyncio.gather(serving, answering)
    if problems:
        raise problems[0]
    _log.info("stopped")
