"""Reloads: SIGHUP has the configuration read again, and the collector work by it without a gap in what is served.

A new collector takes the place of the one that runs. Where the configuration cannot be used, or the new collector
cannot begin, the former configuration stays in use; the log and a metric say so.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from exporter.errors import FalExporterError
from exporter.settings.parsing import environment_name

if TYPE_CHECKING:
    from exporter.settings import Settings

_log = structlog.get_logger(__name__)

FIXED = frozenset(
    {
        "listen",
        "mcp_listen",
        "mcp_allowed_hosts",
        "mcp_tokens_file",
        "rest_tokens_file",
        "rest_cors_origins",
        "metrics_tokens_file",
        "web_config_file",
        "open",
        "allowed_hosts",
        "ledger_url",
        "ledger_read_url",
        "timezone",
        "access_log",
    }
)
"""Settings of this process, which only a restart changes. What is in the files they name is read again by itself."""

Reread = Callable[[], "Settings"]
"""Reads the configuration again and logs by it.

Raises:
    ConfigurationError: it cannot be used.
"""


class Reloaded(Protocol):
    """Is told whether the configuration could be read."""

    def __call__(self, *, is_good: bool) -> None:
        """Note it."""


@dataclass(slots=True)
class Reloader:
    """Reads the configuration again when it is told to.

    Attributes:
        settings: what is in use.
        reread: reads the configuration.
        change: has the collector work by other settings; returns why it could not.
        accounts: names of the accounts that are polled, kept up to date.
        reloaded: told of every read, that of the start included.
    """

    settings: "Settings"
    reread: Reread
    change: Callable[["Settings"], Awaitable[FalExporterError | None]]
    accounts: list[str]
    reloaded: Reloaded

    async def run(self, hung_up: asyncio.Event) -> None:
        """Reload whenever an event is set, until cancelled."""
        self.reloaded(is_good=True)
        while True:
            await hung_up.wait()
            hung_up.clear()
            problem = await self._reload()
            if problem is not None:
                _log.error("the configuration could not be reloaded; the former one stays in use", problem=str(problem))
            self.reloaded(is_good=problem is None)

    async def _reload(self) -> FalExporterError | None:
        try:
            wanted = _keep_fixed(self.settings, await asyncio.to_thread(self.reread))
        except FalExporterError as error:
            return error
        has_changed = wanted != self.settings
        if has_changed and (problem := await self.change(wanted)) is not None:
            return problem
        self.settings = wanted
        self.accounts[:] = [account.name for account in wanted.accounts]
        _log.info("the configuration has been reloaded", has_changed=has_changed)
        return None


def _keep_fixed(settings: "Settings", wanted: "Settings") -> "Settings":
    """Return other settings with those of this process as they are, and log which of them have changed."""
    changed = sorted(field for field in FIXED if getattr(settings, field) != getattr(wanted, field))
    if changed:
        _log.warning(
            "these settings take effect only with a restart", settings=", ".join(map(environment_name, changed))
        )
    return wanted.model_copy(update={field: getattr(settings, field) for field in FIXED})
