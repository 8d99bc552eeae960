"""Entrance to REST: what is known of it before anybody asks, which paths it has and who may ask.

Its application, with the models of all documents and the library that they are made with, takes 13 MiB and a third of a
second of processor time. So it is imported with the first question, in a thread, and an exporter that is only scraped
never has it.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.charges import Clock
from exporter.inquiry import Inquirer
from exporter.logs import Secret
from exporter.publication import Publication
from exporter.settings.credentials import TokenFile
from exporter.web.auth import RETRY, Refusal, guarded

if TYPE_CHECKING:
    from exporter.events.store import EventReader
    from exporter.ledger.reader import LedgerReader
    from exporter.web.rest.application import Rest

_log = structlog.get_logger(__name__)

OPENAPI = "/openapi.json"
DOCS = "/docs"

MISSING_HOURS = "fal-exporter-missing-hours"
"""Header that counts hours of the window that have not been read to their end of every source."""

ANSWERED_BY = "fal-exporter-answered-by"
"""Header that names who has made the file: `ledger`, or `fal`."""

READ_AT = "fal-exporter-read-at"
"""Header that says when a report of fal's own was read from fal."""

NOTE = "fal-exporter-note"
"""Header with a sentence on what the file is made of, where that does not go without saying."""

FOCUS_HEADERS = (MISSING_HOURS, ANSWERED_BY, READ_AT, NOTE)
"""Headers of a FOCUS file."""


def is_of_rest(path: str) -> bool:
    """Return whether a path is one of REST's."""
    return path in {OPENAPI, DOCS, "/v1"} or path.startswith(("/v1/", f"{DOCS}/"))


@dataclass(frozen=True, slots=True)
class RestOptions:
    """Options of the REST application.

    Attributes:
        ledger_url: of the ledger.
        reader: opens the ledger; called in a thread when the first question comes, and once.
        zone: the configured time zone.
        tokens: who may ask; None for everybody.
        cors_origins: web pages that may ask from a browser; `*` is any.
        inquirer: asks the collector; None where there is none.
        accounts: those that are polled.
        requests: returns the store of single requests; called in a thread. None where they are not read.
    """

    ledger_url: Secret
    reader: Callable[[str], "LedgerReader"]
    zone: ZoneInfo
    tokens: TokenFile | None = None
    cors_origins: tuple[str, ...] = ()
    inquirer: Inquirer | None = None
    accounts: Collection[str] = ()
    requests: "Callable[[], EventReader] | None" = None

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return an application that answers those who may ask."""
        app = guarded(app, self.tokens)
        if not self.cors_origins:
            return app
        from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415  only where pages of others may ask

        # Outermost, as a browser asks for leave without a token.
        return CORSMiddleware(
            app,
            allow_origins=self.cors_origins,
            allow_methods=("GET", "HEAD"),
            allow_headers=("Authorization", "If-None-Match"),
            expose_headers=("ETag", "Retry-After", "WWW-Authenticate", *FOCUS_HEADERS),
        )


class RestOnDemand:
    """Answers the calls by an application that is imported when the first of them comes.

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
