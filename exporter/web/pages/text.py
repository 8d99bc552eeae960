"""Figures of the landing page as plain text, for terminals: `fal-exporter status` and any client that asks for it."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from exporter.publication import Publication
from exporter.web.pages.alerts import alerts, data_through, furthest_first, unjudged
from exporter.web.pages.landing import (
    budget_view,
    loading,
    moved_views,
    mover_rows,
    not_compared,
    ranking_views,
    replicas_text,
)
from exporter.web.pages.summary import AccountRow, account_rows, idle_rows, month, tiles

_BAR = 30
"""Characters of a budget's bar."""

_MARKS = {"bad": "!", "waiting": "*", "noted": "-"}


def page_text(publication: Publication | None, now: datetime, *, ready: bool, broken_files: Sequence[str] = ()) -> str:
    """Return the page's figures in lines of at most about 100 characters.

    An alert begins with `!` where it is urgent, with `*` where it is for today, and with `-` where it is worth knowing.
    """
    if publication is None:
        return "fal-exporter: starting; figures appear here in a moment.\n"
    overview = publication.overview
    state = "ready" if ready else "starting"
    lines = [f"fal-exporter {overview.version}: {state}, as of {publication.at:%Y-%m-%d %H:%M:%S} UTC"]
    lines += [replicas_text(overview.replicas)] if overview.replicas else []
    lines += [*overview.notes, "", *_attention(publication, now, broken_files), ""]
    lines += [*_spend(publication, now), *_budgets(publication), *_changed(publication), *_top(publication)]
    lines += _idle(publication)
    if rows := account_rows(publication, alerts(publication, now)):
        lines += ["", *_accounts(rows)]
    return "\n".join(lines) + "\n"


def _attention(publication: Publication, now: datetime, broken_files: Sequence[str]) -> Iterator[str]:
    found = alerts(publication, now, broken_files)
    for alert in found:
        yield f"{_MARKS[alert.severity]} {alert.about}: {alert.told}"
    if under_way := loading(publication.overview.accounts):
        known = f" Everything since {under_way.known_from} is known." if under_way.known_from else ""
        yield f"Loading the history: {under_way.percent}%.{known}"
    elif all(alert.severity == "noted" for alert in found):
        through = data_through(publication.overview.accounts)
        unknown = unjudged(publication.outlook)
        verdict = f"Nothing needs attention so far. {unknown}" if unknown else "Nothing needs attention."
        yield f"{verdict} Data through {through}." if through else "The first data are being loaded."


def _spend(publication: Publication, now: datetime) -> Iterator[str]:
    of_month = month(publication)
    yield f"{'Month to date':<16}{of_month.amount:>14}  {of_month.compared}".rstrip()
    if forecast := of_month.forecast:
        yield f"{'Forecast':<16}{forecast.expected:>14}  {forecast.low} to {forecast.high}, {forecast.meaning}"
    if of_month.last_month:
        yield f"{'Last month':<16}{of_month.last_month:>14}  {of_month.billed}".rstrip()
    for tile in tiles(publication, now):
        yield f"{tile.title:<16}{tile.amount:>14}  {tile.note}"


def _budgets(publication: Publication) -> Iterator[str]:
    budgets = furthest_first(publication.outlook.budgets)
    width = max((len(budget.budget) for budget in budgets), default=0)
    if budgets:
        yield ""
    for budget in budgets:
        view = budget_view(budget, publication.at)
        full = 0 if budget.spend is None else min(_BAR, max(0, budget.spend) * _BAR // budget.limit)
        bar = "#" * full + "-" * (_BAR - full)
        yield f"Budget {view.name:<{width}}  [{bar}] {view.spend}; {view.forecast}"


def _changed(publication: Publication) -> Iterator[str]:
    overview = publication.overview
    if said := not_compared(overview):
        yield ""
        yield said
    if movers := mover_rows(overview):
        yield ""
        yield "What changed, this month against the same part of last month"
        for mover in movers:
            where = ", ".join(filter(None, (mover.product, mover.account, mover.cause)))
            yield f"  {mover.change:>14}  {mover.name}  {where}"
    for by in moved_views(overview):
        yield ""
        yield f"What changed, {by.title[:1].lower()}{by.title[1:]}" + (f", through {by.through}" if by.through else "")
        for row in by.rows:
            yield f"  {row.change:>14}  {row.name}  {row.amounts}"
        yield from by.notes


def _top(publication: Publication) -> Iterator[str]:
    for ranking in ranking_views(publication.overview):
        yield ""
        yield f"{ranking.title}, {ranking.period}"
        for row in ranking.rows:
            yield f"  {row.amount:>14} {row.share:>6}  {row.name}"


def _idle(publication: Publication) -> Iterator[str]:
    rows = idle_rows(publication)
    if rows:
        yield ""
        yield "Idle runners, this month; a lower setting: estimates of the last 7 days, no promise"
    for row in rows:
        name = f"{row.app}, {row.account}" if row.account else row.app
        yield f"  {row.idle:>14} {row.share}  {name}  {row.settings}".rstrip()
        if row.is_saving:
            yield f"{'':17}{row.what_if}"


def _accounts(rows: Sequence[AccountRow]) -> Iterator[str]:
    width = max(len("Account"), *(len(row.name) for row in rows))
    yield f"{'Account':<{width}} {'State':<9} {'Month':>14} {'±':>10} {'Forecast':>14} {'Balance':>14}  Runway"
    for row in rows:
        figures = f"{row.month:>14} {row.moved:>10} {row.forecast:>14} {row.balance:>14}  {row.runway}"
        yield f"{row.name:<{width}} {row.state_text:<9} {figures}"
