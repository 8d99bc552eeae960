"""What the landing page shows, from the ledger's figures and the polls' states."""

from collections.abc import Iterable

from exporter import __version__
from exporter.ledger import LedgerView, ScopeState
from exporter.metrics.publication import AccountOverview, DailySpend, Overview, Ranking, SourceOverview
from exporter.schedule.account import PolledAccount, history_progress
from exporter.schedule.outcomes import Polled
from exporter.schedule.windows import Reach

_LOCKS = {
    "exhausted_balance": "the balance is exhausted",
    "admin_lock": "locked by fal's administrators",
    "top_up": "fal asks for a top-up",
}


def overview_of(
    view: LedgerView,
    accounts: Iterable[PolledAccount],
    reach: Reach,
    *,
    notes: tuple[str, ...],
    links: tuple[tuple[str, str], ...],
    daily: DailySpend | None = None,
    rankings: tuple[Ranking, ...] = (),
) -> Overview:
    """Gather what the landing page shows."""
    return Overview(
        version=__version__,
        accounts=tuple(_account(account, view, reach) for account in accounts),
        time_zone=reach.zone.key,
        series=view.label_sets,
        charges=view.charges,
        notes=notes,
        links=links,
        daily=daily or DailySpend(),
        rankings=rankings,
    )


def _account(account: PolledAccount, view: LedgerView, reach: Reach) -> AccountOverview:
    scopes = {scope.source: scope for scope in view.scopes if scope.account == account.name}
    balance = next((it for it in view.balances if it.account == account.name), None)
    totals = view.totals.get(account.name)
    sources = [it for it in account.polled if it.name in account.sources]
    others = [it for it in account.polled if it.name not in account.sources and it.problem]
    return AccountOverview(
        name=account.name,
        sources=tuple(
            _source(polled, scopes.get(polled.name), reach, automatic=account.is_automatic) for polled in sources
        ),
        balance=balance.amount if balance else None,
        balance_at=balance.at if balance else None,
        locked=", ".join(_LOCKS.get(reason, reason) for reason in account.lock_reasons),
        current_hour=totals.current_hour if totals else None,
        last_hour=totals.last_hour if totals else None,
        today=totals.today if totals else None,
        month_to_date=totals.month_to_date if totals else None,
        last_month=totals.last_month if totals else None,
        problems=tuple(filter(None, (account.problem, *(f"{it.name}: {it.problem}" for it in others)))),
    )


def _source(polled: Polled, scope: ScopeState | None, reach: Reach, *, automatic: bool) -> SourceOverview:
    return SourceOverview(
        name=polled.name,
        chosen="chosen by what the key may read" if automatic else "set by SOURCES",
        state=polled.state,
        last_success_at=scope.last_success_at if scope else None,
        data_through=scope.data_through if scope else None,
        settled_through=scope.settled_through if scope else None,
        history_progress=history_progress(scope, reach) if scope else None,
        problem=polled.problem,
    )
