"""The landing page, written once for a publication and minute.

What has cost most this month: models, apps and GPU classes, with their share of everything.

How far the data reach, source by source.

The budgets as bars: spend, forecast with its band, thresholds and limit.

The whole document. It loads nothing from outside, runs nothing, and is written once for a publication and minute.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction
from typing import NamedTuple

from exporter import __version__
from exporter.charges import Clock
from exporter.forecasting.state import BudgetOutlook
from exporter.publication import AccountOverview, Publication, Ranking, SourceOverview
from exporter.web.pages.alerts import alarms, banner
from exporter.web.pages.formatting import dollars, span
from exporter.web.pages.layout import UNKNOWN, Markup, badge, document, fill, join, percent, stamp
from exporter.web.pages.rendering import HEADERS, STYLESHEET
from exporter.web.pages.summary import accounts_table, chart, figures

_TITLES = {"model": "Top models", "app": "Top apps", "gpu_class": "GPU classes"}


def rankings(found: Iterable[Ranking]) -> Markup:
    """Return a card for each ranking that has anything in it."""
    cards = [_card(it) for it in found if it.top]
    return fill('<div class="rankings">{cards}</div>', cards=join(cards)) if cards else Markup()


def _card(ranking: Ranking) -> Markup:
    most = max(ranking.other, *(amount for _, amount in ranking.top))
    rows = [_ranking_row(name, amount, ranking.total, most) for name, amount in ranking.top]
    if ranking.others:
        rows.append(_ranking_row(f"{ranking.others:,} more", ranking.other, ranking.total, most, "rest"))
    return fill(_CARD, title=_TITLES[ranking.label], rows=join(rows))


def _ranking_row(name: str, amount: int, total: int, most: int, mark: str = "") -> Markup:
    share = percent(amount, total)
    return fill(
        _RANKING_ROW,
        name=name,
        amount=dollars(amount),
        share="<0.1 %" if amount > 0 and share < 0.1 else f"{share:.1f} %",  # noqa: PLR2004
        width=percent(amount, most),
        mark=mark,
    )


_CARD = """\
<section>
<h2>{title} <small>this month</small></h2>
<ol class="ranking">
{rows}
</ol>
</section>
"""

_RANKING_ROW = """\
<li class="{mark}"><span class="name" title="{name}">{name}</span>
<span class="cost">{amount} <small>{share}</small></span>
<svg height="6" aria-hidden="true"><rect class="track" width="100%" height="6" rx="3"/>
<rect class="spent" width="{width}%" height="6" rx="3"/></svg></li>
"""

_STATES = {"waiting": "Waiting", "up": "Up", "failing": "Failing"}
_FEW = 4
"""Accounts whose sources are shown without being asked for."""


def sources(accounts: tuple[AccountOverview, ...], now: datetime) -> Markup:
    """Return the section; folded up where there are many accounts."""
    rows = join(_source_row(account.name, it, now) for account in accounts for it in account.sources)
    if not rows:
        return Markup()
    return fill(_SOURCES_SECTION, open=Markup(" open") if len(accounts) <= _FEW else Markup(), rows=rows)


def _source_row(account: str, source: SourceOverview, now: datetime) -> Markup:
    return fill(
        _SOURCE_ROW,
        account=account,
        name=source.name,
        chosen=source.chosen,
        state=badge(source.state, _STATES[source.state]),
        last_success=stamp(source.last_success_at, now),
        data_through=stamp(source.data_through, now),
        settled_through=stamp(source.settled_through, now),
        history=_progress(source.history_progress, f"{account}, {source.name}"),
    )


def _progress(progress: float | None, of: str) -> Markup:
    if progress is None:
        return UNKNOWN
    return fill(
        '<span class="progress"><progress max="100" value="{percent}" aria-label="history of {of}"></progress>'
        "{percent} %</span>",
        percent=int(100 * min(max(progress, 0.0), 1.0)),
        of=of,
    )


_SOURCES_SECTION = """\
<section>
<details{open}><summary><h2>How far the data reach</h2></summary>
<table role="table">
<caption>Sources</caption>
<thead><tr role="row"><th role="columnheader" scope="col">Source</th><th role="columnheader" scope="col">State</th>
<th role="columnheader" scope="col">Last success</th><th role="columnheader" scope="col">Data through</th>
<th role="columnheader" scope="col">Settled through</th><th role="columnheader" scope="col">History</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</details>
</section>
"""

_SOURCE_ROW = """\
<tr role="row"><th role="rowheader" scope="row">{account} · {name}<small>{chosen}</small></th>
<td role="cell" data-title="State">{state}</td>
<td role="cell" data-title="Last success">{last_success}</td>
<td role="cell" data-title="Data through">{data_through}</td>
<td role="cell" data-title="Settled through">{settled_through}</td>
<td role="cell" data-title="History">{history}</td></tr>
"""


def remarks(accounts: tuple[AccountOverview, ...]) -> Markup:
    """Return the section on what the figures lack; nothing where they lack nothing."""
    items = [
        fill("<li><strong>{account}</strong> {remark}</li>", account=account.name, remark=remark)
        for account in accounts
        for remark in account.remarks
    ]
    return fill(_REMARKS_SECTION, items=join(items)) if items else Markup()


_REMARKS_SECTION = """\
<section class="remarks">
<h2>What these figures do not include</h2>
<ul>{items}</ul>
</section>
"""


def budgets(found: Iterable[BudgetOutlook], now: datetime) -> Markup:
    """Return the section; nothing where there are no budgets."""
    rows = [_budget(it, now) for it in found]
    return fill(_BUDGETS_SECTION, rows=join(rows)) if rows else Markup()


def _budget(budget: BudgetOutlook, now: datetime) -> Markup:
    spend, forecast, limit = budget.spend, budget.forecast, budget.limit
    whole = max(limit, spend or 0, forecast.high if forecast else 0) * 105 // 100
    reached = [it for it in budget.thresholds if spend is not None and spend >= it * limit]
    state = "over" if spend is not None and spend > limit else "near" if reached else ""
    if spend is None:
        told = f"not yet, of {dollars(limit)}"
    else:
        told = f"{dollars(spend)} of {dollars(limit)}, {_share(spend, limit)}"
    return fill(
        _BUDGET,
        name=budget.budget,
        period=f"{budget.period}, {span((budget.window.end - now.astimezone(UTC)).total_seconds())} left",
        told=told,
        state=state,
        track=percent(limit, whole),
        spent=percent(spend or 0, whole),
        band=fill(
            _BAND,
            low=percent(forecast.low, whole),
            width=round(percent(forecast.high, whole) - percent(forecast.low, whole), 2),
            expected=percent(forecast.expected, whole),
        )
        if forecast
        else Markup(),
        thresholds=join(fill(_TICK, mark="threshold", at=_place(it, limit, whole)) for it in budget.thresholds),
        limit=fill(_TICK, mark="limit", at=percent(limit, whole)),
        forecast=f"forecast {dollars(forecast.expected)} ({dollars(forecast.low)} to {dollars(forecast.high)})"
        if forecast
        else "no forecast yet",
    )


def _place(threshold: Fraction, limit: int, whole: int) -> float:
    return percent(round(threshold * limit), whole)


def _share(spend: int, limit: int) -> str:
    return f"{100 * spend // limit} %" if limit > 0 else "no limit"


_BAND = """\
<rect class="band" x="{low}%" y="5" width="{width}%" height="10"/>
<svg x="{expected}%" overflow="visible"><rect class="expected" x="-1.5" y="2" width="3" height="16" rx="1.5"/></svg>
"""
_TICK = '<svg x="{at}%" overflow="visible"><rect class="{mark}" x="-1" width="2" height="20"/></svg>'

_BUDGET = """\
<li class="{state}"><p><strong>{name}</strong> <span>{period}</span></p>
<svg class="meter" height="20" role="img" aria-label="{name}: {told}, {forecast}">
<rect class="track" y="5" width="{track}%" height="10" rx="5"/>
{band}<rect class="spent" y="5" width="{spent}%" height="10" rx="5"/>
{thresholds}{limit}</svg>
<p><span class="told">{told}</span> <span>{forecast}</span></p></li>
"""

_BUDGETS_SECTION = """\
<section>
<h2>Budgets</h2>
<ul class="budgets">
{rows}
</ul>
<p class="key"><span class="of spent">spent</span><span class="of band">80 % band of the forecast</span>
<span class="of threshold">thresholds</span><span class="of limit">limit</span></p>
</section>
"""

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
        self._mcp = Markup() if mcp_port is None else fill("<li>MCP: port {port}, /mcp</li>", port=mcp_port)
        self._written: _Written | None = None
        self.headers = {**HEADERS, "cache-control": "no-store"}

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
            css=Markup(STYLESHEET),
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
        remarks=remarks(overview.accounts),
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
{remarks}
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
