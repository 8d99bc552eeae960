"""Narration of `serve` in its log: the ledger, the accounts, the history, "ready", and what needs attention."""

import time
from collections.abc import Callable
from typing import TextIO

import structlog

from exporter.overview import AccountOverview
from exporter.publication import Publication
from exporter.web.pages.alerts import alerts
from exporter.web.pages.summary import figure

_log = structlog.get_logger(__name__)

_LINE_INTERVAL = 60.0
"""Seconds between two lines about the history where nobody watches."""

_WIDTH = 30
_CLEAR = "\x1b[2K"


class Narrator:
    """Logs a few lines from the publications.

    Args:
        ledger_url: where the ledger is.
        terminal: shows a moving bar while the history is loaded; None for a line a minute.
        clock: monotonic seconds.
    """

    def __init__(
        self, ledger_url: str, *, terminal: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._place = place_of(ledger_url)
        self._terminal = terminal
        self._clock = clock
        self._started = self._line_at = clock()
        self._is_ledger_told = self._is_loaded = self._is_ready = self._has_bar = False
        self._sources: dict[str, tuple[str, ...]] = {}
        self._remarks: set[tuple[str, str]] = set()
        self._alerts: frozenset[tuple[str, str]] = frozenset()

    def tell(self, publication: Publication) -> None:
        """Log what is new in a publication."""
        overview = publication.overview
        if not self._is_ledger_told:
            self._is_ledger_told = True
            self._say("ledger", place=self._place, charges=overview.charges, series=overview.series)
        for account in overview.accounts:
            self._account(account)
        self._history(publication)
        if publication.ready and not self._is_ready:
            self._is_ready = True
            self._say("ready", seconds=round(self._clock() - self._started, 1))
        if self._is_ready:
            self._attention(publication)

    def _account(self, account: AccountOverview) -> None:
        names = tuple(source.name for source in account.sources)
        if names and self._sources.get(account.name) != names:
            self._sources[account.name] = names
            self._say("polling", account=account.name, sources=", ".join(names))
        for remark in account.remarks:
            if (account.name, remark) not in self._remarks:
                self._remarks.add((account.name, remark))
                self._say("not covered", account=account.name, what=remark)

    def _history(self, publication: Publication) -> None:
        sources = [source for account in publication.overview.accounts for source in account.sources]
        shares = [source.history_progress or 0.0 for source in sources if source.state != "failing"]
        if self._is_loaded or not shares:
            return
        share = min(shares)
        if share >= 1:
            self._is_loaded = True
            month = figure(publication.overview.accounts, "month_to_date")
            self._say("history loaded", charges=publication.overview.charges, month_to_date=month)
        elif self._terminal is not None:
            full = int(_WIDTH * share)
            # The cursor waits at the start, so that the next line of the log takes the place of the bar.
            bar = "#" * full + "-" * (_WIDTH - full)
            self._terminal.write(f"{_CLEAR}loading the history [{bar}] {int(100 * share)}%\r")
            self._terminal.flush()
            self._has_bar = True
        elif self._clock() - self._line_at >= _LINE_INTERVAL:
            self._line_at = self._clock()
            self._say("loading the history", percent=int(100 * share))

    def _attention(self, publication: Publication) -> None:
        """Log alerts that are new, and those that have ended, once each."""
        # The collector itself logs what is wrong with a source.
        now = [alert for alert in alerts(publication, publication.at) if alert.kind != "source"]
        found = {alert.key: alert for alert in now}
        for key in sorted(found.keys() - self._alerts):
            alert = found[key]
            event = "worth knowing" if alert.severity == "noted" else "needs attention"
            self._say(event, is_urgent=alert.severity == "bad", about=alert.about, what=alert.told)
        for about, what in sorted(self._alerts - found.keys()):
            self._say("no longer needs attention", about=about, what=what)
        self._alerts = frozenset(found)

    def _say(self, event: str, *, is_urgent: bool = False, **fields: object) -> None:
        if self._has_bar and self._terminal is not None:
            self._terminal.write(_CLEAR)
            self._terminal.flush()
            self._has_bar = False
        (_log.warning if is_urgent else _log.info)(event, **fields)


def place_of(ledger_url: str) -> str:
    """Return where a ledger is, without user and password."""
    scheme, _, rest = ledger_url.partition("://")
    if scheme == "sqlite":
        return ledger_url.removeprefix("sqlite:///")
    servers, slash, name = rest.partition("?")[0].partition("/")
    return f"{scheme}://{servers.rpartition('@')[2]}{slash}{name}"
