"""The whole document. It loads nothing from outside, runs nothing, and is written once for a publication and minute."""

from datetime import datetime
from typing import NamedTuple

from exporter import __version__
from exporter.charges import Clock
from exporter.metrics.publication import Publication
from exporter.web.dress import document, safe_headers, style
from exporter.web.landing.alarms import alarms, banner
from exporter.web.landing.budgets import budgets
from exporter.web.landing.chart import chart
from exporter.web.landing.figures import accounts_table, figures
from exporter.web.landing.marks import badge, stamp
from exporter.web.landing.rankings import rankings
from exporter.web.landing.sources import sources
from exporter.web.markup import Markup, fill, join
from exporter.web.wording import span

_REFRESH_SECONDS = range(1, 3601)
_STARTING_SECONDS = 2


class _Written(NamedTuple):
    """What the publication's part of the page was written from, and that part."""

    publication: Publication
    minute: datetime
    body: Markup


class LandingPage:
    """Writes the page.

    Args:
        clock: tells the present; the exporter's uptime is counted from the first reading.
        mcp_port: where agents ask; None where they cannot.
    """

    def __init__(self, clock: Clock, mcp_port: int | None = None) -> None:
        self._clock = clock
        self._started_at = clock()
        self._style = style("landing.css", "landing/page.css")
        self._mcp = Markup() if mcp_port is None else fill("<li>MCP: port {port}, /mcp</li>", port=mcp_port)
        self._written: _Written | None = None
        self.headers = {**safe_headers(self._style), "cache-control": "no-store"}

    def html(self, publication: Publication | None, *, ready: bool, refresh: str = "") -> str:
        """Return the whole document.

        Args:
            publication: what is served; None before the first.
            ready: what the readiness probe answers.
            refresh: seconds after which the browser shall ask again, as the user wrote them; ignored unless 1 to 3600.
                Before the first publication the page follows by itself.
        """
        now = self._clock()
        seconds = int(refresh) if refresh.isascii() and refresh.isdigit() and len(refresh) <= 4 else 0  # noqa: PLR2004
        if publication is None:
            seconds = _STARTING_SECONDS
        again = seconds in _REFRESH_SECONDS
        links = () if publication is None else publication.overview.links
        return document(
            title="fal-exporter",
            heading="fal-exporter",
            subtitle="What fal charges you",
            status=fill(
                "{state}<span>version {version}</span><span>up {uptime}</span>",
                state=badge("up", "Ready") if ready else badge("waiting", "Starting"),
                version=__version__ if publication is None else publication.overview.version,
                uptime=span((now - self._started_at).total_seconds()),
            ),
            css=self._style,
            main=_BEFORE if publication is None else self._body(publication, now),
            footer=fill(
                _FOOTER,
                mcp=self._mcp,
                links=join(fill('<li><a href="{url}">{title}</a></li>', title=title, url=url) for title, url in links),
                other=Markup() if publication is None else _STAY if again else _FOLLOW,
            ),
            head=fill('<meta http-equiv="refresh" content="{seconds}">', seconds=seconds) if again else Markup(),
        )

    def _body(self, publication: Publication, now: datetime) -> Markup:
        """Return what changes with the publication and, as it tells how long ago things were, with the minute."""
        minute = now.replace(second=0, microsecond=0)
        written = self._written
        if written is None or written.publication is not publication or written.minute != minute:
            written = self._written = _Written(publication, minute, _body(publication, now))
        return written.body


def _body(publication: Publication, now: datetime) -> Markup:
    overview, outlook = publication.overview, publication.outlook
    return fill(
        _BODY,
        notes=join(fill('<p class="note">{note}</p>', note=note) for note in overview.notes),
        banner=banner(alarms(publication, now), overview.accounts),
        figures=figures(publication, now),
        budgets=budgets(outlook.budgets, now),
        chart=chart(overview.daily),
        rankings=rankings(overview.rankings),
        accounts=accounts_table(publication),
        sources=sources(overview.accounts, now),
        count=f"{len(overview.accounts)} account{'' if len(overview.accounts) == 1 else 's'}",
        series=f"{overview.series:,}",
        charges=f"{overview.charges:,}",
        at=stamp(publication.at, now),
    )


_BEFORE = Markup('<p class="note" role="status">The first snapshot is being made: figures appear here in a moment.</p>')
_FOLLOW = Markup('<a href="/?refresh=5">refresh every 5 s</a>')
_STAY = Markup('<a href="/">stop refreshing</a>')

_BODY = """\
{notes}
{banner}
{figures}
<div class="pair">
{chart}
{budgets}
</div>
{rankings}
{accounts}
{sources}
<p class="summary">{count} · {series} series · {charges} hourly charges in the ledger · as of {at}</p>
"""

_FOOTER = """\
<nav aria-label="Endpoints"><ul>
<li><a class="main" href="/metrics">/metrics</a></li>
<li><a href="/docs">REST</a></li>
{mcp}
<li><a href="/-/healthy">/-/healthy</a></li>
<li><a href="/-/ready">/-/ready</a></li>
{links}
</ul></nav>
<p>{other}</p>
"""
