"""Samples of machines: spend by the states of runners, settings of apps, ceilings, and what requests cost."""

from collections.abc import Iterable, Mapping, Sequence

from exporter.charges import Dimensions
from exporter.forecasting.budgets import is_about
from exporter.forecasting.state import BudgetOutlook
from exporter.forecasting.what_if import WhatIf
from exporter.ledger.accounting.machines import MachineFigures
from exporter.machines import SERVERLESS, AppSettings, Ceiling, Efficiency
from exporter.samples import Pages, Sample, paged

_WINDOWS = {"today": "today", "last_day": "last_day", "month": "month_to_date", "last_month": "last_month"}
"""Words that the gauges' names have, by period."""

_SETTINGS = {
    "fal_serverless_keep_alive_seconds": "keep_alive",
    "fal_serverless_min_concurrency": "min_concurrency",
    "fal_serverless_max_concurrency": "max_concurrency",
}


def machine_tables(figures: MachineFigures, budgets: Iterable[BudgetOutlook]) -> dict[str, Pages]:
    """Return the pages of every family; those of an account whose apps are not read are empty.

    Args:
        figures: of the ledger.
        budgets: those that are configured.
    """
    states: dict[str, Pages] = {
        "fal_gpu_spend_by_state_usd_total": figures.spend,
        "fal_gpu_time_by_state_seconds_total": figures.gpu_seconds,
    }
    for period, word in _WINDOWS.items():
        states[f"fal_gpu_spend_by_state_{word}_usd"] = figures.spend_of.get(period, ())
        states[f"fal_gpu_time_by_state_{word}_seconds"] = figures.gpu_time_of.get(period, ())
    few: dict[str, Iterable[Sample]] = {
        "fal_app_burn_ceiling_usd_per_hour": _ceilings(figures.ceilings),
        "fal_budget_burn_ceiling_usd_per_hour": [
            Sample((budget,), amount) for budget, amount in budget_ceilings(figures.ceilings, budgets).items()
        ],
        **{name: _settings(figures.settings, field) for name, field in _SETTINGS.items()},
        **_requests(figures.efficiency),
        **_what_ifs(figures.what_ifs),
    }
    return states | {name: paged(samples) for name, samples in few.items()}


def _ceilings(ceilings: Iterable[Ceiling]) -> list[Sample]:
    sums: dict[tuple[str, ...], int] = {}
    for item in ceilings:
        key = (item.account, item.app, item.environment, item.gpu_class)
        # Two owners may have apps of one name.
        sums[key] = sums.get(key, 0) + item.amount
    return [Sample(labels, amount) for labels, amount in sums.items()]


def budget_ceilings(ceilings: Iterable[Ceiling], budgets: Iterable[BudgetOutlook]) -> Mapping[str, int]:
    """Return what the apps of each budget can burn in an hour in nano-USD; without budgets that cover no app."""
    known = list(ceilings)
    found = {
        budget.budget: [item.amount for item in known if is_about(budget.match, _dimensions(item))]
        for budget in budgets
    }
    return {name: sum(amounts) for name, amounts in found.items() if amounts}


def _dimensions(ceiling: Ceiling) -> Dimensions:
    return Dimensions(
        ceiling.account,
        product=SERVERLESS,
        app=ceiling.app,
        environment=ceiling.environment,
        gpu_class=ceiling.gpu_class,
        unit="second",
    )


def _settings(settings: Iterable[AppSettings], field: str) -> list[Sample]:
    found: dict[tuple[str, ...], Sample] = {}
    for item in settings:
        value = getattr(item, field)
        if value is not None:
            labels = (item.account, item.app, item.environment)
            found[labels] = Sample(labels, value)
    return list(found.values())


def _what_ifs(found: Iterable[WhatIf]) -> Mapping[str, list[Sample]]:
    savings, starts = [], []
    for item in found:
        labels = (item.account, item.app, item.environment, *item.changed)
        savings += [Sample((*labels, bound), getattr(item, bound)) for bound in ("least", "likely", "most")]
        starts += [Sample((*labels, bound), getattr(item, f"{bound}_starts")) for bound in ("likely", "most")]
    return {"fal_serverless_what_if_saving_usd": savings, "fal_serverless_what_if_cold_starts": starts}


def _requests(efficiency: Sequence[Efficiency]) -> Mapping[str, list[Sample]]:
    known = [(_labels(item), item) for item in efficiency]
    apps = [((item.account, item.name), item) for item in efficiency if item.product == SERVERLESS]
    return {
        "fal_cost_per_success_usd": [
            Sample(labels, item.cost_per_success) for labels, item in known if item.cost_per_success is not None
        ],
        "fal_failed_requests_spend_usd": [Sample(labels, item.failed_cost) for labels, item in known],
        "fal_failed_requests_spend_ratio": [
            Sample(labels, item.failed_share) for labels, item in known if item.failed_share is not None
        ],
        "fal_cold_starts": [Sample(labels, item.cold_starts) for labels, item in apps],
        "fal_cold_starts_spend_usd": [Sample(labels, item.start_cost) for labels, item in apps],
        "fal_cold_starts_gpu_seconds": [Sample(labels, item.start_seconds) for labels, item in apps],
    }


def _labels(item: Efficiency) -> tuple[str, ...]:
    model, app = ("", item.name) if item.product == SERVERLESS else (item.name, "")
    return item.account, item.product, model, app
