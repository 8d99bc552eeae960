from dataclasses import replace
from datetime import UTC, datetime

from exporter.charges import NANO, Window
from exporter.forecasting.state import BudgetOutlook
from exporter.forecasting.what_if import Setting, WhatIf
from exporter.ledger.accounting.machines import MachineFigures
from exporter.machines import AppSettings, Ceiling, Efficiency
from exporter.metrics.machines import machine_tables
from exporter.samples import Pages, Sample, paged

MONTH = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
SHOP = Ceiling("a", "shop", "prod", "H100", 18 * NANO)
TRAIN = Ceiling("a", "train", "", "A100", 4 * NANO)


def samples(pages: Pages) -> dict[tuple[str, ...], int | float]:
    return {sample.labels: sample.value for page in pages for sample in page.samples}


def budget(name: str, **match: tuple[str, ...]) -> BudgetOutlook:
    return BudgetOutlook(name, "month", MONTH, 100 * NANO, match, ())


def test_a_budgets_ceiling_is_that_of_the_apps_that_it_covers() -> None:
    figures = MachineFigures(ceilings=(SHOP, TRAIN))
    budgets = [
        budget("all"),
        budget("prod", environment=("prod",)),
        budget("gpus", gpu_class=("A*", "H*")),
        budget("video", model=("fal-ai/*",)),
        budget("other", account=("b",)),
    ]
    found = samples(machine_tables(figures, budgets)["fal_budget_burn_ceiling_usd_per_hour"])
    assert found == {("all",): 22 * NANO, ("prod",): 18 * NANO, ("gpus",): 22 * NANO}


def test_apps_of_one_name_of_two_owners_are_one_series() -> None:
    settings = tuple(AppSettings("a", owner, "shop", "prod", "GPU-H100", 60, 0, 4) for owner in ("x", "y"))
    tables = machine_tables(MachineFigures(ceilings=(SHOP, SHOP), settings=settings), ())
    assert samples(tables["fal_app_burn_ceiling_usd_per_hour"]) == {("a", "shop", "prod", "H100"): 36 * NANO}
    for name, value in (("keep_alive_seconds", 60), ("min_concurrency", 0), ("max_concurrency", 4)):
        (page,) = tables[f"fal_serverless_{name}"]
        assert page.samples == (Sample(("a", "shop", "prod"), value),)


def test_a_setting_that_fal_does_not_state_has_no_series() -> None:
    unstated = AppSettings("a", "x", "shop", "prod")
    assert machine_tables(MachineFigures(settings=(unstated,)), ())["fal_serverless_keep_alive_seconds"] == ()


def test_requests_are_labelled_as_the_charges_that_they_are_of() -> None:
    app = Efficiency("a", "serverless", "shop", 10, 8, 2, 3, 90, 11, 9, 5, 4)
    model = Efficiency("a", "model_apis", "fal-ai/x", 4, 0, 4, 0, 0, None, 0)
    tables = machine_tables(MachineFigures(efficiency=(app, model)), ())
    assert samples(tables["fal_cost_per_success_usd"]) == {("a", "serverless", "", "shop"): 11}
    assert samples(tables["fal_failed_requests_spend_usd"]) == {
        ("a", "serverless", "", "shop"): 9,
        ("a", "model_apis", "fal-ai/x", ""): 0,
    }
    assert samples(tables["fal_failed_requests_spend_ratio"]) == {("a", "serverless", "", "shop"): 0.1}
    starts = {name: samples(tables[f"fal_cold_starts{name}"]) for name in ("", "_spend_usd", "_gpu_seconds")}
    assert starts == {"": {("a", "shop"): 3}, "_spend_usd": {("a", "shop"): 5}, "_gpu_seconds": {("a", "shop"): 4}}


def test_the_setting_that_would_have_saved_most_is_told_with_its_bounds() -> None:
    shorter = WhatIf("a", "shop", "", Setting(600, 0), Setting(150, 0), 168, -5, 40, 90, 3, 8)
    fewer = replace(shorter, app="train", present=Setting(60, 2), proposed=Setting(60, 1))
    tables = machine_tables(MachineFigures(what_ifs=(shorter, fewer)), ())
    saving, starts = (samples(tables[f"fal_serverless_what_if_{name}"]) for name in ("saving_usd", "cold_starts"))
    shop, train = ("a", "shop", "", "keep_alive", "150"), ("a", "train", "", "min_concurrency", "1")
    bounds = {"least": -5, "likely": 40, "most": 90}
    assert saving == {(*app, bound): value for app in (shop, train) for bound, value in bounds.items()}
    assert starts == {(*app, bound): value for app in (shop, train) for bound, value in (("likely", 3), ("most", 8))}


def test_each_gauge_of_states_is_of_its_own_period() -> None:
    pages = {name: paged([Sample((name,), 1)]) for name in ("today", "last_day", "month", "last_month")}
    tables = machine_tables(MachineFigures(spend_of=pages, gpu_time_of=pages), ())
    for period, word in (("today", "today"), ("month", "month_to_date"), ("last_month", "last_month")):
        assert tables[f"fal_gpu_spend_by_state_{word}_usd"] is pages[period]
        assert tables[f"fal_gpu_time_by_state_{word}_seconds"] is pages[period]
