from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from exporter.charges import NANO, Window
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, ExpectedSpend, Forecast, Outlook
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.snapshot import prospects
from exporter.samples import Sample

MONTH = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
ACCOUNT = AccountOutlook(
    "main",
    MONTH,
    100 * NANO,
    MONTH.start,
    timedelta(hours=2),
    (),
    40 * NANO,
    Forecast(90 * NANO, 70 * NANO, 120 * NANO),
)
BUDGET = BudgetOutlook(
    "video",
    "month",
    MONTH,
    60 * NANO + 1,
    {},
    (Fraction(1, 2), Fraction(1)),
    30 * NANO,
    Forecast(50 * NANO, 45 * NANO, 65 * NANO),
    {"1h": 1.5, "3d": 0.25},
)
WHOLE = Outlook((ACCOUNT,), (BUDGET,), (ExpectedSpend("main", "serverless", 1, 2, 3, 4),))


def test_everything_that_is_known_is_told() -> None:
    told = prospects(WHOLE)
    assert {name: len(samples) for name, samples in told.items() if len(samples) != 1} == {
        "fal_budget_threshold_usd": 2,
        "fal_budget_burn_ratio": 2,
    }
    assert all(
        len(sample.labels) == len(CATALOGUE[name].labels) for name, samples in told.items() for sample in samples
    )
    assert told["fal_credit_runway_seconds"] == [Sample(("main",), 7200.0)]
    assert told["fal_spend_month_forecast_high_usd"] == [Sample(("main",), 120 * NANO)]
    assert told["fal_budget_forecast_low_usd"] == [Sample(("video",), 45 * NANO)]
    assert told["fal_budget_period_end_timestamp_seconds"] == [Sample(("video",), MONTH.end.timestamp())]
    assert told["fal_budget_threshold_usd"] == [
        Sample(("video", "50%"), 30 * NANO + 1),
        Sample(("video", "100%"), 60 * NANO + 1),
    ]
    assert told["fal_budget_burn_ratio"] == [Sample(("video", "1h"), 1.5), Sample(("video", "3d"), 0.25)]
    assert told["fal_spend_expected_current_hour_high_usd"] == [Sample(("main", "serverless"), 4)]


def test_what_is_not_known_has_no_sample() -> None:
    account = replace(ACCOUNT, balance=None, runway=None, spend=None, forecast=None)
    budget = replace(BUDGET, spend=None, forecast=None, burn=None, thresholds=())
    told = prospects(Outlook((account,), (budget,)))
    assert {name for name, samples in told.items() if samples} == {
        "fal_budget_limit_usd",
        "fal_budget_period_start_timestamp_seconds",
        "fal_budget_period_end_timestamp_seconds",
    }


def test_a_used_up_runway_is_told_as_none_left() -> None:
    told = prospects(Outlook((replace(ACCOUNT, runway=timedelta(0)),)))
    assert told["fal_credit_runway_seconds"] == [Sample(("main",), 0.0)]
