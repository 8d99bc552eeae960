from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from exporter.charges import NANO, ApiKey, Team, Window
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, ExpectedSpend, Forecast, Outlook, Path
from exporter.ledger import KeyRecord, Reconciliation
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.snapshot import (
    CATEGORIES,
    NameSamples,
    Snapshot,
    Table,
    forecast_samples,
    name_samples,
    reconciliation_samples,
)
from exporter.samples import Page, Sample


def test_a_family_may_stand_in_one_table_only() -> None:
    table = Table(CATALOGUE["fal_source_up"], ("account", "source"), ())
    with pytest.raises(ValueError, match="one table of each family"):
        Snapshot(1, datetime(2026, 11, 1, tzinfo=UTC), (table, table))


def test_pages_of_a_histogram_have_buckets() -> None:
    labels = ("account", "source")
    with pytest.raises(ValueError, match="fal_exporter_poll_duration_seconds is a histogram"):
        Table(CATALOGUE["fal_exporter_poll_duration_seconds"], labels, (Page((Sample(("a", "models"), 1),)),))


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
    path=Path((7, 1, 2, 3, 4, 5, 6), {1: 1.5, 7: 1.25}),
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
    told = forecast_samples(WHOLE)
    assert {name: len(samples) for name, samples in told.items() if len(samples) != 1} == {
        "fal_budget_threshold_usd": 2,
        "fal_budget_burn_ratio": 2,
        "fal_spend_expected_weekday_usd": 7,
        "fal_spend_forecast_spread_ratio": 2,
    }
    assert all(
        len(sample.labels) == len(CATALOGUE[name].labels) for name, samples in told.items() for sample in samples
    )
    assert told["fal_credit_runway_seconds"] == [Sample(("main",), 7200.0)]
    assert told["fal_spend_month_forecast_high_usd"] == [Sample(("main",), 120 * NANO)]
    assert told["fal_spend_expected_weekday_usd"][0] == Sample(("main", "0"), 7)
    assert told["fal_spend_forecast_spread_ratio"][1] == Sample(("main", "7d"), 1.25)
    assert told["fal_budget_forecast_low_usd"] == [Sample(("video",), 45 * NANO)]
    assert told["fal_budget_period_end_timestamp_seconds"] == [Sample(("video",), MONTH.end.timestamp())]
    assert told["fal_budget_threshold_usd"] == [
        Sample(("video", "50%"), 30 * NANO + 1),
        Sample(("video", "100%"), 60 * NANO + 1),
    ]
    assert told["fal_budget_burn_ratio"] == [Sample(("video", "1h"), 1.5), Sample(("video", "3d"), 0.25)]
    assert told["fal_spend_expected_current_hour_high_usd"] == [Sample(("main", "serverless"), 4)]


def test_what_is_not_known_has_no_sample() -> None:
    account = replace(ACCOUNT, balance=None, runway=None, spend=None, forecast=None, path=None)
    budget = replace(BUDGET, spend=None, forecast=None, burn=None, thresholds=())
    told = forecast_samples(Outlook((account,), (budget,)))
    assert {name for name, samples in told.items() if samples} == {
        "fal_budget_limit_usd",
        "fal_budget_period_start_timestamp_seconds",
        "fal_budget_period_end_timestamp_seconds",
        "fal_month_end_timestamp_seconds",
    }


def test_a_used_up_runway_is_told_as_none_left() -> None:
    told = forecast_samples(Outlook((replace(ACCOUNT, runway=timedelta(0)),)))
    assert told["fal_credit_runway_seconds"] == [Sample(("main",), 0.0)]


SEPTEMBER, OCTOBER, NOVEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (9, 10, 11))
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def compared(against: str, month: datetime, usage: int, **categories: int) -> Reconciliation:
    return Reconciliation("prod", against, month, NOW, NOW, 1000, usage, {"Usage": usage, **categories})


def shown(*them: Reconciliation, at: datetime = NOW) -> dict[str, dict[tuple[str, ...], int | float]]:
    found = reconciliation_samples(them, at)
    assert all(len(sample.labels) == len(CATALOGUE[name].labels) for name, them in found.items() for sample in them)
    return {name: {sample.labels: sample.value for sample in samples} for name, samples in found.items()}


def test_a_difference_is_what_the_ledger_has_less_what_is_billed_by_period() -> None:
    tables = shown(
        compared("focus_invoice", OCTOBER, 990), compared("invoice", OCTOBER, 1001), compared("invoice", NOVEMBER, 1000)
    )
    assert tables["fal_reconciliation_difference_usd"] == {
        ("prod", "focus_invoice", "last_month"): 10,
        ("prod", "invoice", "last_month"): -1,
        ("prod", "invoice", "current_month"): 0,
    }
    assert tables["fal_reconciliation_timestamp_seconds"]["prod", "invoice", "last_month"] == NOW.timestamp()


def test_usage_credits_taxes_and_corrections_stand_apart_at_zero_where_there_are_none() -> None:
    tables = shown(compared("focus_invoice", OCTOBER, 990, Credit=-90, Tax=18, Correction=-5))
    assert tables["fal_focus_billed_usd"] == {
        ("prod", "Usage", "last_month"): 990,
        ("prod", "Purchase", "last_month"): 0,
        ("prod", "Credit", "last_month"): -90,
        ("prod", "Tax", "last_month"): 18,
        ("prod", "Adjustment", "last_month"): 0,
        ("prod", "Correction", "last_month"): -5,
    }


def test_estimate_and_invoice_of_one_month_are_never_added() -> None:
    both = (compared("focus_invoice", OCTOBER, 990), compared("focus_estimate", OCTOBER, 7))
    for them in (both, both[::-1]):
        tables = shown(*them, compared("focus_estimate", NOVEMBER, 40), compared("invoice", NOVEMBER, 3))
        billed = tables["fal_focus_billed_usd"]
        assert billed["prod", "Usage", "last_month"] == 990
        assert billed["prod", "Usage", "current_month"] == 40
        assert len(billed) == 2 * len(CATEGORIES)


def test_a_month_becomes_the_last_and_then_is_shown_no_more() -> None:
    then = compared("invoice", OCTOBER, 1)
    first = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    periods = [
        [labels[2] for labels in shown(then, at=at)["fal_reconciliation_difference_usd"]]
        for at in (first, NOVEMBER, datetime(2026, 12, 1, tzinfo=UTC))
    ]
    assert periods == [["current_month"], ["last_month"], []]
    assert shown(compared("invoice", SEPTEMBER, 1))["fal_reconciliation_difference_usd"] == {}


def test_keys_and_teams_are_told_by_their_names() -> None:
    created, used = datetime(2026, 1, 15, 9, 30, tzinfo=UTC), datetime(2026, 11, 20, 8, tzinfo=UTC)
    told_from = datetime(2026, 10, 1, tzinfo=UTC)
    keys = [
        KeyRecord(ApiKey("main", "k2", "b", "", None), "b"),
        KeyRecord(ApiKey("main", "k1", "a", "ada", created), "a (k1)", last_used=used),
        KeyRecord(ApiKey("main", "k3", "gone", "ada", created), "gone", is_listed=False),
        KeyRecord(ApiKey("other", "k4", "c", "ada", created), "c"),
    ]
    samples = name_samples(keys, {"main": told_from}, [Team("main", "acme-ml", "Acme ML")])
    assert {name: [(*sample.labels, sample.value) for sample in found] for name, found in samples.items()} == {
        "fal_api_key_info": [
            ("main", "k1", "a", "ada", "2026-01-15T09:30:00Z", 1),
            ("main", "k2", "b", "", "", 1),
            ("main", "k3", "gone", "ada", "2026-01-15T09:30:00Z", 1),
            ("other", "k4", "c", "ada", "2026-01-15T09:30:00Z", 1),
        ],
        "fal_api_key_created_timestamp_seconds": [
            ("main", "k1", "a (k1)", created.timestamp()),
            ("other", "k4", "c", created.timestamp()),
        ],
        "fal_api_key_last_used_timestamp_seconds": [("main", "k1", "a (k1)", used.timestamp())],
        "fal_api_key_unused_since_timestamp_seconds": [
            ("main", "k1", "a (k1)", used.timestamp()),
            ("main", "k2", "b", told_from.timestamp()),
        ],
        "fal_team_info": [("main", "acme-ml", "Acme ML", 1)],
    }
    assert all(len(sample.labels) == len(CATALOGUE[name].labels) for name, found in samples.items() for sample in found)


def test_samples_of_keys_are_made_anew_when_one_of_them_is_used_or_a_team_comes() -> None:
    hour = datetime(2026, 11, 20, 12, tzinfo=UTC)
    record = KeyRecord(ApiKey("main", "k1", "a", "ada", None), "a", last_used=hour)
    make, told_from = NameSamples(), {"main": hour}
    first = make((record,), told_from, ())
    assert first == name_samples((record,), told_from, ())
    assert make((replace(record),), dict(told_from), ()) is first
    used = record.used(hour + timedelta(hours=1))
    team = Team("main", "acme", "Acme")
    for now in (((used,), told_from, ()), ((used,), told_from, (team,))):
        assert make(*now) == name_samples(*now) != first
    told_from["main"] -= timedelta(hours=1)
    unused = KeyRecord(ApiKey("main", "k2", "b", "", None), "b")
    before = make((unused,), told_from, ())
    told_from["main"] += timedelta(hours=1)
    assert make((unused,), told_from, ()) != before, "the ledger changes the mapping in place"
