import re
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Literal

import pytest
import yaml
from web.pages.conftest import AT, MONTH, OVERVIEW, outline

from exporter.charges import NANO
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast, Outlook
from exporter.overview import (
    AccountOverview,
    BillDifference,
    Billed,
    Bookings,
    BurnCeiling,
    DiscountChange,
    Gap,
    IdleApp,
    IdleMonth,
    KeyOverview,
    LedgerOverview,
    NewName,
    Observations,
    OpenInvoice,
    Overview,
    PriceChange,
    Restated,
    SourceOverview,
    UnusualHour,
)
from exporter.publication import Exposition, Publication
from exporter.web.pages.alerts import (
    _CLOCK_SECONDS,
    _DAY,
    _FIRST_DAYS,
    _STALLED,
    NOT_SHOWN,
    THRESHOLDS,
    alerts,
)
from exporter.web.pages.text import page_text

SECOND = timedelta(seconds=1)


def severities(account: AccountOverview, outlook: Outlook | None = None) -> list[str]:
    """Return how urgent is what is wrong with an account."""
    told = Publication(1, AT, Exposition(), Overview("1", (account,)), ready=True, outlook=outlook or Outlook())
    return [alert.severity for alert in alerts(told, AT)]


@pytest.mark.parametrize(
    "words",
    [
        "1 urgent · 3 items need attention",
        "production The source serverless is failing: GET /serverless/usage answered 500.",
        "research Locked by fal: Exhausted balance.",
        "Budget burst Exceeded by $2.00: $12.00 of $10.00.",
        "Budget everything Forecast to end at $120.00, $20.00 above its limit of $100.00. Spend less,",
    ],
)
def test_what_is_wrong_is_told(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_figures_that_have_not_moved_for_long_are_an_alert() -> None:
    well = Overview("1", (AccountOverview("a", (SourceOverview("models", "", "up", AT, AT),)),))
    five, six = (outline(well, outlook=Outlook(), now=AT + timedelta(minutes=item)).text for item in (5, 6))
    assert "Nothing needs attention. Data through 2026-11-21 22:00 UTC." in five
    assert "1 urgent Exporter These figures are 6 minutes old" in six


def test_trouble_with_the_ledger_is_urgent_and_what_happened_to_it_is_to_be_looked_at() -> None:
    ledger = LedgerOverview("the ledger is lost", events=("it had been deleted; nothing is lost",))
    text = outline(Overview("1", ledger=ledger), outlook=Outlook()).text
    assert (
        "1 urgent · 1 item needs attention urgent: Ledger The ledger is lost. "
        "needs attention: Ledger It had been deleted; nothing is lost." in text
    )


def test_a_history_that_is_too_short_for_a_month_needs_attention_and_one_that_is_being_loaded_does_not() -> None:
    def text(reason: Literal["short", "loading"]) -> str:
        gap = Gap(reason, 0.43, AT - timedelta(days=9), AT)
        return outline(Overview("1", accounts=(AccountOverview("a", (UP,), gaps={"month_to_date": gap}),))).text

    assert "a Nothing before 2026-11-12 22:00 UTC is loaded, so that this month cannot be shown." in text("short")
    assert "is loaded, so that" not in text("loading")


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


@pytest.mark.parametrize(("spend", "found"), [(None, []), (10 * NANO, []), (10 * NANO + 1, ["waiting"])])
def test_a_budget_is_exceeded_by_what_is_above_its_limit(spend: int | None, found: list[str]) -> None:
    budgets = (BudgetOutlook("studio", "month", MONTH, 10 * NANO, {}, spend=spend),)
    assert severities(AccountOverview("a", ()), Outlook(budgets=budgets)) == found


def test_five_are_shown_and_the_rest_can_be_unfolded() -> None:
    def told(count: int) -> str:
        problems = tuple(f"problem {number}" for number in range(count))
        return outline(Overview("1", (AccountOverview("a", (), problems=problems),)), outlook=Outlook()).text

    assert "more" not in told(5).partition("Month to date")[0]
    assert "a problem 4 2 more a problem 5 a problem 6 Month" in told(7)


def test_what_is_said_of_many_accounts_is_said_once_and_counted_for_each() -> None:
    said = "fal answers no calls."
    accounts = tuple(AccountOverview(f"team-{number:03}", (), problems=(said,)) for number in range(200))
    odd = AccountOverview("odd", (), problems=("Its key is revoked.",))
    text = outline(Overview("1", (*accounts, odd)), outlook=Outlook()).text.partition("Month to date")[0]
    assert "201 items need attention" in text
    assert f"team-000, team-001, team-002 and 197 more {said} odd Its key is revoked." in text
    assert text.count(said) == 1


def told(account: AccountOverview, outlook: Outlook | None = None, now: datetime = AT) -> list[str]:
    overview = Overview("1", (account,))
    return [alert.text for alert in alerts(Publication(1, AT, Exposition(), overview, True, outlook or Outlook()), now)]  # noqa: FBT003


def test_the_thresholds_are_those_that_prometheus_loads(repository: Path) -> None:
    groups = yaml.safe_load((repository / "deploy/prometheus/thresholds.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {f"fal:threshold_{name}": f"vector({value})" for name, value in THRESHOLDS.items()} == {
        rule["record"]: rule["expr"] for rule in rules
    }


RULES = Path("deploy/prometheus/source/alerts.yaml")


def texts(seen: Observations, account: AccountOverview | None = None) -> list[str]:
    """Return what is told of observations."""
    overview = Overview("1", (account or AccountOverview("a", ()),), observations=seen)
    return [alert.text for alert in alerts(Publication(1, AT, Exposition(), overview, ready=True), AT)]


def seen(**observations: object) -> Overview:
    return Overview("1", (ACCOUNT,), observations=Observations(**observations))  # type: ignore[arg-type]  # their names


def budgets(**figures: object) -> Outlook:
    budget = BudgetOutlook("studio", "month", MONTH, 10 * NANO, {}, (Fraction(1, 2),), NANO)
    return Outlook(budgets=(replace(budget, **figures),))  # type: ignore[arg-type]  # its attributes


def account(**figures: object) -> Overview:
    return Overview("1", (replace(ACCOUNT, **figures),))  # type: ignore[arg-type]  # its attributes


UP = SourceOverview("models", "", "up", AT, AT)
ACCOUNT = AccountOverview("a", (UP,), month_to_date=90 * NANO)
AHEAD = AccountOutlook("a", MONTH, 999 * NANO, AT)
LONG_AGO = AT - timedelta(days=61)
PRICED = ("a", "fal-ai/veo3", "second")

TELLING: dict[str, Overview | Outlook] = {
    "FalPollFailing": account(sources=(replace(UP, state="failing"),)),
    "FalLedgerLost": Overview("1", ledger=LedgerOverview("the ledger is lost")),
    "FalPublicationStalled": Overview("1"),
    "FalClockWrong": seen(clock_ahead=-61.0),
    "FalAccessFileBroken": Overview("1"),
    "FalBookingsDiffer": seen(bookings=Bookings(2 * NANO, 100 * NANO, AT)),
    "FalBookingsNotCompared": seen(bookings=Bookings(problem="BOOKED_SOURCE: there is no file")),
    "FalFocusPushFailing": seen(focus_push_problems={"store": "the disk is full"}),
    "FalRemoteWriteFailing": seen(remote_write_problem="the store answered 401"),
    "FalUsageDataStale": account(sources=(replace(UP, data_through=AT - timedelta(hours=4)),)),
    "FalAccountLocked": account(locked="Exhausted balance."),
    "FalCreditBalanceLow": account(balance=149 * NANO, credit_floor=50 * NANO),
    "FalCreditRunwayShort": Outlook((replace(AHEAD, runway=timedelta(hours=5)),)),
    "FalProviderBudgetNear": seen(provider_budgets={"a": 110 * NANO}),
    "FalSpendAboveHourlyLimit": account(last_hour=501 * NANO),
    "FalSpendUnusual": seen(unusual_hours=(UnusualHour("a", "serverless", 61 * NANO, 10 * NANO),)),
    "FalNewModelSpending": seen(new_names=(NewName("a", "fal-ai/veo3", 51 * NANO, AT - timedelta(hours=2)),)),
    "FalApiKeyCreated": seen(keys=(KeyOverview("a", "ci", AT - timedelta(hours=23)),)),
    "FalApiKeyUnused": seen(keys=tuple(KeyOverview("a", name, unused_since=LONG_AGO) for name in "abcde")),
    "FalBudgetBurnFast": budgets(burn={"1h": 7.0, "6h": 7.0}),
    "FalBudgetBurnSlow": budgets(burn={"1d": 3.0, "3d": 3.0}),
    "FalBudgetThresholdReached": budgets(spend=5 * NANO),
    "FalBudgetExceeded": budgets(spend=11 * NANO),
    "FalBudgetForecastExceeded": budgets(forecast=Forecast(12 * NANO, 11 * NANO, 14 * NANO)),
    "FalLargeRestatement": seen(restated=(Restated("a", "down", 101 * NANO),)),
    "FalReconciliationDrift": seen(bills=(BillDifference("a", "focus_invoice", -2 * NANO),)),
    "FalUnitPriceChanged": seen(prices=(PriceChange(*PRICED, price=NANO // 2, previous=NANO * 2 // 5),)),
    "FalDiscountLost": seen(discounts=(DiscountChange(*PRICED, discount=0.05, previous=0.2),)),
    "FalInvoiceOverdue": seen(open_invoices=(OpenInvoice("a", "FAL-1", NANO, AT - timedelta(days=2)),)),
    "FalRowsRejected": account(sources=(replace(UP, state="partial"),)),
    "FalAppIdle": seen(idle_apps=(IdleApp("a", "preview", "staging", 9 * NANO, 10 * NANO, 1, 600),)),
    "FalBurnCeilingAboveBudget": seen(burn_ceilings=(BurnCeiling("gpus", 90 * NANO, 80 * NANO),)),
    "FalSeriesOverflow": seen(folded_series=3),
}
"""Accounts of which the page reports something, by the rule that reports it, too."""


@pytest.mark.parametrize(
    ("comparison", "here"),
    [
        (r"fal_exporter_snapshot_timestamp_seconds > (\d+)", _STALLED.total_seconds()),
        (r"abs\(fal_exporter_clock_skew_seconds\) > (\d+)", _CLOCK_SECONDS),
        (r"day_of_month\(\) > (\d+)", _FIRST_DAYS),
        (r"fal_api_key_created_timestamp_seconds < (\d+)", _DAY.total_seconds()),
    ],
)
def test_what_no_threshold_is_recorded_of_is_the_same_in_the_rules(
    repository: Path, comparison: str, here: float
) -> None:
    assert set(re.findall(comparison, (repository / RULES).read_text(encoding="utf-8"))) == {f"{here:.0f}"}


def test_the_page_evaluates_every_rule_or_says_why_it_cannot(repository: Path) -> None:
    rules = {
        rule["alert"] for group in yaml.safe_load((repository / RULES).read_text())["groups"] for rule in group["rules"]
    }
    assert TELLING.keys() | NOT_SHOWN.keys() == rules
    assert not TELLING.keys() & NOT_SHOWN.keys()
    assert all(NOT_SHOWN.values())


@pytest.mark.parametrize(
    "rule",
    [
        *("FalSpendUnusual", "FalLargeRestatement", "FalNewModelSpending", "FalInvoiceOverdue"),
        *("FalProviderBudgetNear", "FalDiscountLost", "FalSpendAboveHourlyLimit", "FalBudgetBurnFast"),
    ],
)
def test_what_money_is_about_says_what_to_do(rule: str) -> None:
    told = TELLING[rule]
    overview, outlook = (told, Outlook()) if isinstance(told, Overview) else (Overview("1", (ACCOUNT,)), told)
    (alert,) = alerts(Publication(1, AT, Exposition(), overview, ready=True, outlook=outlook), AT)
    assert alert.action.endswith(".")
    assert alert.told == f"{alert.text} {alert.action}"


@pytest.mark.parametrize("rule", TELLING)
def test_the_page_tells_what_a_rule_reports_as_urgently(repository: Path, rule: str) -> None:
    groups = yaml.safe_load((repository / RULES).read_text())["groups"]
    severity = next(item["labels"]["severity"] for group in groups for item in group["rules"] if item["alert"] == rule)
    told = TELLING[rule]
    overview, outlook = (told, Outlook()) if isinstance(told, Overview) else (Overview("1", (ACCOUNT,)), told)
    now = AT + timedelta(minutes=6) if rule == "FalPublicationStalled" else AT
    broken = ("rest_tokens_file",) if rule == "FalAccessFileBroken" else ()
    (alert,) = alerts(Publication(1, AT, Exposition(), overview, ready=True, outlook=outlook), now, broken)
    assert alert.rule == rule
    assert alert.severity == {"critical": "bad", "warning": "waiting", "info": "noted"}[severity]
    assert alert.text.endswith(".") or rule in {"FalPollFailing", "FalRowsRejected"}


def test_an_account_where_all_is_well_has_no_alert() -> None:
    assert texts(Observations(), ACCOUNT) == []


@pytest.mark.parametrize(
    "quiet",
    [
        Observations(unusual_hours=(UnusualHour("a", "", 60 * NANO, 10 * NANO),)),
        Observations(new_names=(NewName("a", "m", 50 * NANO, AT),)),
        Observations(restated=(Restated("a", "up", 100 * NANO),)),
        Observations(prices=(PriceChange(*PRICED, price=1_009, previous=1_000),)),
        Observations(discounts=(DiscountChange(*PRICED, discount=0.2, previous=0.2),)),
        Observations(discounts=(DiscountChange(*PRICED, discount=0.2, previous=0.1),)),
        Observations(keys=(KeyOverview("a", "k", AT - timedelta(days=1), AT - timedelta(days=60)),)),
        Observations(bills=(BillDifference("a", "focus_invoice", NANO),)),
        Observations(provider_budgets={"a": 1000 * NANO // 8}),
        Observations(clock_ahead=60.0),
        Observations(bookings=Bookings(NANO, NANO, AT)),
        Observations(bookings=Bookings(10 * NANO, 1000 * NANO, AT)),
        Observations(bookings=Bookings(through=AT - timedelta(hours=36))),
    ],
)
def test_up_to_the_threshold_nothing_is_told(quiet: Observations) -> None:
    assert texts(quiet, replace(ACCOUNT, month_to_date=100 * NANO)) == []


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (
            Observations(unusual_hours=(UnusualHour("a", "model_apis", 61 * NANO, 10 * NANO),)),
            "An hour has cost $61.00 on Model APIs, $51.00 beyond what is usual.",
        ),
        (
            Observations(prices=(PriceChange(*PRICED, price=25_000_000, previous=1_234_500_000),)),
            "fal-ai/veo3 costs $0.025 per second now, before $1.2345.",
        ),
        (
            Observations(discounts=(DiscountChange(*PRICED, discount=0.05, previous=0.2),)),
            "fal-ai/veo3 has lost 15% of discount for each second within the last day.",
        ),
        (
            Observations(keys=tuple(KeyOverview("a", name, unused_since=LONG_AGO) for name in "abcde")),
            "API keys a, b, c and 2 more: not used for more than 60 days. Delete what nobody needs.",
        ),
        (
            Observations(bills=(BillDifference("a", "focus_estimate", 2 * NANO),)),
            "The ledger has $2.00 more for last month than fal's FOCUS estimate.",
        ),
        (
            Observations(bookings=Bookings(11 * NANO, 1000 * NANO, AT, too_high=4 * NANO)),
            (
                "$4.00 too much and $7.00 too little is booked for requests, for which fal charged $1,000.00. "
                "The last comparison reaches to 2026-11-21 22:00 UTC."
            ),
        ),
        (
            Observations(bookings=Bookings(through=AT - timedelta(hours=37))),
            "They are not compared any more. The last comparison reaches to 2026-11-20 09:00 UTC.",
        ),
        (
            Observations(provider_budgets={"a": 100 * NANO}),
            "90% of the hard budget set at fal is used: $90.00 of $100.00 a month. Above it fal locks the account.",
        ),
    ],
)
def test_a_text_has_amounts_and_names(seen: Observations, text: str) -> None:
    assert texts(seen, ACCOUNT) == [text]


def test_what_is_worth_knowing_does_not_make_the_page_look_bad() -> None:
    text = outline(seen(new_names=(NewName("a", "m", 51 * NANO, AT),)), outlook=Outlook()).text
    assert "Nothing needs attention. Data through 2026-11-21 22:00 UTC. 1 worth knowing a m is new since" in text


def test_keys_are_not_called_unused_while_their_use_is_not_known() -> None:
    unused = Observations(keys=(KeyOverview("a", "k", unused_since=LONG_AGO),))
    late = replace(ACCOUNT, sources=(replace(UP, state="failing", data_through=AT - timedelta(days=1)),))
    assert [text for text in texts(unused, late) if "not used" in text] == []


def test_the_first_days_of_a_month_say_nothing_of_a_bill_that_differs() -> None:
    bills = Overview(
        "1", (ACCOUNT,), observations=Observations(bills=(BillDifference("a", "focus_invoice", -2 * NANO),))
    )
    third, fourth = (
        alerts(Publication(1, at, Exposition(), bills, ready=True), at) for at in (AT.replace(day=3), AT.replace(day=4))
    )
    assert [alert.rule for alert in third] == []
    assert [alert.rule for alert in fourth] == ["FalReconciliationDrift"]


@pytest.mark.parametrize(("cost", "found"), [(500 * NANO, 0), (500 * NANO + 1, 1)])
@pytest.mark.parametrize("hour", ["last_hour", "current_hour"])
def test_an_hour_above_the_hourly_limit_is_urgent(hour: str, cost: int, found: int) -> None:
    account = AccountOverview("a", (), **{hour: cost})  # type: ignore[arg-type]  # a figure's name
    assert severities(account) == ["bad"] * found


@pytest.mark.parametrize(("difference", "found"), [(NANO, 0), (NANO + 1, 1), (-NANO - 1, 1), (None, 0)])
def test_a_month_that_differs_from_its_invoice_is_told(difference: int | None, found: int) -> None:
    bill = Billed("FAL-1", "paid", 9 * NANO, AT, difference)
    assert len(told(AccountOverview("a", (), bill=bill))) == found


@pytest.mark.parametrize(("late", "found"), [(timedelta(days=1), 0), (timedelta(days=1, seconds=1), 1)])
def test_an_overdue_invoice_is_told(late: timedelta, found: int) -> None:
    seen = Observations(open_invoices=(OpenInvoice("a", "FAL-1", 9 * NANO, AT - late),))
    assert texts(seen) == ["The invoice FAL-1 of $9.00 was due 1 day ago."] * found


@pytest.mark.parametrize(
    ("expected", "found"), [(10, ""), (11, " It will probably be exceeded by $1.00: $11.00 forecast.")]
)
def test_a_budget_that_will_probably_be_exceeded_says_so_beside_what_is_used(expected: int, found: str) -> None:
    forecast = Forecast(expected * NANO, 9 * NANO, 12 * NANO)
    (text,) = told(AccountOverview("a", ()), budgets(spend=5 * NANO, forecast=forecast))
    assert text == f"50% used: $5.00 of $10.00.{found}"


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


@pytest.mark.parametrize(
    ("spend", "found"),
    [(5 * NANO - 1, []), (5 * NANO, ["50% used: $5.00 of $10.00."]), (8 * NANO, ["80% used: $8.00 of $10.00."])],
)
def test_a_budget_that_has_reached_a_threshold_is_told(spend: int, found: list[str]) -> None:
    budget = BudgetOutlook("b", "month", MONTH, 10 * NANO, {}, (Fraction(1, 2), Fraction(4, 5), Fraction(1)), spend)
    assert told(AccountOverview("a", ()), Outlook(budgets=(budget,))) == found


def test_a_budget_whose_forecast_may_still_hold_is_no_alert() -> None:
    forecast = Forecast(12 * NANO, 10 * NANO, 14 * NANO)
    budget = BudgetOutlook("b", "month", MONTH, 10 * NANO, {}, spend=NANO, forecast=forecast)
    assert told(AccountOverview("a", ()), Outlook(budgets=(budget,))) == []


def test_budgets_stand_in_the_order_in_which_they_need_somebody_everywhere() -> None:
    def budget(name: str, spend: int | None, forecast: int = 0) -> BudgetOutlook:
        ahead = Forecast(forecast * NANO, forecast * NANO, forecast * NANO) if forecast else None
        amount = None if spend is None else spend * NANO
        return BudgetOutlook(name, "month", MONTH, 100 * NANO, {}, (Fraction(1, 2),), amount, ahead)

    shuffled = (
        budget("everything", 73, 80),
        budget("unknown", None),
        budget("video", 93, 99),
        budget("over", 101),
        budget("will", 60, 130),
        budget("far over", 300, 400),
    )
    found = ["far over", "over", "will", "video", "everything"]
    ahead = Outlook(budgets=shuffled)
    publication = Publication(1, AT, Exposition(), Overview("1"), ready=True, outlook=ahead)
    assert [alert.about.removeprefix("Budget ") for alert in alerts(publication, AT)] == found
    bars = page_text(publication, AT, ready=True)
    assert re.findall(r"(?m)^Budget (.+?) +\[", bars) == [*found, "unknown"]
    page = outline(Overview("1"), outlook=ahead).elements
    labels = [element.get("aria-label") or "" for _, element in page if element.get("class") == "meter"]
    assert [label.partition(":")[0] for label in labels] == [*found, "unknown"]


def test_an_idle_app_is_told_of_with_what_to_change() -> None:
    kept = IdleApp("a", "preview", "staging", 9 * NANO, 10 * NANO, 1, 600)
    text = outline(seen(idle_apps=(kept,)), outlook=Outlook()).text
    assert (
        "Idle runners of the app preview (staging) cost $9.00 in 24 hours, 90% of its cost. "
        "Consider a lower min_concurrency: with 1 it never stops entirely. Month" in text
    )
    lingering = replace(kept, environment="", min_concurrency=0)
    page = outline(seen(idle_apps=(lingering,), idle_month=IdleMonth(9 * NANO, 10 * NANO, (lingering,))))
    assert (
        "Idle runners of the app preview cost $9.00 in 24 hours, 90% of its cost. "
        "Consider a keep_alive below its 600 seconds. Idle runners" in page.text
    )
    assert {("a", "#idle"), ("section", "idle")} <= {
        (tag, attributes.get("href") or attributes.get("id")) for tag, attributes in page.elements
    }
    unlisted = replace(lingering, min_concurrency=None, keep_alive=None)
    (told,) = alerts(Publication(1, AT, Exposition(), seen(idle_apps=(unlisted,)), ready=True), AT)
    assert (told.text, told.action) == ("Idle runners of the app preview cost $9.00 in 24 hours, 90% of its cost.", "")


def test_credit_that_runs_out_is_told_with_what_then_and_until_when_to_top_up() -> None:
    ahead = Outlook((replace(AHEAD, runway=timedelta(hours=5, minutes=20)),))
    page = outline(Overview("1", (ACCOUNT,)), outlook=ahead)
    assert (
        "Credit runs out in about 5 hours 20 minutes; then fal serves nothing. Top up before 2026-11-22 03:00 UTC. "
        "fal.ai/dashboard/billing" in page.text
    )
    assert ("a", {"href": "https://fal.ai/dashboard/billing"}) in page.elements


def test_credit_that_runs_out_within_this_hour_is_to_be_topped_up_before_an_instant_to_come() -> None:
    ahead = Outlook((replace(AHEAD, runway=timedelta(minutes=20)),))
    told = outline(Overview("1", (ACCOUNT,)), outlook=ahead).text
    assert "Credit runs out in about 20 minutes; then fal serves nothing. Top up before 2026-11-21 22:20 UTC." in told


def test_a_budget_that_will_probably_be_exceeded_stands_before_those_that_have_reached_a_threshold() -> None:
    near = BudgetOutlook("near", "month", MONTH, 10 * NANO, {}, (Fraction(1, 2),), 9 * NANO)
    likely = replace(near, budget="likely", spend=6 * NANO, forecast=Forecast(11 * NANO, 9 * NANO, 12 * NANO))
    found = alerts(
        Publication(
            1, AT, Exposition(), Overview("1", (ACCOUNT,)), ready=True, outlook=Outlook(budgets=(near, likely))
        ),
        AT,
    )
    assert [alert.about for alert in found] == ["Budget likely", "Budget near"]
    assert [alert.action for alert in found] == ["Spend less, or raise the limit.", ""]


@pytest.mark.parametrize(("idle", "cost"), [(8, 10), (1, 1), (0, 5)])
def test_an_app_that_is_idle_for_little_is_not_told_of(idle: int, cost: int) -> None:
    assert texts(Observations(idle_apps=(IdleApp("a", "preview", "", idle * NANO, cost * NANO),))) == []


@pytest.mark.parametrize("left", [90, 95, -1])
def test_a_ceiling_below_what_is_left_and_a_budget_that_is_exceeded_are_not_told_of(left: int) -> None:
    assert texts(Observations(burn_ceilings=(BurnCeiling("gpus", 90 * NANO, left * NANO),))) == []
