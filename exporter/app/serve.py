"""`fal-exporter serve`: this process serves what the collector process publishes.

The collector is a process of its own, kept running by `supervision`; its publications come through a pipe. The web
application of this process is made from the settings (`web_application`). SIGHUP has the configuration read again.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import structlog
import uvloop

from exporter import __version__
from exporter.app.access import Access
from exporter.app.mcp import listen_for_mcp, serve_mcp
from exporter.app.narration import Narrator
from exporter.app.reloading import Reloader, Reread
from exporter.app.supervision import Supervisor
from exporter.charges import Clock, utc_now
from exporter.events.store import EventReader, SharedReader
from exporter.inquiry import Inquirer
from exporter.logs import Secret
from exporter.publication import Publication
from exporter.web.application import Application
from exporter.web.rest.entrance import RestOptions
from exporter.web.server import listen, scheme_of, serve_web

if TYPE_CHECKING:
    from exporter.ledger.reader import LedgerReader
    from exporter.settings import Settings

_log = structlog.get_logger(__name__)


def web_application(
    settings: "Settings",
    *,
    on_scrape: Callable[[int], None],
    on_protobuf: Callable[[], None],
    collector: Callable[[], int | None] = lambda: None,
    clock: Clock = utc_now,
    collector_problem: Callable[[], str] = str,
    mcp_port: int | None = None,
    inquirer: Inquirer | None = None,
    access: Access | None = None,
    accounts: Collection[str] | None = None,
    requests: Callable[[], EventReader] | None = None,
) -> Application:
    """Return the application of everything that is served on `listen`; see `Application` and `RestOptions`.

    Raises:
        ConfigurationError: a file of tokens cannot be used.
    """
    access = access or Access.of(settings)
    return Application(
        on_scrape=on_scrape,
        on_protobuf=on_protobuf,
        collector=collector,
        collector_problem=collector_problem,
        access_level=logging.INFO if settings.access_log else logging.DEBUG,
        clock=clock,
        rest=RestOptions(
            ledger_url=settings.ledger_url,
            reader=partial(_ledger_reader, standby=settings.ledger_read_url),
            zone=settings.timezone,
            tokens=access.rest,
            cors_origins=settings.rest_cors_origins,
            inquirer=inquirer,
            accounts=tuple(account.name for account in settings.accounts) if accounts is None else accounts,
            requests=requests,
        ),
        metrics_tokens=access.metrics,
        mcp_port=mcp_port,
        web_config=access.web_config,
        callers=access.callers_of_rest(settings.allowed_hosts),
        access_files=access.files,
    )


def _ledger_reader(address: str, *, standby: Secret | None = None) -> "LedgerReader":
    """Return a reader of the ledger or its standby; its libraries are imported when the first question comes."""
    from exporter.ledger.reader import LedgerReader  # noqa: PLC0415  scrapes are answered before that

    gc.freeze()
    return LedgerReader(address, standby=None if standby is None else standby.get_secret_value())


_SWITCH_SECONDS = 0.0005
"""For so long a thread that makes an answer goes on while a scrape waits, a tenth of what Python has by default."""

_ALLOCATIONS = 10_000
"""Objects that are made until garbage is looked for among the newest: an answer has thousands, none of them garbage."""

_LONGEST_END = 4.6
"""Seconds after a signal to stop at which the process ends, whatever it is still doing."""


def run_serve(settings: "Settings", reread: Reread) -> int:
    """Serve until SIGTERM or SIGINT, and read the configuration again at SIGHUP; return the exit code.

    Raises:
        ConfigurationError: the address cannot be listened on.
        CollectorError: the collector gave up, for example because the ledger cannot be opened.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Libraries stay: looking for garbage among them, too, would hold up scrapes for 50 ms every few dozen questions.
    gc.set_threshold(_ALLOCATIONS)
    gc.freeze()
    gc.enable()
    requests = SharedReader(settings.requests_url) if settings.requests_url else None
    try:
        uvloop.run(_serve(settings, reread, requests))
    finally:
        if requests is not None:
            requests.close()
    return 0


async def _serve(settings: "Settings", reread: Reread, requests: SharedReader | None) -> None:
    loop = asyncio.get_running_loop()
    stop, hung_up = asyncio.Event(), asyncio.Event()

    def end() -> None:
        if not stop.is_set():
            supervisor.expect_end()
            threading.Thread(target=_end_in_time, args=(supervisor,), daemon=True).start()
        stop.set()

    def publish(publication: Publication) -> None:
        application.publish(publication)
        narrator.tell(publication)

    def restarted() -> None:
        application.collector_restarted()

    is_watched = settings.log_format == "text" and sys.stderr.isatty()
    narrator = Narrator(settings.ledger_url.get_secret_value(), terminal=sys.stderr if is_watched else None)
    supervisor = Supervisor(settings, publish=publish, restarted=restarted)

    def on_signal(call: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        def handle(_: int, __: FrameType | None) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(call)

        return handle

    # Not the loop's handlers: it takes them back when it is closed, and the next signal would kill what is ending well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal(end))
    signal.signal(signal.SIGHUP, on_signal(hung_up.set))
    access = Access.of(settings)
    listener = listen(settings.listen.host, settings.listen.port)
    mcp_listener = listen_for_mcp(settings)
    accounts = [account.name for account in settings.accounts]
    application = web_application(
        settings,
        on_scrape=supervisor.scraped,
        on_protobuf=supervisor.write_protobuf,
        collector=lambda: supervisor.pid,
        collector_problem=lambda: supervisor.problem,
        mcp_port=None if mcp_listener is None else mcp_listener.getsockname()[1],
        inquirer=supervisor.inquirer,
        access=access,
        accounts=accounts,
        requests=requests,
    )
    host, port = listener.getsockname()[:2]
    url = f"{scheme_of(access.web_config)}://{host}:{port}"
    _log.info("serving", version=__version__, address=url, pid=os.getpid())
    keeping = asyncio.create_task(supervisor.run())
    reloader = Reloader(settings, reread, supervisor.change, accounts, application.config_reloaded)
    reloading = asyncio.create_task(reloader.run(hung_up))
    serving = asyncio.create_task(serve_web(application, listener, stop, web_config=access.web_config))
    answering = asyncio.create_task(
        serve_mcp(
            settings,
            mcp_listener,
            lambda: application.published,
            stop,
            inquirer=supervisor.inquirer,
            access=access,
            requests=requests,
        )
    )
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping, keeping), return_when=asyncio.FIRST_COMPLETED)
    supervisor.expect_end()
    stop.set()
    # The readers of the ledger close first, so that the collector can leave it as one whole file.
    try:
        await asyncio.gather(serving, answering)
    finally:
        for task in (keeping, reloading):
            task.cancel()
        await asyncio.gather(keeping, reloading, return_exceptions=True)
        await supervisor.stop()
    if not keeping.cancelled():
        raise keeping.result()
    _log.info("stopped")


def _end_in_time(supervisor: Supervisor) -> None:
    """End this process and the collector when they have not ended in time, as nothing is lost by that."""
    time.sleep(_LONGEST_END)
    _log.warning("the exporter did not stop in time and ends now", seconds=_LONGEST_END)
    supervisor.kill()
    os._exit(0)
