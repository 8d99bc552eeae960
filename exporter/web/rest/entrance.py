"""Entrance to REST: what is known of it before anybody asks, which paths it has, what it is made of and who may ask."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from starlette.types import ASGIApp

from exporter.inquiry import Inquirer
from exporter.logs import Secret
from exporter.settings.credentials import TokenFile
from exporter.web.auth import guarded

if TYPE_CHECKING:
    from exporter.events.store import EventReader
    from exporter.ledger.reader import LedgerReader

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
