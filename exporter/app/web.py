"""The right half: the web application as the settings have it."""

import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path

import structlog

from exporter.app import ledger_reader
from exporter.charges import Clock, utc_now
from exporter.settings import Settings
from exporter.settings.tokens import TokenFile
from exporter.web.asgi import Application
from exporter.web.rest.application import RestOptions

_log = structlog.get_logger(__name__)


def web_application(
    settings: Settings,
    *,
    on_scrape: Callable[[int], None],
    collector: Callable[[], int | None] = lambda: None,
    clock: Clock = utc_now,
    mcp_port: int | None = None,
) -> Application:
    """Return the application of everything that is served on `listen`; see `Application` for the arguments.

    Raises:
        ConfigurationError: a file of tokens cannot be used.
    """
    if settings.rest_tokens_file is None and not _is_loopback(settings.listen.host):
        _log.warning(
            "REST and the landing page tell everybody who gets here what is spent; set FAL_EXPORTER_REST_TOKENS_FILE, "
            "or listen on 127.0.0.1",
            listen=str(settings.listen),
        )
    return Application(
        on_scrape=on_scrape,
        collector=collector,
        access_level=logging.INFO if settings.access_log else logging.DEBUG,
        clock=clock,
        rest=RestOptions(
            ledger_url=settings.ledger_url,
            reader=ledger_reader,
            zone=settings.timezone,
            tokens=_tokens(settings.rest_tokens_file),
            cors_origins=settings.rest_cors_origins,
        ),
        metrics_tokens=_tokens(settings.metrics_tokens_file),
        mcp_port=mcp_port,
    )


def _tokens(path: Path | None) -> TokenFile | None:
    return None if path is None else TokenFile(path)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
