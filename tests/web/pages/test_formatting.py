from datetime import UTC, datetime, timedelta

import pytest

from exporter.web.pages.formatting import (
    ago,
    changes,
    dollars,
    instant,
    percent,
    round_dollars,
    runway,
    share_of_limit,
    span,
)

AT = datetime(2026, 11, 21, 22, 5, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unknown"),
        (0, "$0.00"),
        (24_512_330_000_000, "$24,512.33"),
        (-180_000_000, "-$0.18"),
        (971_100_000, "$0.97"),
        (100_000_000, "$0.10"),
        (94_200_000, "$0.0942"),
        (4_100_000, "$0.0041"),
        (1_005_000_000, "$1.00"),
        (1_015_000_000, "$1.02"),
        (2**63 - 1, "$9,223,372,036.85"),
        (-1, "$0.0000"),
        (10**40, "$10,000,000,000,000,000,000,000,000,000,000.00"),
    ],
)
def test_dollars(amount: int | None, text: str) -> None:
    assert dollars(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 seconds"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (3599, "59 minutes"),
        (3600, "1 hour"),
        (5000, "1 hour 23 minutes"),
        (2 * 86400, "2 days"),
        (2 * 86400 + 3700, "2 days 1 hour"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_an_instant_is_told_to_the_minute_and_relative_to_now() -> None:
    assert instant(AT) == "2026-11-21 22:05 UTC"
    assert ago(AT, AT + timedelta(seconds=59)) == "just now"
    assert ago(AT, AT + timedelta(minutes=3)) == "3 minutes ago"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (2_000_000, "$0.002"),
        (1, "$0.000000001"),
        (500_000_000_000, "$500"),
        (20_000_000_000_000, "$20k"),
        (5 * 10**15, "$5M"),
    ],
)
def test_round_dollars(amount: int, text: str) -> None:
    assert round_dollars(amount) == text


def test_a_runway_beyond_a_year_has_no_number() -> None:
    assert runway(timedelta(hours=30)) == "1 day 6 hours"
    assert runway(timedelta(days=400)) == "over a year"


@pytest.mark.parametrize(
    ("part", "whole", "shown"), [(1, 3, 33.33), (0, 5, 0), (5, 5, 100), (7, 5, 100), (-1, 5, 0), (1, 0, 0), (1, -5, 0)]
)
def test_a_share_is_what_a_bar_can_show(part: int, whole: int, shown: float) -> None:
    assert percent(part, whole) == shown


def test_changes_beside_each_other_have_the_same_places() -> None:
    assert changes([202_550_000_000, -795_500_000, 0]) == ("+$202.55", "-$0.80", "$0.00")
    assert changes([700_000, -400_000]) == ("+$0.0007", "-$0.0004")
    assert changes([5_000_000_000, -4_000_000, 4_000_000]) == ("+$5.00", "$0.00", "$0.00")
    assert changes([]) == ()


@pytest.mark.parametrize(
    ("spend", "text"),
    [
        (0, "0%"),
        (9277, "92.8%"),
        (9949, "99.5%"),
        (9999, "99.9%"),
        (10_000, "100%"),
        (10_004, "100%"),
        (123_456, "1,234.6%"),
    ],
)
def test_a_share_of_a_limit_is_all_of_it_only_once_it_is_reached(spend: int, text: str) -> None:
    assert share_of_limit(spend, 10_000) == text
