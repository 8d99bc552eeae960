"""The samples of what lies ahead; what is not known has none."""

from collections.abc import Iterable, Mapping

from exporter.outlook.budgets import percent, threshold_amount
from exporter.outlook.state import BudgetOutlook, Forecast, Outlook
from exporter.samples import Sample


def prospects(outlook: Outlook) -> Mapping[str, list[Sample]]:
    """Return the samples by family."""
    budgets = outlook.budgets
    return {
        "fal_credit_runway_seconds": [
            Sample((it.account,), it.runway.total_seconds()) for it in outlook.accounts if it.runway is not None
        ],
        **_forecasts("fal_spend_month_forecast", ((it.account, it.forecast) for it in outlook.accounts)),
        "fal_budget_limit_usd": [Sample((it.budget,), it.limit) for it in budgets],
        "fal_budget_spend_usd": [Sample((it.budget,), it.spend) for it in budgets if it.spend is not None],
        **_forecasts("fal_budget_forecast", ((it.budget, it.forecast) for it in budgets)),
        "fal_budget_period_start_timestamp_seconds": [
            Sample((it.budget,), it.window.start.timestamp()) for it in budgets
        ],
        "fal_budget_period_end_timestamp_seconds": [Sample((it.budget,), it.window.end.timestamp()) for it in budgets],
        "fal_budget_threshold_usd": [sample for it in budgets for sample in _thresholds(it)],
        "fal_budget_burn_ratio": [
            Sample((it.budget, window), ratio) for it in budgets for window, ratio in (it.burn or {}).items()
        ],
        "fal_spend_expected_last_hour_usd": [Sample((it.account, it.product), it.last_hour) for it in outlook.expected],
        "fal_spend_expected_last_hour_high_usd": [
            Sample((it.account, it.product), it.last_hour_high) for it in outlook.expected
        ],
        "fal_spend_expected_current_hour_usd": [
            Sample((it.account, it.product), it.current_hour) for it in outlook.expected
        ],
        "fal_spend_expected_current_hour_high_usd": [
            Sample((it.account, it.product), it.current_hour_high) for it in outlook.expected
        ],
    }


def _forecasts(family: str, forecasts: Iterable[tuple[str, Forecast | None]]) -> dict[str, list[Sample]]:
    known = [(name, it) for name, it in forecasts if it is not None]
    return {
        f"{family}_usd": [Sample((name,), it.expected) for name, it in known],
        f"{family}_low_usd": [Sample((name,), it.low) for name, it in known],
        f"{family}_high_usd": [Sample((name,), it.high) for name, it in known],
    }


def _thresholds(budget: BudgetOutlook) -> Iterable[Sample]:
    return (
        Sample((budget.budget, percent(share)), threshold_amount(budget.limit, share)) for share in budget.thresholds
    )
