from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, NANO, Dimensions, hour_of
from exporter.forecasting.budgets import (
    BURN_WINDOWS,
    PERIODS,
    Budget,
    Period,
    budget_of,
    percent,
    running_period,
    threshold_amount,
)
from exporter.settings.entries import BudgetEntry
from exporter.settings.parsing import parse_duration

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"]).map(ZoneInfo)
INSTANTS = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  given a zone


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        ("day", "UTC", "2026-11-22T14:37", "2026-11-22T00", "2026-11-23T00"),
        ("day", "Europe/Berlin", "2026-11-22T22:59", "2026-11-21T23", "2026-11-22T23"),
        ("day", "Europe/Berlin", "2026-11-22T23:00", "2026-11-22T23", "2026-11-23T23"),
        ("day", "Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22", "2026-10-25T23"),  # the day of 25 hours
        ("day", "Asia/Kolkata", "2026-11-22T18:30", "2026-11-21T19", "2026-11-22T19"),  # its hours begin at half past
        ("week", "UTC", "2026-11-22T23:59", "2026-11-16T00", "2026-11-23T00"),  # a Sunday
        ("week", "UTC", "2026-11-23T00:00", "2026-11-23T00", "2026-11-30T00"),
        ("month", "UTC", "2026-12-31T23:59", "2026-12-01T00", "2027-01-01T00"),
        ("month", "America/New_York", "2026-12-01T04:59", "2026-11-01T04", "2026-12-01T05"),  # clocks went back within
    ],
)
def test_a_period_is_made_of_the_hours_that_begin_in_it(
    period: Period, zone: str, now: str, start: str, end: str
) -> None:
    window = running_period(period, datetime.fromisoformat(now).replace(tzinfo=UTC), ZoneInfo(zone))
    assert (f"{window.start:%Y-%m-%dT%H}", f"{window.end:%Y-%m-%dT%H}") == (start, end)


@given(st.sampled_from(PERIODS), INSTANTS, ZONES)
def test_periods_hold_the_running_hour_and_follow_each_other_without_a_gap(
    period: Period, now: datetime, zone: ZoneInfo
) -> None:
    window = running_period(period, now, zone)
    assert hour_of(now) in window
    assert running_period(period, window.end, zone).start == window.end
    assert running_period(period, window.end - timedelta(seconds=1), zone) == window


UTC_ZONE = ZoneInfo("UTC")
NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)


def budget(period: object = "month", amount: object = 720, **match: object) -> Budget:
    entry = BudgetEntry.model_validate({"name": "b", "amount": amount, "period": period, "match": match})
    return budget_of(entry, UTC_ZONE)


@pytest.mark.parametrize(
    ("match", "is_about"),
    [
        ({}, True),
        ({"product": "serverless"}, True),
        ({"product": ["model_apis", "serverless"]}, True),
        ({"product": "model_apis"}, False),
        ({"app": "video-*"}, True),
        ({"app": "VIDEO-*"}, False),
        ({"gpu_class": "[HB]?00"}, True),
        ({"gpu_class": "A*"}, False),
        ({"model": ""}, True),  # a dimension that the charge lacks is empty
        ({"model": "?*"}, False),
        ({"app": "video-*", "environment": "prod"}, True),
        ({"app": "video-*", "environment": "staging"}, False),
    ],
)
def test_a_charge_counts_when_every_named_label_matches_one_of_its_globs(
    match: dict[str, object], *, is_about: bool
) -> None:
    charged = Dimensions("main", product="serverless", app="video-captions", environment="prod", gpu_class="H100")
    assert budget(**match).is_about(charged) is is_about


def test_no_charge_by_itself_counts_for_a_budget_by_tags() -> None:
    charged = Dimensions("main", product="serverless")
    assert not budget(**{"model": "*", "tag:customer": "*"}).is_about(charged)


def test_a_window_of_burn_is_as_long_as_its_name_says() -> None:
    assert {name: parse_duration(name) for name in BURN_WINDOWS} == {
        name: hours * HOUR for name, hours in BURN_WINDOWS.items()
    }


def test_the_accounts_of_a_budget_are_those_whose_charges_may_count() -> None:
    accounts = ("studio", "research-eu", "research-us")
    assert budget().accounts_of(accounts) == accounts
    assert budget(account="research-*").accounts_of(accounts) == accounts[1:]


def test_an_amount_is_exact_and_a_zone_of_its_own_goes_before_the_exporters() -> None:
    entry = BudgetEntry(name="b", amount=Decimal("1500.000000001"), timezone=ZoneInfo("Asia/Tokyo"))
    assert budget_of(entry, UTC_ZONE).limit == 1_500_000_000_001
    assert budget_of(entry, UTC_ZONE).zone.key == "Asia/Tokyo"
    assert budget().zone is UTC_ZONE


def test_a_burn_of_one_uses_the_budget_up_by_the_end_of_its_period() -> None:
    monthly = budget(amount=720)  # a dollar an hour in a month of thirty days
    assert monthly.burn(NANO * 3 // 2, 1, NOW) == pytest.approx(1)  # the hour before, and half of this one
    assert monthly.burn(144 * NANO, 72, NOW - timedelta(minutes=30)) == pytest.approx(2)
    assert monthly.burn(0, 6, NOW) == 0


@given(st.integers(1, 2**62), st.fractions(Fraction(1, 100), Fraction(10)))
def test_a_threshold_is_reached_by_its_share_and_not_before(limit: int, share: Fraction) -> None:
    amount = threshold_amount(limit, share)
    assert amount >= limit * share > amount - 1


@pytest.mark.parametrize(
    ("share", "text"), [(Fraction(4, 5), "80%"), (Fraction(1), "100%"), (Fraction(67, 200), "33.5%")]
)
def test_a_share_is_told_in_percent(share: Fraction, text: str) -> None:
    assert percent(share) == text
