"""The landing page: what the exporter is doing, for a person at a browser. It loads nothing from outside."""

from collections.abc import Iterator
from datetime import datetime

from exporter import __version__
from exporter.charges import Clock
from exporter.metrics.publication import AccountOverview, Overview, Publication, SourceOverview
from exporter.web.dress import ICON, LOGO, safe_headers, style
from exporter.web.markup import Markup, fill, join
from exporter.web.wording import ago, dollars, instant, span

_STATES = {"waiting": "Waiting", "up": "Up", "failing": "Failing"}
_REFRESH_SECONDS = range(1, 3601)
_STARTING_SECONDS = 2


class LandingPage:
    """Writes the page.

    Args:
        clock: tells the present; the exporter's uptime is counted from the first reading.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = clock()
        self._style = style("landing.css")
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
        overview = Overview(__version__) if publication is None else publication.overview
        seconds = int(refresh) if refresh.isascii() and refresh.isdigit() and len(refresh) <= 4 else 0  # noqa: PLR2004
        if publication is None:
            seconds = _STARTING_SECONDS
        again = seconds in _REFRESH_SECONDS
        return fill(
            _PAGE,
            style=self._style,
            icon=ICON,
            logo=LOGO,
            again=fill('<meta http-equiv="refresh" content="{seconds}">', seconds=seconds) if again else Markup(),
            version=overview.version,
            state=_badge("up", "Ready") if ready else _badge("waiting", "Starting"),
            uptime=span((now - self._started_at).total_seconds()),
            notes=join(fill('<p class="note">{note}</p>', note=note) for note in overview.notes),
            summary=_summary(publication, now),
            accounts=join(_account(account, overview, now) for account in overview.accounts),
            links=join(fill('<li><a href="{url}">{title}</a></li>', title=t, url=u) for t, u in overview.links),
            other=Markup() if publication is None else _STAY if again else _FOLLOW,
        )


def _summary(publication: Publication | None, now: datetime) -> Markup:
    if publication is None:
        return Markup('<p class="note">The first snapshot is being made: accounts appear here in a moment.</p>')
    overview = publication.overview
    return fill(
        '<p class="summary">{accounts} · {series} series · {charges} hourly charges in the ledger · as of {at}</p>',
        accounts=f"{len(overview.accounts)} account{'' if len(overview.accounts) == 1 else 's'}",
        series=f"{overview.series:,}",
        charges=f"{overview.charges:,}",
        at=_time(publication.at, now),
    )


def _account(account: AccountOverview, overview: Overview, now: datetime) -> Markup:
    return fill(
        _ACCOUNT,
        name=account.name,
        alarms=join(_alarms(account)),
        figures=join(_figures(account, overview, now)),
        sources=join(_source(source, now) for source in account.sources),
    )


def _alarms(account: AccountOverview) -> Iterator[Markup]:
    if account.locked:
        yield fill('<p class="alarm"><strong>Locked by fal:</strong> {reason}</p>', reason=account.locked)
    for problem in account.problems:
        yield fill('<p class="alarm">{problem}</p>', problem=problem)


def _figures(account: AccountOverview, overview: Overview, now: datetime) -> Iterator[Markup]:
    balance_note = "read " + ago(account.balance_at, now) if account.balance_at else "not known yet"
    low = account.balance is not None and account.balance <= 0
    for title, amount, note, mark in (
        ("Credit balance", account.balance, balance_note, " low" if low else ""),
        ("Last hour", account.last_hour, "last complete hour", ""),
        ("Today", account.today, f"since midnight, {overview.time_zone}", ""),
        ("Month to date", account.month_to_date, f"since the 1st, {overview.time_zone}", ""),
        ("Last month", account.last_month, "whole month", ""),
    ):
        if amount is not None or title == "Credit balance":
            yield fill(_FIGURE, title=title, amount=dollars(amount), note=note, mark=mark)


def _source(source: SourceOverview, now: datetime) -> Markup:
    problem = fill('<p class="problem">{text}</p>', text=source.problem) if source.problem else Markup()
    return fill(
        _SOURCE,
        name=source.name,
        chosen=source.chosen,
        state=_badge(source.state, _STATES[source.state]),
        last_success=_time(source.last_success_at, now),
        data_through=_time(source.data_through, now),
        settled_through=_time(source.settled_through, now),
        history=_progress(source.history_progress, source.name),
        problem=problem,
    )


def _progress(progress: float | None, source: str) -> Markup:
    if progress is None:
        return _UNKNOWN
    percent = int(100 * min(max(progress, 0.0), 1.0))
    return fill(
        '<span class="progress"><progress max="100" value="{percent}" aria-label="history of {source}"></progress>'
        "{percent} %</span>",
        percent=percent,
        source=source,
    )


def _time(at: datetime | None, now: datetime) -> Markup:
    if at is None:
        return _UNKNOWN
    return fill(
        '<time datetime="{iso}">{at} <span class="ago">{ago}</span></time>',
        iso=at.isoformat(),
        at=instant(at),
        ago=ago(at, now),
    )


def _badge(state: str, text: str) -> Markup:
    return fill('<span class="badge {state}">{text}</span>', state=state, text=text)


_UNKNOWN = Markup('<span class="unknown">not yet</span>')
_FOLLOW = Markup('<a href="/?refresh=5">refresh every 5 s</a>')
_STAY = Markup('<a href="/">stop refreshing</a>')

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{again}
<title>fal-exporter</title>
<link rel="icon" href="{icon}">
<style>{style}</style>
</head>
<body>
<header>
{logo}
<div class="title"><h1>fal-exporter</h1><p>What fal charges you, for Prometheus</p></div>
<div class="status">{state}<span>version {version}</span><span>up {uptime}</span></div>
</header>
<main>
{notes}
{summary}
{accounts}
</main>
<footer>
<nav aria-label="Endpoints"><ul>
<li><a class="main" href="/metrics">/metrics</a></li>
<li><a href="/docs">REST</a></li>
<li><a href="/-/healthy">/-/healthy</a></li>
<li><a href="/-/ready">/-/ready</a></li>
{links}
</ul></nav>
<p>{other}</p>
</footer>
</body>
</html>
"""

_ACCOUNT = """\
<section>
<h2><span>Account</span> {name}</h2>
{alarms}
<dl class="figures">
{figures}
</dl>
<table role="table">
<caption>Sources of account {name}</caption>
<thead><tr role="row"><th role="columnheader" scope="col">Source</th><th role="columnheader" scope="col">State</th>
<th role="columnheader" scope="col">Last success</th><th role="columnheader" scope="col">Data through</th>
<th role="columnheader" scope="col">Settled through</th><th role="columnheader" scope="col">History</th></tr></thead>
<tbody>
{sources}
</tbody>
</table>
</section>
"""

_FIGURE = '<div class="figure{mark}"><dt>{title}</dt><dd>{amount}<small>{note}</small></dd></div>\n'

_SOURCE = """\
<tr role="row"><th role="rowheader" scope="row">{name}<small>{chosen}</small></th>
<td role="cell" data-title="State">{state}</td>
<td role="cell" data-title="Last success">{last_success}</td>
<td role="cell" data-title="Data through">{data_through}</td>
<td role="cell" data-title="Settled through">{settled_through}</td>
<td role="cell" data-title="History">{history}</td></tr>
<tr role="row" class="more"><td role="cell" colspan="6">{problem}</td></tr>
"""
