"""`fal-exporter serve`: this process serves what the collector process publishes.

The collector is a process of its own, started and watched from here (`CollectorProcess`); its publications come through
a pipe. The web application of this process is made from the settings (`web_application`).
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from typing import TYPE_CHECKING

import structlog
import uvloop

from exporter import __version__
from exporter.app.access import Access
from exporter.app.mcp import listen_for_mcp, serve_mcp
from exporter.charges import Clock, utc_now
from exporter.errors import FalExporterError
from exporter.inquiry import Channel, Inquirer
from exporter.publication import Begin, GaveUp, Publication, Receiving, Scraped, Stop, ToCollector
from exporter.settings import Settings
from exporter.web.application import Application
from exporter.web.rest.application import RestOptions
from exporter.web.server import listen, scheme_of, serve_web

if TYPE_CHECKING:
    from exporter.ledger.reader import LedgerReader

_log = structlog.get_logger(__name__)


def web_application(
    settings: Settings,
    *,
    on_scrape: Callable[[int], None],
    collector: Callable[[], int | None] = lambda: None,
    clock: Clock = utc_now,
    mcp_port: int | None = None,
    inquirer: Inquirer | None = None,
    access: Access | None = None,
) -> Application:
    """Return the application of everything that is served on `listen`; see `Application` and `RestOptions`.

    Raises:
        ConfigurationError: a file of tokens cannot be used.
    """
    access = access or Access.of(settings)
    return Application(
        on_scrape=on_scrape,
        collector=collector,
        access_level=logging.INFO if settings.access_log else logging.DEBUG,
        clock=clock,
        rest=RestOptions(
            ledger_url=settings.ledger_url,
            reader=_ledger_reader,
            zone=settings.timezone,
            tokens=access.rest,
            cors_origins=settings.rest_cors_origins,
            inquirer=inquirer,
            accounts=tuple(account.name for account in settings.accounts),
        ),
        metrics_tokens=access.metrics,
        mcp_port=mcp_port,
        web_config=access.web_config,
        callers=access.callers_of_rest(settings.allowed_hosts),
        access_files=access.files,
    )


PATIENCE = 4.0
"""Seconds the collector is given to finish; Docker gives the whole ten."""


def _ledger_reader(address: str) -> "LedgerReader":
    """Return a reader of the ledger at an address; its libraries are imported when the first question comes."""
    from exporter.ledger.reader import LedgerReader  # noqa: PLC0415  scrapes are answered before that

    return LedgerReader(address)


class CollectorError(FalExporterError):
    """The collector has given up, or ended without a word."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class CollectorProcess:
    """Starts the collector, passes on what it publishes, and ends it.

    Args:
        patience: seconds the collector is given to finish.

    Attributes:
        inquirer: asks the collector.
    """

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._stopping = False
        self._ours, theirs = Pipe()
        self._control, their_control = socket.socketpair()
        with theirs, their_control:
            descriptors = [theirs.fileno(), their_control.fileno()]
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-m", "exporter.app.collector_process", *map(str, descriptors)], pass_fds=descriptors
            )
        self.inquirer = Inquirer(Channel(self._control).connect)
        self._follower: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The collector's process id."""
        return self._process.pid

    def start(
        self,
        settings: Settings,
        *,
        publish: Callable[[Publication], None],
        ended: Callable[[CollectorError], None],
    ) -> None:
        """Have the collector begin.

        Args:
            settings: what it works by; sent through the pipe, since they hold keys.
            publish: takes each publication, in a thread.
            ended: told, in that thread, why the collector has ended before it was stopped.
        """
        self._say(Begin(settings))
        self._follower = threading.Thread(target=self._follow, args=(publish, ended), name="collector", daemon=True)
        self._follower.start()

    def scraped(self, sequence: int) -> None:
        """Report to the collector that a publication has been scraped; a few bytes, written at once."""
        self._say(Scraped(sequence))

    def stop(self) -> int:
        """Have the collector finish, and kill it if it takes too long.

        Returns:
            The exit code it has ended with; negative, the signal's number, where a signal was its end.
        """
        self._stopping = True
        self._say(Stop())
        try:
            code = self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            _log.warning("the collector did not stop in time; killing it", seconds=self._patience)
            self._process.kill()
            code = self._process.wait()
        if self._follower is not None:
            self._follower.join()
        self._ours.close()
        self._control.close()
        return code

    def _say(self, message: ToCollector) -> None:
        try:
            self._ours.send(message)
        except OSError:
            # It is gone; the thread that reads from it tells why.
            return

    def _follow(self, publish: Callable[[Publication], None], ended: Callable[[CollectorError], None]) -> None:
        receive = Receiving(self._ours)
        try:
            while not isinstance(received := receive(), GaveUp):
                publish(received)
            error = CollectorError(received.sentence, received.exit_code)
        except (EOFError, OSError):
            code = self._process.wait()
            error = CollectorError(
                f"the collector process ended unexpectedly with code {code}; start the exporter again"
            )
        if not self._stopping:
            ended(error)


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
    access = Access.of(settings)
    listener = listen(settings.listen.host, settings.listen.port)
    mcp_listener = listen_for_mcp(settings)
    process = CollectorProcess()
    application = web_application(
        settings,
        on_scrape=process.scraped,
        collector=lambda: process.pid,
        mcp_port=None if mcp_listener is None else mcp_listener.getsockname()[1],
        inquirer=process.inquirer,
        access=access,
    )
    problems: list[CollectorError] = []

    def published(publication: Publication) -> None:
        loop.call_soon_threadsafe(application.publish, publication)

    def ended(problem: CollectorError) -> None:
        problems.append(problem)
        loop.call_soon_threadsafe(stop.set)

    process.start(settings, publish=published, ended=ended)
    host, port = listener.getsockname()[:2]
    _log.info(
        "serving",
        version=__version__,
        address=f"{scheme_of(access.web_config)}://{host}:{port}",
        pid=os.getpid(),
        collector=process.pid,
    )
    serving = asyncio.create_task(serve_web(application, listener, stop, web_config=access.web_config))
    answering = asyncio.create_task(
        serve_mcp(
            settings,
            mcp_listener,
            lambda: application.published,
            stop,
            inquirer=process.inquirer,
            access=access,
        )
    )
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    # The readers of the ledger close first, so that the collector can leave it as one whole file.
    try:
        await asyncio.gather(serving, answering)
    finally:
        await asyncio.to_thread(process.stop)
    if problems:
        raise problems[0]
    _log.info("stopped")
