"""Snapshot: the numbers of one instant, made from the ledger's view and the forecasts."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from exporter.calendar import PERIODS
from exporter.charges import FOCUS_ESTIMATE, FOCUS_INVOICE, ApiKey, Team
from exporter.forecasting.budgets import percent, threshold_amount
from exporter.forecasting.changes import NO_COMPARISON, MonthComparison
from exporter.forecasting.state import BudgetOutlook, Forecast, Outlook
from exporter.ledger import KeyRecord, LedgerView, Reconciliation, ScopeState
from exporter.ledger.accounting.invoices import invoice_names
from exporter.metrics.catalogue import CATALOGUE, RENAMED, Family
from exporter.metrics.machines import machine_tables
from exporter.samples import Pages, Sample, paged
from exporter.tags import tag_label


@dataclass(frozen=True, slots=True)
class Table:
    """The samples of one family.

    Attributes:
        labels: the names that belong to the samples' label values, in their order.

    Raises:
        ValueError: the family is a histogram, and a page has no buckets.
    """

    family: Family
    labels: tuple[str, ...]
    pages: Pages

    def __post_init__(self) -> None:
        if self.family.kind == "histogram" and not all(page.bounds for page in self.pages):
            raise ValueError(f"{self.family.name} is a histogram: its pages need buckets")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable set of numbers, replaced whole.

    Attributes:
        sequence: grows by one with every snapshot.
        at: the instant that its numbers are of, aware and in UTC.

    Raises:
        ValueError: two tables are of the same family, which no exposition may hold twice.
    """

    sequence: int
    at: datetime
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        names = [table.family.name for table in self.tables]
        if len(set(names)) != len(names):
            raise ValueError("a snapshot holds one table of each family")


def forecast_samples(outlook: Outlook) -> Mapping[str, list[Sample]]:
    """Return the samples by family."""
    budgets = outlook.budgets
    return {
        "fal_credit_runway_seconds": [
            Sample((account.account,), account.runway.total_seconds())
            for account in outlook.accounts
            if account.runway is not None
        ],
        "fal_account_spend_month_to_date_usd": [
            Sample((account.account,), account.spend) for account in outlook.accounts if account.spend is not None
        ],
        "fal_month_end_timestamp_seconds": [
            Sample((account.account,), account.month.end.timestamp()) for account in outlook.accounts
        ],
        **_forecasts("fal_spend_month_forecast", ((account.account, account.forecast) for account in outlook.accounts)),
        "fal_spend_expected_weekday_usd": [
            Sample((account.account, str(weekday)), amount)
            for account in outlook.accounts
            if account.path is not None
            for weekday, amount in enumerate(account.path.weekdays)
        ],
        "fal_spend_forecast_spread_ratio": [
            Sample((account.account, f"{days}d"), spread)
            for account in outlook.accounts
            if account.path is not None
            for days, spread in account.path.spreads.items()
        ],
        "fal_budget_limit_usd": [Sample((budget.budget,), budget.limit) for budget in budgets],
        "fal_budget_spend_usd": [
            Sample((budget.budget,), budget.spend) for budget in budgets if budget.spend is not None
        ],
        **_forecasts("fal_budget_forecast", ((budget.budget, budget.forecast) for budget in budgets)),
        "fal_budget_period_start_timestamp_seconds": [
            Sample((budget.budget,), budget.window.start.timestamp()) for budget in budgets
        ],
        "fal_budget_period_end_timestamp_seconds": [
            Sample((budget.budget,), budget.window.end.timestamp()) for budget in budgets
        ],
        "fal_budget_threshold_usd": [sample for budget in budgets for sample in _thresholds(budget)],
        "fal_budget_burn_ratio": [
            Sample((budget.budget, window), ratio)
            for budget in budgets
            for window, ratio in (budget.burn or {}).items()
        ],
        "fal_spend_expected_last_hour_usd": [
            Sample((item.account, item.product), item.last_hour) for item in outlook.expected
        ],
        "fal_spend_expected_last_hour_high_usd": [
            Sample((item.account, item.product), item.last_hour_high) for item in outlook.expected
        ],
        "fal_spend_expected_current_hour_usd": [
            Sample((item.account, item.product), item.current_hour) for item in outlook.expected
        ],
        "fal_spend_expected_current_hour_high_usd": [
            Sample((item.account, item.product), item.current_hour_high) for item in outlook.expected
        ],
    }


def _forecasts(family: str, forecasts: Iterable[tuple[str, Forecast | None]]) -> dict[str, list[Sample]]:
    known = [(name, forecast) for name, forecast in forecasts if forecast is not None]
    return {
        f"{family}_usd": [Sample((name,), item.expected) for name, item in known],
        f"{family}_low_usd": [Sample((name,), item.low) for name, item in known],
        f"{family}_high_usd": [Sample((name,), item.high) for name, item in known],
    }


def _thresholds(budget: BudgetOutlook) -> Iterable[Sample]:
    return (
        Sample((budget.budget, percent(share)), threshold_amount(budget.limit, share)) for share in budget.thresholds
    )


def name_samples(
    keys: Iterable[KeyRecord], told_from: Mapping[str, datetime], teams: Iterable[Team]
) -> Mapping[str, list[Sample]]:
    """Return the samples by family.

    Args:
        keys: all that are known.
        told_from: the first hour that was charged for with any key, by account.
        teams: as fal lists them.
    """
    known = sorted(keys, key=lambda record: (record.key.account, record.key.id))
    listed = [((record.key.account, record.key.id, record.label), record) for record in known if record.is_listed]
    return {
        "fal_api_key_info": [Sample(_key_info(record.key), 1) for record in known],
        "fal_api_key_created_timestamp_seconds": [
            Sample(labels, record.key.created_at.timestamp())
            for labels, record in listed
            if record.key.created_at is not None
        ],
        "fal_api_key_last_used_timestamp_seconds": [
            Sample(labels, record.last_used.timestamp()) for labels, record in listed if record.last_used is not None
        ],
        "fal_api_key_unused_since_timestamp_seconds": [
            Sample(labels, record.unused_since(told_from[record.key.account]).timestamp())
            for labels, record in listed
            if record.key.account in told_from
        ],
        "fal_team_info": [Sample((team.account, team.username, team.name), 1) for team in teams],
    }


class NameSamples:
    """Makes the samples of keys and teams, and gives them again while none of those has changed."""

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._made: Mapping[str, list[Sample]] = {}

    def __call__(
        self, keys: Iterable[KeyRecord], told_from: Mapping[str, datetime], teams: Iterable[Team]
    ) -> Mapping[str, list[Sample]]:
        """Return the samples by family."""
        keys, teams = tuple(keys), tuple(teams)
        of = keys, dict(told_from), teams
        if of != self._of:
            self._of, self._made = of, name_samples(keys, told_from, teams)
        return self._made


def _key_info(key: ApiKey) -> tuple[str, ...]:
    created = "" if key.created_at is None else f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}"
    return key.account, key.id, key.alias, key.creator, created


CATEGORIES = ("Usage", "Purchase", "Credit", "Tax", "Adjustment", "Correction")
"""The charge categories of FOCUS, and corrections apart: shown at 0 where nothing is billed."""


def reconciliation_samples(compared: Collection[Reconciliation], at: datetime) -> Mapping[str, list[Sample]]:
    """Return the samples by family; months older than the last are not published.

    Invoice and estimate of one month report the same usage, so that only one of them is shown as billed.
    """
    periods = _periods(at)
    recent = [(item, periods[item.month]) for item in compared if item.month in periods]
    billed = {(item.account, period): item for item, period in recent if item.against == FOCUS_ESTIMATE}
    billed |= {(item.account, period): item for item, period in recent if item.against == FOCUS_INVOICE}
    return {
        "fal_reconciliation_difference_usd": [
            Sample((item.account, item.against, period), item.difference) for item, period in recent
        ],
        "fal_reconciliation_timestamp_seconds": [
            Sample((item.account, item.against, period), item.compared_at.timestamp()) for item, period in recent
        ],
        "fal_focus_billed_usd": [
            Sample((account, category, period), item.by_category.get(category, 0))
            for (account, period), item in billed.items()
            for category in dict.fromkeys((*CATEGORIES, *item.by_category))
        ],
    }


def _periods(at: datetime) -> dict[datetime, str]:
    """Return the starts of the running UTC month and the one before; fal's billing months are of UTC."""
    month = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return {month: "current_month", (month - timedelta(days=1)).replace(day=1): "last_month"}


WINDOWS = MappingProxyType({name: "month_to_date" if name == "month" else name for name in PERIODS})
"""The values of the label `window` by period: the words that the gauges' names have."""


def snapshot_of(
    view: LedgerView,
    history_progress: Mapping[tuple[str, str], float],
    outlook: Outlook,
    comparison: MonthComparison = NO_COMPARISON,
    *,
    make_names: Callable[
        [Iterable[KeyRecord], Mapping[str, datetime], Iterable[Team]], Mapping[str, list[Sample]]
    ] = name_samples,
) -> Snapshot:
    """Lay out everything that is published of the ledger.

    Args:
        view: the ledger's figures.
        history_progress: share of the configured history that is loaded, 0 to 1, by account and source.
        outlook: what lies ahead by these figures.
        comparison: this month beside the last.
        make_names: makes the samples of keys and teams.
    """
    tag_labels = [tag_label(key) for key in view.tags.keys]
    by_tags = {
        "fal_tagged_spend_usd_total": view.tags.spend,
        "fal_tagged_spend_pending_usd": view.tags.pending,
        "fal_tagged_spend_month_to_date_usd": view.tags.month,
    }
    tables = (
        _charged(view, comparison)
        | machine_tables(view.machines, outlook.budgets)
        | {name: paged(samples) for name, samples in _few(view, history_progress, outlook).items()}
        | {name: paged(samples) for name, samples in make_names(view.keys, view.keys_told_from, view.teams).items()}
    )
    tables |= {name: tables[present] for name, present in RENAMED.items()}
    return Snapshot(
        view.sequence,
        view.at,
        (
            *(
                Table(CATALOGUE[name], CATALOGUE[name].labels_with(view.labels), pages)
                for name, pages in tables.items()
            ),
            *(Table(CATALOGUE[name], (*CATALOGUE[name].labels, *tag_labels), pages) for name, pages in by_tags.items()),
        ),
    )


def _charged(view: LedgerView, comparison: MonthComparison) -> dict[str, Pages]:
    """Return the families of charges, which the ledger keeps laid out on pages."""
    return {
        "fal_spend_usd_total": view.spend,
        "fal_discount_usd_total": view.discount,
        "fal_gpu_seconds_total": view.gpu_seconds,
        "fal_usage_quantity_total": view.quantity,
        "fal_spend_pending_usd": view.pending,
        "fal_spend_current_hour_usd": view.current_hour,
        "fal_spend_last_hour_usd": view.last_hour,
        "fal_spend_today_usd": view.today,
        "fal_spend_last_day_usd": view.last_day,
        "fal_discount_last_day_usd": view.discount_last_day,
        "fal_usage_quantity_last_day": view.quantity_last_day,
        "fal_spend_month_to_date_usd": view.month_to_date,
        "fal_spend_last_month_usd": view.last_month,
        "fal_spend_last_month_to_date_usd": comparison.last_month,
        "fal_spend_month_compared_usd": comparison.this_month,
        "fal_spend_month_change_usd": comparison.changes,
        "fal_spend_movers_this_month_usd": comparison.movers,
        "fal_spend_movers_last_month_usd": comparison.movers_before,
        "fal_gpu_time_last_hour_seconds": view.gpu_time_last_hour,
        "fal_gpu_time_month_to_date_seconds": view.gpu_time_month_to_date,
        "fal_spend_surge_month_to_date_usd": view.surge_month_to_date,
        "fal_gpu_time_surge_month_to_date_seconds": view.gpu_time_surge_month_to_date,
        "fal_unit_price_usd": view.unit_prices,
        "fal_unit_price_previous_usd": view.previous_prices,
        "fal_unit_price_changed_timestamp_seconds": view.price_changes,
        "fal_unit_discount_ratio": view.discounts,
        "fal_unit_discount_previous_ratio": view.previous_discounts,
        "fal_unit_discount_changed_timestamp_seconds": view.discount_changes,
        "fal_model_first_seen_timestamp_seconds": view.first_seen,
        "fal_tag_spend_month_to_date_usd": view.tags.by_key,
    }


def _few(
    view: LedgerView, history_progress: Mapping[tuple[str, str], float], outlook: Outlook
) -> dict[str, Iterable[Sample]]:
    """Return the families of which an account has few samples."""
    names = invoice_names(view.invoices)
    return {
        "fal_data_through_timestamp_seconds": _stamps(view.scopes, [item.data_through for item in view.scopes]),
        "fal_settled_through_timestamp_seconds": _stamps(view.scopes, [item.settled_through for item in view.scopes]),
        "fal_window_coverage_ratio": [
            Sample((account, WINDOWS[period]), of_window.ratio)
            for account, windows in view.coverage.items()
            for period, of_window in windows.items()
        ],
        "fal_restated_usd_total": [
            Sample((item.account, item.source, direction), amount, item.born_at)
            for item in view.scopes
            for direction, amount in (("down", item.restated_down), ("up", item.restated_up))
        ],
        "fal_restatements_total": [
            Sample((item.account, item.source), item.restated_hours, item.born_at) for item in view.scopes
        ],
        "fal_spend_relabelled_usd_total": [
            Sample((item.account, item.source), item.relabelled, item.born_at) for item in view.scopes
        ],
        "fal_credit_balance_usd": [Sample((balance.account,), balance.amount) for balance in view.balances],
        "fal_invoice_total_usd": [
            Sample((invoice.account, names[invoice.account, invoice.id], invoice.status), invoice.total)
            for invoice in view.invoices
        ],
        "fal_invoice_due_timestamp_seconds": [
            Sample((invoice.account, names[invoice.account, invoice.id], invoice.status), invoice.due_at.timestamp())
            for invoice in view.invoices
            if invoice.due_at is not None
        ],
        **reconciliation_samples(view.reconciliations, view.at),
        **forecast_samples(outlook),
        "fal_exporter_history_progress_ratio": [
            Sample(scope, progress) for scope, progress in history_progress.items()
        ],
        "fal_tagged_difference_usd": [Sample((name,), amount) for name, amount in view.tags.difference.items()],
        "fal_tagged_through_timestamp_seconds": [
            Sample((name,), through.timestamp()) for name, through in view.tags.through.items()
        ],
        "fal_exporter_series": [Sample((), view.label_sets)],
        "fal_exporter_series_overflow_total": [Sample((), view.overflowed_series, view.born_at)],
        "fal_exporter_ledger_charges": [Sample((), view.charges)],
        "fal_exporter_ledger_birth_timestamp_seconds": [Sample((), view.born_at.timestamp())],
    }


def _stamps(scopes: Iterable[ScopeState], instants: Iterable[datetime | None]) -> list[Sample]:
    return [
        Sample((scope.account, scope.source), instant.timestamp())
        for scope, instant in zip(scopes, instants, strict=True)
        if instant is not None
    ]
