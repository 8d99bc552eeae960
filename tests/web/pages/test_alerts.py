from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from web.pages.conftest import AT, MONTH, OVERVIEW, outline

from exporter.charges import NANO
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast, Outlook
from exporter.publication import (
    AccountOverview,
    Billed,
    Exposition,
    LedgerOverview,
    Overview,
    Publication,
    SourceOverview,
)
from exporter.web.pages.alerts import THRESHOLDS, alerts

SECOND = timedelta(seconds=1)


def severities(account: AccountOverview, outlook: Outlook | None = None) -> list[str]:
    """Return how urgent is what is wrong with an account."""
    told = Publication(1, AT, Exposition(), Overview("1", (account,)), ready=True, outlook=outlook or Outlook())
    return [alert.severity for alert in alerts(told, AT)]


@pytest.mark.parametrize(
    "words",
    [
        "3 urgent · 1 item needs attention",
        "production The source serverless is failing: GET /serverless/usage answered 500.",
        "research Locked by fal: Exhausted balance.",
        "Budget burst Exceeded by $2.00: $12.00 of $10.00.",
        "Budget everything Forecast to end at $120.00, above its limit of $100.00.",
    ],
)
def test_what_is_wrong_is_told(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_figures_that_have_not_moved_for_long_are_an_alert() -> None:
    well = Overview("1", (AccountOverview("a", (SourceOverview("models", "", "up", AT, AT),)),))
    five, six = (outline(well, outlook=Outlook(), now=AT + timedelta(minutes=item)).text for item in (5, 6))
    assert "Nothing needs attention. Data through 2026-11-21 22:00 UTC." in five
    assert "1 urgent Exporter These figures are 6 min old" in six


def test_trouble_with_the_ledger_is_urgent_and_what_happened_to_it_is_to_be_looked_at() -> None:
    ledger = LedgerOverview("the ledger is lost", events=("it had been deleted; nothing is lost",))
    text = outline(Overview("1", ledger=ledger), outlook=Outlook()).text
    assert (
        "1 urgent · 1 item needs attention Ledger The ledger is lost. Ledger It had been deleted; nothing is lost."
        in text
    )


@pytest.mark.parametrize(("age", "found"), [(timedelta(hours=3), []), (timedelta(hours=3) + SECOND, ["waiting"])])
def test_data_that_end_three_hours_ago_are_to_be_looked_at(age: timedelta, found: list[str]) -> None:
    assert severities(AccountOverview("a", (SourceOverview("models", "", "up", AT, AT - age),))) == found


@pytest.mark.parametrize(
    ("runway", "balance", "found"),
    [
        (timedelta(days=3), 100 * NANO, []),
        (timedelta(days=3), NANO, ["waiting"]),
        (timedelta(days=3) - SECOND, NANO, ["waiting"]),
        (timedelta(hours=6), NANO, ["waiting"]),
        (timedelta(hours=6) - SECOND, NANO, ["bad"]),
        (timedelta(0), 0, ["bad"]),
        (timedelta(0), -NANO, ["bad"]),
        (None, 100 * NANO, []),
    ],
)
def test_credit_that_ends_within_three_days_or_has_ended_is_told_once(
    runway: timedelta | None, balance: int, found: list[str]
) -> None:
    ahead = Outlook((AccountOutlook("a", MONTH, balance, AT, runway),))
    assert severities(AccountOverview("a", (), balance=balance, balance_at=AT), ahead) == found


@pytest.mark.parametrize(
    ("balance", "found"), [(100 * NANO + 1, ["bad"]), (100 * NANO, ["bad"]), (99 * NANO, ["bad"]), (1000 * NANO, [])]
)
def test_credit_ends_at_the_floor_at_which_fal_locks_the_account(balance: int, found: list[str]) -> None:
    floor = 100 * NANO
    ahead = Outlook(
        (AccountOutlook("a", MONTH, balance, AT, max(timedelta(0), (balance - floor) / NANO * SECOND * 400)),)
    )
    assert severities(AccountOverview("a", (), balance=balance, balance_at=AT, credit_floor=floor), ahead) == found


@pytest.mark.parametrize(("spend", "found"), [(None, []), (10 * NANO, []), (10 * NANO + 1, ["bad"])])
def test_a_budget_is_exceeded_by_what_is_above_its_limit(spend: int | None, found: list[str]) -> None:
    budgets = (BudgetOutlook("studio", "month", MONTH, 10 * NANO, {}, spend=spend),)
    assert severities(AccountOverview("a", ()), Outlook(budgets=budgets)) == found


def test_five_are_shown_and_the_rest_can_be_unfolded() -> None:
    def told(count: int) -> str:
        problems = tuple(f"problem {number}" for number in range(count))
        return outline(Overview("1", (AccountOverview("a", (), problems=problems),)), outlook=Outlook()).text

    assert "more" not in told(5).partition("Month to date")[0]
    assert "a problem 4 2 more a problem 5 a problem 6 Month" in told(7)


def told(account: AccountOverview, outlook: Outlook | None = None, now: datetime = AT) -> list[str]:
    overview = Overview("1", (account,))
    return [alert.text for alert in alerts(Publication(1, AT, Exposition(), overview, True, outlook or Outlook()), now)]  # noqa: FBT003


def test_the_thresholds_are_those_that_prometheus_loads(repository: Path) -> None:
    groups = yaml.safe_load((repository / "deploy/prometheus/thresholds.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {f"fal:threshold_{name}": f"vector({value})" for name, value in THRESHOLDS.items()} == {
        rule["record"]: rule["expr"] for rule in rules
    }


@pytest.mark.parametrize(("cost", "found"), [(500 * NANO, 0), (500 * NANO + 1, 1)])
@pytest.mark.parametrize("hour", ["last_hour", "current_hour"])
def test_an_hour_above_the_hourly_limit_is_urgent(hour: str, cost: int, found: int) -> None:
    account = AccountOverview("a", (), **{hour: cost})  # type: ignore[arg-type]  # a figure's name
    assert severities(account) == ["bad"] * found


@pytest.mark.parametrize(("difference", "found"), [(NANO, 0), (NANO + 1, 1), (-NANO - 1, 1), (None, 0)])
def test_a_month_that_differs_from_its_invoice_is_told(difference: int | None, found: int) -> None:
    bill = Billed("FAL-1", "paid", 9 * NANO, AT, difference)
    assert len(told(AccountOverview("a", (), bill=bill))) == found


@pytest.mark.parametrize(
    ("status", "late", "found"),
    [("open", timedelta(days=1), 0), ("open", timedelta(days=1, seconds=1), 1), ("paid", timedelta(days=9), 0)],
)
def test_an_overdue_invoice_is_told(status: str, late: timedelta, found: int) -> None:
    bill = Billed("FAL-1", status, 9 * NANO, AT - late, 0)
    texts = told(AccountOverview("a", (), bill=bill))
    assert texts == ["The invoice FAL-1 of $9.00 was due 1 d ago."] * found


@pytest.mark.parametrize(
    ("burn", "texts"),
    [
        ({"1h": 7.0, "6h": 6.0, "1d": 1.0, "3d": 1.0}, []),
        ({"1h": 7.0, "6h": 6.5, "1d": 3.0, "3d": 3.0}, ["Spent 6.5 times faster than lasts to the end of the period."]),
        ({"1h": 1.0, "6h": 1.0, "1d": 2.5, "3d": 3.0}, ["Spent 2.5 times faster than lasts to the end of the period."]),
    ],
)
def test_a_budget_that_burns_too_fast_over_both_windows_is_told(burn: dict[str, float], texts: list[str]) -> None:
    budget = BudgetOutlook("b", "month", MONTH, 10 * NANO, {}, spend=NANO, burn=burn)
    assert told(AccountOverview("a", ()), Outlook(budgets=(budget,))) == texts


@pytest.mark.parametrize(("spend", "found"), [(8 * NANO - 1, []), (8 * NANO, ["80% used: $8.00 of $10.00."])])
def test_a_budget_that_has_reached_its_last_threshold_is_told(spend: int, found: list[str]) -> None:
    budget = BudgetOutlook("b", "month", MONTH, 10 * NANO, {}, (Fraction(1, 2), Fraction(4, 5), Fraction(1)), spend)
    assert told(AccountOverview("a", ()), Outlook(budgets=(budget,))) == found


def test_a_budget_whose_forecast_may_still_hold_is_no_alert() -> None:
    forecast = Forecast(12 * NANO, 10 * NANO, 14 * NANO)
    budget = BudgetOutlook("b", "month", MONTH, 10 * NANO, {}, spend=NANO, forecast=forecast)
    assert told(AccountOverview("a", ()), Outlook(budgets=(budget,))) == []
