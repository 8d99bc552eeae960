from collections import Counter
from datetime import UTC, datetime

import pytest
from fal.conftest import Bench, Fal, refused
from fal.focus_csv import report, usage

from exporter.charges import Window
from exporter.fal.errors import BadRequestError
from exporter.fal.focus.bill import FocusBills, estimates

PATH = "/v1/account/focus"
OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))


def october(**changes: str) -> dict[str, str]:
    period = {"ChargePeriodStart": "2026-10-03T00:00:00Z", "ChargePeriodEnd": "2026-10-04T00:00:00Z"}
    return usage(**(period | changes))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def test_usage_credits_taxes_and_corrections_of_an_invoice_stand_apart(fal: Fal, bench: Bench) -> None:
    fal.plays(
        PATH,
        report(
            october(),
            october(BilledCost="0", EffectiveCost="2.5"),
            october(ChargeCategory="Credit", BilledCost="-0.1", EffectiveCost="-0.1"),
            october(ChargeCategory="Tax", BilledCost="0.02", EffectiveCost="0.02"),
            october(ChargeClass="Correction", BilledCost="-7", EffectiveCost="-7"),
            october(ChargePeriodStart="2026-09-30T23:00:00Z", BilledCost="0.5", EffectiveCost="0.5"),
        ),
    )
    rejected: Counter[str] = Counter()
    bill = await FocusBills(bench.client(), by_team=False).invoice(OCTOBER, rejected)
    assert bill is not None
    assert (bill.account, bill.against, bill.window) == ("prod", "focus_invoice", OCTOBER)
    assert bill.usage == 2_820_000_000
    assert bill.by_category == {
        "Usage": 820_000_000,
        "Credit": -100_000_000,
        "Tax": 20_000_000,
        "Correction": -7_000_000_000,
    }
    assert fal.requests[0].query == {"source": ["invoice"], "charge_month": ["2026-10"]}
    assert rejected == {}


async def test_an_invoice_without_a_row_is_none_yet(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, report())
    assert await FocusBills(bench.client(), by_team=False).invoice(OCTOBER, Counter()) is None


async def test_an_estimate_sums_up_its_days_and_the_hours_around_them(fal: Fal, bench: Bench) -> None:
    day = {"ChargePeriodStart": "2026-11-01T00:00:00Z", "ChargePeriodEnd": "2026-11-02T00:00:00Z"}
    hour = {"ChargePeriodStart": "2026-11-02T01:00:00Z", "ChargePeriodEnd": "2026-11-02T02:00:00Z"}
    fal.plays(PATH, report(usage(**day)), report(usage(**hour), usage(**day)))
    rejected: Counter[str] = Counter()
    window = Window(at("2026-11-01"), at("2026-11-02T03:00"))
    bill = await FocusBills(bench.client(), by_team=False).estimate(window, rejected)
    assert (bill.against, bill.window, bill.usage) == ("focus_estimate", window, 640_000_000)
    assert rejected == {"outside_window": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"BillingCurrency": "EUR"}, "currency"),
        ({"BilledCost": "1E15"}, "out_of_range"),
        ({"BilledCost": "-"}, "unreadable"),
    ],
)
async def test_a_row_that_cannot_be_added_is_counted(
    fal: Fal, bench: Bench, changes: dict[str, str], reason: str
) -> None:
    fal.plays(PATH, report(october(), october(**changes)))
    rejected: Counter[str] = Counter()
    bill = await FocusBills(bench.client(), by_team=False).invoice(OCTOBER, rejected)
    assert bill is not None
    assert (bill.usage, rejected) == (320_000_000, {reason: 1})


async def test_teams_are_asked_for_where_the_account_is_an_organization(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(400, "validation_error", "no such month"))
    with pytest.raises(BadRequestError):
        await FocusBills(bench.client(), by_team=True).invoice(OCTOBER, Counter())
    assert [request.query.get("expand") for request in fal.requests] == [["organization"], ["organization"], None]


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        ("2026-11-01", "2026-11-04", [("2026-11-01", "2026-11-04", "day")]),
        ("2026-11-01", "2026-11-01T05:00", [("2026-11-01", "2026-11-01T05:00", "hour")]),
        ("2026-11-01T22:00", "2026-11-02T05:00", [("2026-11-01T22:00", "2026-11-02T05:00", "hour")]),
        (
            "2026-11-01T22:00",
            "2026-11-03T01:00",
            [
                ("2026-11-01T22:00", "2026-11-02", "hour"),
                ("2026-11-02", "2026-11-03", "day"),
                ("2026-11-03", "2026-11-03T01:00", "hour"),
            ],
        ),
    ],
)
def test_a_window_is_asked_for_by_days_and_the_hours_around_them(
    start: str, end: str, parts: list[tuple[str, str, str]]
) -> None:
    asked = estimates(Window(at(start), at(end)))
    assert [(item.start, item.end, item.timeframe) for item in asked] == [
        (at(begin), at(stop), timeframe) for begin, stop, timeframe in parts
    ]
    for item in asked:
        assert item.parameters()["bound_to_timeframe"] == "false"
