"""The landing page: its values, and the page rendered from them.

The main part, the overview, is rendered once for a publication and minute; the frame around it for every request.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

from exporter import __version__
from exporter.charges import NANO, Clock
from exporter.forecasting.drivers import Parts
from exporter.forecasting.state import BudgetOutlook, Forecast
from exporter.overview import (
    AccountOverview,
    MovedBy,
    Overview,
    Ranking,
    RecentRequests,
    ReplicasOverview,
    RequestsOfModel,
)
from exporter.publication import Publication
from exporter.tags import TAG
from exporter.web.pages.alerts import alerts, banner, data_through, furthest_first, unjudged
from exporter.web.pages.chart import Band, band, chart, product_name
from exporter.web.pages.formatting import Timestamp, changes, dollars, instant, percent, share_of_limit, span, timestamp
from exporter.web.pages.rendering import HEADERS, render
from exporter.web.pages.summary import account_rows, gap_text, idle_rows, month, tiles

_REFRESH_SECONDS = range(1, 3601)
_STARTING_SECONDS = 2
_LONGEST_SEARCH = 100
_PARTS = {
    "all": "all together",
    "price": "price",
    "volume": "volume",
    "mix": "mix of models",
    "new": "new models",
    "vanished": "no longer used",
    "discount": "discount",
    "surge": "surge",
    "unknown": "not known",
}
"""Causes of `exporter.forecasting.drivers`, in words."""

_CAUSES = {"price": "price", "volume": "volume", "new": "new", "gone": "no longer used", "unknown": ""}

_TITLES = {
    "model": "Top models",
    "app": "Top apps",
    "gpu_class": "Top GPU classes",
    "api_key": "API keys",
    "member": "Members",
}
_MOVED = {"account": "By account", "team": "By team", "api_key": "By API key", "member": "By member", TAG: "By tags"}
_WITHOUT = {"team": "without team", "api_key": "without key", "member": "without member"}

_STATES = {"waiting": "Waiting", "up": "Up", "partial": "Partial", "failing": "Failing"}
_LEAST_SHOWN = 0.0001
"""US dollars below which an amount would be shown as nothing."""

_NAMED = 3
"""Accounts that a sentence names."""

_FEW = 4
"""Accounts whose sources are shown without being asked for."""


@dataclass(frozen=True, slots=True)
class BudgetView:
    """A budget as a bar: track, spent and thresholds in percent of its width.

    Attributes:
        period: the kind of period, and what is left of it.
        state: near once the last threshold below the limit is reached, over above the limit, else empty.
        track: where the limit is.
    """

    name: str
    period: str
    spend: str
    forecast: str
    state: str
    track: float
    spent: float
    band: Band | None
    thresholds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RankingRow:
    """A name and its cost; width is in percent of the longest bar."""

    name: str
    amount: str
    share: str
    width: float
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class RankingView:
    """The names that have cost most this month.

    Attributes:
        period: the month, and what is not known of it.
    """

    title: str
    period: str
    rows: tuple[RankingRow, ...]


@dataclass(frozen=True, slots=True)
class MoverRow:
    """Something that costs more or less than in the same part of the last month."""

    account: str
    product: str
    name: str
    change: str
    cause: str
    is_more: bool


@dataclass(frozen=True, slots=True)
class MoveRow:
    """A customer, team, key or account, or all others: by how much its cost changed, and from what to what."""

    name: str
    change: str
    amounts: str
    is_more: bool
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class MovedView:
    """Who moved by one label or tag.

    Attributes:
        through: up to where the months are compared, where that is not where they are compared otherwise.
        notes: what is not among the rows, and why.
    """

    title: str
    through: str
    rows: tuple[MoveRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestsRow:
    """The requests of a model, or of all others."""

    name: str
    requests: str
    cost: str
    quantiles: tuple[str, ...]
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class DearRow:
    """One of the dearest requests."""

    cost: str
    model: str
    request_id: str
    account: str
    at: Timestamp | None


@dataclass(frozen=True, slots=True)
class RequestsView:
    """Single requests of the last day; since and through are of UTC."""

    since: str
    through: str
    models: tuple[RequestsRow, ...]
    dearest: tuple[DearRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loading:
    """History that is being loaded: its share in percent, and since when everything is known."""

    percent: int
    known_from: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source and how far its data reach.

    Attributes:
        chosen: how the source came to be polled.
        state: waiting, up, partial or failing.
        history_percent: how much of the history is loaded; None where that is not known yet.
    """

    account: str
    name: str
    chosen: str
    state: str
    state_text: str
    last_success: Timestamp | None
    data_through: Timestamp | None
    settled_through: Timestamp | None
    history_percent: int | None


@dataclass(frozen=True, slots=True)
class _Rendered:
    """An overview, and the publication and minute that it was rendered for."""

    publication: Publication
    minute: datetime
    html: str


class LandingPage:
    """Renders the page; safe to use from several threads.

    Args:
        clock: tells the present; the exporter's uptime is counted from the first reading.
        mcp_port: port of the MCP server; None where there is none.
        broken_files: tells which settings name a file of tokens or users that cannot be used.
    """

    def __init__(
        self, clock: Clock, mcp_port: int | None = None, broken_files: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self._clock = clock
        self._started_at = clock()
        self._mcp_port = mcp_port
        self._broken_files = broken_files
        self._rendered: _Rendered | None = None
        self._lock = Lock()
        self.headers = {**HEADERS, "cache-control": "no-store"}

    def html(self, publication: Publication | None, *, ready: bool, refresh: str = "", search: str = "") -> str:
        """Return the whole document.

        Args:
            publication: what is served; None before the first.
            ready: what the readiness probe answers.
            refresh: seconds after which the browser shall ask again, as the user wrote them; ignored unless 1 to 3600.
                Before the first publication the page follows by itself.
            search: part of the names of the accounts to show, in any case; empty for all.
        """
        now = self._clock()
        replicas = None if publication is None else publication.overview.replicas
        return render(
            "landing.html",
            version=__version__ if publication is None else publication.overview.version,
            uptime=span((now - self._started_at).total_seconds()),
            ready=ready,
            refresh_seconds=_STARTING_SECONDS if publication is None else _refresh_seconds(refresh),
            is_following=bool(_refresh_seconds(refresh)),
            search=search[:_LONGEST_SEARCH],
            mcp_port=self._mcp_port,
            links=() if publication is None else publication.overview.links,
            replicas="" if replicas is None else replicas_text(replicas),
            overview=None if publication is None else self._overview(publication, now, search[:_LONGEST_SEARCH]),
        )

    def _overview(self, publication: Publication, now: datetime, search: str) -> str:
        if search:
            return _overview(publication, now, self._broken_files(), search)
        minute = now.replace(second=0, microsecond=0)
        with self._lock:
            rendered = self._rendered
            if rendered is None or rendered.publication is not publication or rendered.minute != minute:
                rendered = self._rendered = _Rendered(
                    publication, minute, _overview(publication, now, self._broken_files())
                )
            return rendered.html


def replicas_text(replicas: ReplicasOverview) -> str:
    """Return which of several replicas this one is, and which collects."""
    shares = ", ".join(f"{name} {count}" for name, count in replicas.shares)
    asked = f" Accounts that each asks fal for: {shares}." if shares else ""
    if replicas.leader == replicas.name:
        return f"Replica {replicas.name} collects; {replicas.count} alive.{asked}"
    if not replicas.leader:
        return f"Replica {replicas.name} serves what was collected last; none collects now."
    return f"Replica {replicas.name} serves what {replicas.leader} collects; {replicas.count} alive.{asked}"


def _refresh_seconds(text: str) -> int:
    """Return the seconds that a user asks for; 0 for none, or where they cannot be meant."""
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0  # noqa: PLR2004
    return seconds if seconds in _REFRESH_SECONDS else 0


def _overview(publication: Publication, now: datetime, broken_files: Sequence[str], search: str = "") -> str:
    overview = publication.overview
    found = alerts(publication, now, broken_files)
    rows = account_rows(publication, found)
    accounts = tuple(item for item in overview.accounts if search.casefold() in item.name.casefold())
    names = {account.name for account in accounts}
    return render(
        "overview.html",
        notes=overview.notes,
        banner=banner(found),
        loading=loading(overview.accounts),
        data_through=data_through(overview.accounts),
        unjudged=unjudged(publication.outlook),
        month=month(publication),
        tiles=tiles(publication, now),
        budgets=tuple(budget_view(budget, now) for budget in furthest_first(publication.outlook.budgets)),
        chart=chart(overview.daily),
        rankings=(rankings := ranking_views(overview)),
        ranking_scale=_scale(overview.rankings) if len(rankings) > 1 else "",
        causes=_causes(overview.causes),
        movers=mover_rows(overview),
        moved=moved_views(overview),
        not_compared=not_compared(overview),
        idle_apps=idle_rows(publication),
        requests=None if overview.requests is None else _requests_view(overview.requests, now),
        accounts=tuple(row for row in rows if row.name in names),
        search=search,
        sources=_source_rows(accounts, now),
        are_sources_open=len(accounts) <= _FEW,
        remarks=[(account.name, remark) for account in accounts for remark in account.remarks],
        account_count=f"{len(overview.accounts)} account{'' if len(overview.accounts) == 1 else 's'}",
        series=f"{overview.series:,}",
        charges=f"{overview.charges:,}",
        published_at=timestamp(publication.at, now),
    )


def _requests_view(recent: RecentRequests, now: datetime) -> RequestsView:
    rows = [_requests_row(item.model, item) for item in recent.models]
    if recent.rest is not None:
        rows.append(_requests_row(f"{recent.others:,} more", recent.rest, is_rest=True))
    accounts = {dear.account for dear in recent.dearest}
    return RequestsView(
        since=f"{recent.since:%d %b %H:%M}",
        through=f"{recent.through:%d %b %H:%M} UTC",
        notes=recent.notes,
        models=tuple(rows),
        dearest=tuple(
            DearRow(
                dollars(dear.cost),
                dear.model,
                dear.request_id,
                dear.account if len(accounts) > 1 else "",
                timestamp(dear.at, now),
            )
            for dear in recent.dearest
        ),
    )


def _requests_row(name: str, item: RequestsOfModel, *, is_rest: bool = False) -> RequestsRow:
    shown = tuple(_small_dollars(value) for value in (item.p50, item.p95, item.p99))
    return RequestsRow(name, f"{item.requests:,}", dollars(item.cost), shown, is_rest)


def _small_dollars(value: float) -> str:
    """Write the quantile of a histogram, with as many places as an amount has."""
    return "<$0.0001" if 0 < value < _LEAST_SHOWN else dollars(round(value * NANO))


def budget_view(budget: BudgetOutlook, now: datetime) -> BudgetView:
    """Return a budget as it is shown at an instant."""
    spend, forecast, limit = budget.spend, budget.forecast, budget.limit
    whole = max(limit, spend or 0, forecast.high if forecast else 0) * 105 // 100
    near = [share for share in budget.thresholds if share < 1]
    is_near = spend is not None and bool(near) and spend >= max(near) * limit
    return BudgetView(
        name=budget.budget,
        period=f"{budget.period}, {span((budget.window.end - now.astimezone(UTC)).total_seconds())} left",
        spend=f"not known yet, of {dollars(limit)}"
        if spend is None
        else f"{dollars(spend)} of {dollars(limit)}, {_share_of_limit(spend, limit)}",
        forecast=_forecast_in_words(forecast, limit) if forecast else "no forecast yet",
        state="over" if spend is not None and spend > limit else "near" if is_near else "",
        track=percent(limit, whole),
        spent=percent(spend or 0, whole),
        band=band(forecast, whole) if forecast else None,
        thresholds=tuple(percent(round(threshold * limit), whole) for threshold in budget.thresholds),
    )


def _forecast_in_words(forecast: Forecast, limit: int) -> str:
    amounts = f"forecast {dollars(forecast.expected)} ({dollars(forecast.low)} to {dollars(forecast.high)})"
    if forecast.low > limit:
        return f"{amounts}, will exceed the limit by {dollars(forecast.expected - limit)}"
    if forecast.expected > limit:
        return f"{amounts}, will probably exceed the limit by {dollars(forecast.expected - limit)}"
    return f"{amounts}, {'may exceed' if forecast.high > limit else 'stays within'} the limit"


def _share_of_limit(spend: int, limit: int) -> str:
    return share_of_limit(spend, limit) if limit > 0 else "no limit"


def ranking_views(overview: Overview) -> tuple[RankingView, ...]:
    """Return the rankings that have anything in them, with what their month lacks, in words."""
    gap = gap_text(overview.accounts, "month_to_date")
    period = f"this month, {gap}" if gap else "this month"
    shown = [ranking for ranking in overview.rankings if ranking.top]
    most = _most(shown)
    return tuple(_ranking(ranking, period, most) for ranking in shown)


def _most(rankings: Iterable[Ranking]) -> int:
    """Return the largest amount of all rankings, by which their bars can be compared with each other."""
    return max(
        (
            amount
            for ranking in rankings
            for amount in (ranking.other, ranking.unread, *(cost for _, cost in ranking.top))
        ),
        default=0,
    )


def _scale(rankings: Iterable[Ranking]) -> str:
    return dollars(_most(ranking for ranking in rankings if ranking.top))


def _ranking(ranking: Ranking, period: str, most: int) -> RankingView:
    rows = [_ranking_row(name, amount, ranking.total, most) for name, amount in ranking.top]
    if ranking.others:
        rows.append(_ranking_row(f"{ranking.others:,} more", ranking.other, ranking.total, most, is_rest=True))
    if abs(ranking.unread) >= NANO // 200:
        rows.append(_ranking_row("not read by tags", ranking.unread, ranking.total, most, is_rest=True))
    if ranking.through is not None:
        period = f"{period}; after {instant(ranking.through)} untagged so far"
    return RankingView(_TITLES.get(ranking.label) or f"By {ranking.label.removeprefix(TAG)}", period, tuple(rows))


def _ranking_row(name: str, amount: int, total: int, most: int, *, is_rest: bool = False) -> RankingRow:
    share = percent(amount, total)
    return RankingRow(
        name=name,
        amount=dollars(amount),
        share="<0.1%" if amount > 0 and share < 0.1 else f"{share:.1f}%",  # noqa: PLR2004
        width=percent(amount, most),
        is_rest=is_rest,
    )


def mover_rows(overview: Overview) -> tuple[MoverRow, ...]:
    """Return the models and apps that moved most against the same part of the last month, and all others together."""
    movers, with_account = overview.movers, len(overview.accounts) > 1
    rest = sum(overview.causes) - sum(mover.change for mover in movers)
    of_rest = [rest] if movers and any(overview.causes) and rest else []
    texts = changes([*(mover.change for mover in movers), *of_rest])
    rows = tuple(
        MoverRow(
            account=mover.account if with_account else "",
            product=product_name(mover.product),
            name=mover.name or product_name(mover.product),
            change=change,
            cause=_CAUSES.get(mover.cause, ""),
            is_more=mover.change > 0,
        )
        for mover, change in zip(movers, texts, strict=False)
    )
    return rows + tuple(MoverRow("", "", "all others", text, "", rest > 0) for text in texts[len(rows) :])


def moved_views(overview: Overview) -> tuple[MovedView, ...]:
    """Return who moved against the same part of the last month, by each label and tag."""
    return tuple(
        MovedView(
            _MOVED.get(by.label) or f"By {by.label.removeprefix(TAG)}",
            instant(by.through) if by.through is not None else "",
            _move_rows(by),
            by.lacking,
        )
        for by in overview.moved
    )


def _move_rows(by: MovedBy) -> tuple[MoveRow, ...]:
    moves = [*by.moves.top, *([by.moves.rest] if by.moves.count else [])]
    names = [move.name or _WITHOUT.get(by.label, "unnamed") for move in by.moves.top] + [f"{by.moves.count:,} more"]
    return tuple(
        MoveRow(
            name,
            change,
            f"{dollars(move.before)} to {dollars(move.after)}",
            move.change > 0,
            place == len(by.moves.top),
        )
        for place, (move, name, change) in enumerate(
            zip(moves, names, changes([move.change for move in moves]), strict=False)
        )
    )


def not_compared(overview: Overview) -> str:
    """Return of which accounts this month is not compared with the last, and why; empty where it is of all."""
    lacking = [
        account for account in overview.accounts if account.last_month_to_date is None and "last_month" in account.gaps
    ]
    gap = gap_text(lacking, "last_month")
    if len(lacking) == len(overview.accounts) or not lacking:
        return f"Not compared: last month is {gap}." if gap and not gap.startswith("not yet") else ""
    names = ", ".join(account.name for account in lacking[:_NAMED])
    names += f" and {len(lacking) - _NAMED} more" if lacking[_NAMED:] else ""
    return f"Without {names}: last month {'has not been read yet' if gap.startswith('not yet') else f'is {gap}'}."


def _causes(parts: Parts) -> tuple[tuple[str, str], ...]:
    """Return the causes of all that has changed and their amounts, the largest first; the first is the sum."""
    largest_first = sorted(parts._asdict().items(), key=lambda cause: -abs(cause[1]))
    shown = [(name, amount) for name, amount in (("all", sum(parts)), *largest_first) if amount]
    texts = changes([amount for _, amount in shown])
    named = ((_PARTS[name], text) for (name, _), text in zip(shown, texts, strict=True))
    # A cause of less than half a cent beside dollars is none worth a word.
    return tuple((name, text) for name, text in named if text.strip("$0."))


def loading(accounts: Sequence[AccountOverview]) -> Loading | None:
    """Return how far the history has been loaded; None once it has been."""
    sources = [source for account in accounts for source in account.sources if source.state != "failing"]
    waiting = [0.0 for source in sources if source.history_progress is None and source.state == "waiting"]
    shares = [*waiting, *(source.history_progress for source in sources if source.history_progress is not None)]
    if min(shares, default=1.0) >= 1:
        return None
    starts = [gap.known_from for account in accounts for gap in account.gaps.values() if gap.known_from is not None]
    return Loading(
        int(100 * min(shares)),
        f"{max(starts):%a} {max(starts).day} {max(starts):%b}" if starts else "",
    )


def _source_rows(accounts: Iterable[AccountOverview], now: datetime) -> tuple[SourceRow, ...]:
    return tuple(
        SourceRow(
            account=account.name,
            name=source.name,
            chosen=source.chosen,
            state=source.state,
            state_text=_STATES[source.state],
            last_success=timestamp(source.last_success_at, now),
            data_through=timestamp(source.data_through, now),
            settled_through=timestamp(source.settled_through, now),
            history_percent=None
            if source.history_progress is None
            else int(100 * min(max(source.history_progress, 0.0), 1.0)),
        )
        for account in accounts
        for source in account.sources
    )
