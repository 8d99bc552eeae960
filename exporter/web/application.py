"""ASGI application: `/metrics` by a short path, REST, the landing page and the probes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter import __version__
from exporter.charges import Clock, utc_now
from exporter.overview import LedgerOverview
from exporter.publication import Publication
from exporter.settings.credentials import TokenFile
from exporter.web.admission import Admission, WebConfigFile
from exporter.web.auth import RETRY, Refusal, guarded
from exporter.web.callers import Callers
from exporter.web.metrics import AccessFile, Metrics, Tail
from exporter.web.pages import LandingPage
from exporter.web.pages.text import page_text
from exporter.web.rest.entrance import RestOptions, is_of_rest
from exporter.web.server import AccessLog

if TYPE_CHECKING:
    from exporter.web.rest.application import Rest

_log = structlog.get_logger(__name__)

METRICS = "/metrics"
LANDING = "/"

NOT_READY = "not ready: the current month has not been loaded yet; the landing page shows the progress\n"

UNHEALTHY = (
    "unhealthy: the ledger has been replaced under the exporter; a restart continues with the one that is there now\n"
)
HEALTHY_WITHOUT_LEDGER = (
    "healthy, but the ledger cannot be used, which a restart would not change; the log and the landing page say why\n"
)


def _no_collector() -> int | None:
    return None


def _unheard(_: int) -> None:
    pass


class RestOnDemand:
    """Answers the calls of REST by their own application, which is imported when the first of them comes.

    With the models of all documents and the library that they are made with, it takes 13 MiB and a third of a second of
    processor time. So it is imported in a thread, and an exporter that is only scraped never has it.

    Args:
        options: what it is made of.
        published: returns the latest publication; None before the first.
        clock: returns the present.
    """

    def __init__(self, options: RestOptions, *, published: Callable[[], Publication | None], clock: Clock) -> None:
        self._options = options
        self._published = published
        self._clock = clock
        self._importing: asyncio.Future[Rest] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # One that ceases to wait does not end the import for the others; a failed one is tried again.
        if self._importing is None or (self._importing.done() and self._importing.exception() is not None):
            self._importing = asyncio.ensure_future(self._imported())
        try:
            application = await asyncio.shield(self._importing)
        except (ImportError, MemoryError, OSError) as error:
            # As where too many files are open, or a disk cannot be read.
            _log.error("REST cannot be loaded; the next question tries again", error=f"{type(error).__name__}: {error}")
            refused = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "REST cannot be loaded now; see the log", headers=RETRY)
            await refused.send(send)
            return
        await application(scope, receive, send)

    async def _imported(self) -> "Rest":
        kind: type[Rest] = (await asyncio.to_thread(import_module, "exporter.web.rest.application")).Rest
        return kind(self._options, published=self._published, clock=self._clock)

    def close(self) -> None:
        """Take no more questions and let go of the ledger."""
        if self._importing is None:
            return
        if not self._importing.done():
            self._importing.cancel()
        elif not self._importing.cancelled() and self._importing.exception() is None:
            self._importing.result().close()


class Application:
    """Serves the latest publication; before the first, the exporter's own families and an empty page.

    Args:
        on_scrape: is told the number of a publication once a scrape has been answered from it.
        on_protobuf: is told that protobuf was asked for, where publications lack it.
        collector: tells the process id of the collector, for its process metrics; None where there is none.
        collector_problem: tells why a restart would help the collector, in a sentence; empty while it would not.
        access_level: the level that requests are logged at.
        clock: tells the instants the page is written for.
        tail_interval: seconds between two readings of the process tables.
        rest: what REST is made of; None for none.
        metrics_tokens: who may scrape; None for everybody.
        mcp_port: where agents ask, for the landing page; None where they cannot.
        web_config: users, headers and the rate limit of all that is served; None for none.
        callers: refuses those without credentials who ask for figures; None for none.
        access_files: the files that say who may ask, by their settings.
    """

    def __init__(
        self,
        *,
        on_scrape: Callable[[int], None] = _unheard,
        on_protobuf: Callable[[], None] = lambda: None,
        collector: Callable[[], int | None] = _no_collector,
        collector_problem: Callable[[], str] = str,
        access_level: int = logging.DEBUG,
        clock: Clock = utc_now,
        tail_interval: float = 1.0,
        rest: RestOptions | None = None,
        metrics_tokens: TokenFile | None = None,
        mcp_port: int | None = None,
        web_config: WebConfigFile | None = None,
        callers: Callers | None = None,
        access_files: Mapping[str, AccessFile] = MappingProxyType({}),
    ) -> None:
        self._tail = Tail(version=__version__, collector=collector, access_files=access_files)
        self._collector_problem = collector_problem
        self._tail_interval = tail_interval
        self._metrics = Metrics(
            self._tail.rendered(), on_scrape=on_scrape, on_protobuf=on_protobuf, count=self._tail.scraped
        )
        self._clock = clock
        self._access_files = access_files
        self._page = LandingPage(clock, mcp_port, self._broken_files)
        self._published: Publication | None = None
        self._ready = False
        self._access = AccessLog(access_level)
        endpoints = {
            LANDING: self._landing,
            "/-/healthy": self._health,
            "/healthz": self._health,
            "/-/ready": self._readiness,
            "/readyz": self._readiness,
        }
        self._pages = Starlette(
            routes=[Route(path, endpoint) for path, endpoint in endpoints.items()], lifespan=self._lifespan
        )
        self._rest = None if rest is None else RestOnDemand(rest, published=lambda: self._published, clock=clock)
        self._scraping = guarded(self._scrape, metrics_tokens)
        self._callers = callers
        self._guards_metrics = metrics_tokens is not None
        self._guards_figures = rest is not None and rest.tokens is not None
        self._admitted: ASGIApp = (
            self._answer if web_config is None else Admission(self._answer, web_config, has_tokens=self._has_tokens)
        )
        self._figures = self._tell_figures if rest is None else rest.wrap(self._tell_figures)

    def _broken_files(self) -> tuple[str, ...]:
        return tuple(setting for setting, file in self._access_files.items() if file.problem)

    @property
    def published(self) -> Publication | None:
        """The publication that is served; None before the first."""
        return self._published

    def publish(self, publication: Publication) -> None:
        """Serve a publication from now on; to be called on the event loop.

        Readiness once reached stays: the last snapshot is served while fal is away.
        """
        self._published = publication
        self._ready = self._ready or publication.ready
        replicas = publication.overview.replicas
        self._tail.published(
            publication.at,
            ready=self._ready,
            role=publication.role,
            problems=() if replicas is None else replicas.problems,
            owned=None if replicas is None else replicas.owned,
        )
        self._metrics.publish(publication.sequence, publication.exposition)

    def collector_restarted(self) -> None:
        """Count a new start of the collector after a sudden end."""
        self._tail.collector_restarted()

    def config_reloaded(self, *, is_good: bool) -> None:
        """Show whether the configuration could be read when it was read last."""
        self._tail.config_reloaded(is_good=is_good)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's start and end."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
        else:
            await self._access.watch(self._admitted, scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == METRICS:
            await self._scraping(scope, receive, send)
        elif path == LANDING or (self._rest is not None and is_of_rest(path)):
            await self._figures(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    def _has_tokens(self, path: str) -> bool:
        if path == METRICS:
            return self._guards_metrics
        return self._guards_figures and (path == LANDING or (self._rest is not None and is_of_rest(path)))

    async def _scrape(self, scope: Scope, _: Receive, send: Send) -> None:
        await self._metrics(scope, send)

    async def _tell_figures(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what tokens guard: REST, and the landing page, which shows the same."""
        refused = None if self._callers is None else self._callers.refusal(scope)
        if refused is not None:
            await refused.send(send)
            return
        told: ASGIApp = self._pages if self._rest is None or scope["path"] == LANDING else self._rest
        await told(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        refreshing = asyncio.create_task(self._keep_tail_fresh())
        try:
            yield
        finally:
            refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await refreshing
            if self._rest is not None:
                self._rest.close()

    async def _keep_tail_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._tail_interval)
            self._metrics.refresh(await asyncio.to_thread(self._tail.rendered))

    async def _landing(self, request: Request) -> Response:
        refresh = request.query_params.get("refresh", "")
        # In a thread, so that no scrape waits for the page.
        accept = request.headers.get("accept", "")
        if "text/plain" in accept and "text/html" not in accept:
            text = await asyncio.to_thread(
                page_text, self._published, self._clock(), ready=self._ready, broken_files=self._broken_files()
            )
            return PlainTextResponse(text, headers=_UNCACHED | {"vary": "Accept"})
        search = request.query_params.get("account", "").strip()
        html = await asyncio.to_thread(
            self._page.html, self._published, ready=self._ready, refresh=refresh, search=search
        )
        return HTMLResponse(html, headers=self._page.headers)

    async def _health(self, _: Request) -> Response:
        """Return whether a restart would help; a process that holds what is lost elsewhere is not to be restarted."""
        ledger = LedgerOverview() if self._published is None else self._published.overview.ledger
        if problem := self._collector_problem():
            text = f"unhealthy: {problem}; restart the exporter\n"
            return PlainTextResponse(text, status_code=503, headers=_UNCACHED)
        if ledger.problem and ledger.restart_helps:
            return PlainTextResponse(UNHEALTHY, status_code=503, headers=_UNCACHED)
        return PlainTextResponse(HEALTHY_WITHOUT_LEDGER if ledger.problem else "healthy\n", headers=_UNCACHED)

    async def _readiness(self, _: Request) -> Response:
        if self._ready:
            return PlainTextResponse("ready\n", headers=_UNCACHED)
        return PlainTextResponse(NOT_READY, status_code=503, headers=_UNCACHED)


_UNCACHED = {"cache-control": "no-store"}
