"""Observations are what the ledger knows of the last hour and day, and what has grown since."""

from dataclasses import replace
from datetime import timedelta

import pytest
from polling.conftest import Bench
from prometheus_client import CollectorRegistry

from exporter.charges import FOCUS_INVOICE, NANO, ApiKey, Invoice
from exporter.forecasting.state import ExpectedSpend, Outlook
from exporter.ledger import KeyRecord, LedgerView, Reconciliation
from exporter.metrics.health import Health
from exporter.overview import KeyOverview, NewName, PriceChange, Restated, UnusualHour
from exporter.polling.observations import Growth, Observer
from exporter.samples import Pages, Sample, paged

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LABELS = ("account", "team", "product", "model", "app", "gpu_class")
PRICED = ("main", "model_apis", "veo3", "", "", "second")


def costs(*of: tuple[str, str, int]) -> Pages:
    return paged(Sample(("main", "", product, model, "", ""), cost) for product, model, cost in of)


@pytest.fixture
async def view(bench: Bench) -> LedgerView:
    return replace(await bench.view(), labels=LABELS)


@pytest.fixture
def observer() -> Observer:
    return Observer(Health(CollectorRegistry()))


def test_growth_is_of_its_span_alone(view: LedgerView) -> None:
    growth = Growth(HOUR)
    seen = [growth.noted(view.at + minutes * timedelta(minutes=1), value) for minutes, value in NUMBERS]
    assert seen == [0, 5, 5, 7, 2, 0]


NUMBERS = ((0, 10), (30, 15), (60, 15), (89, 17), (100, 17), (150, 17))


async def test_of_a_product_the_hour_further_above_the_usual_is_told(observer: Observer, view: LedgerView) -> None:
    busy = replace(
        view,
        last_hour=costs(("model_apis", "a", 3), ("model_apis", "b", 4), ("serverless", "", 9)),
        current_hour=costs(("model_apis", "a", 6)),
    )
    expected = (
        ExpectedSpend("main", "model_apis", 1, 5, 1, 3),
        ExpectedSpend("main", "serverless", 1, 9, 1, 9),
        ExpectedSpend("main", "compute", 0, 0, 0, 0),
    )
    assert observer.observe(busy, Outlook(expected=expected)).unusual_hours == (
        UnusualHour("main", "model_apis", 6, 3),
    )


async def test_a_name_is_new_for_a_day_and_costs_what_all_its_series_do(observer: Observer, view: LedgerView) -> None:
    def seen(model: str, ago: timedelta) -> Sample:
        return Sample(("main", "model_apis", model, ""), (view.at - ago).timestamp())

    told = replace(
        view,
        first_seen=paged([seen("new", 23 * HOUR), seen("old", DAY)]),
        last_day=costs(("model_apis", "new", 3), ("model_apis", "old", 4)) + costs(("model_apis", "new", 5)),
    )
    assert observer.observe(told, Outlook()).new_names == (NewName("main", "new", 8, view.at - 23 * HOUR),)
    assert observer.observe(replace(told, labels=LABELS[:2]), Outlook()).new_names == ()


@pytest.mark.parametrize(("ago", "found"), [(23 * HOUR, 1), (DAY, 0)])
async def test_prices_and_discounts_that_changed_within_a_day(
    observer: Observer, view: LedgerView, ago: timedelta, found: int
) -> None:
    at = paged([Sample(PRICED, (view.at - ago).timestamp())])
    other = Sample(("main", "model_apis", "flux", "", "", "image"), 7)
    told = replace(
        view,
        unit_prices=paged([Sample(PRICED, 5), other]),
        previous_prices=paged([Sample(PRICED, 4)]),
        price_changes=at,
        discounts=paged([Sample(PRICED, 5 * NANO)]),
        previous_discounts=paged([Sample(PRICED, 20 * NANO)]),
        discount_changes=at,
    )
    seen = observer.observe(told, Outlook())
    assert seen.prices == (PriceChange("main", "veo3", "second", 5, 4),) * found
    assert [(item.discount, item.previous) for item in seen.discounts] == [(0.05, 0.2)] * found


async def test_restatements_of_all_sources_within_an_hour_add_up(
    observer: Observer, bench: Bench, view: LedgerView
) -> None:
    await bench.account.load_history()
    scopes = (await bench.view()).scopes
    assert len(scopes) > 1

    def told(up: int, after: timedelta) -> tuple[Restated, ...]:
        changed = tuple(replace(scope, restated_up=scope.restated_up + up) for scope in scopes)
        return observer.observe(replace(view, scopes=changed, at=view.at + after), Outlook()).restated

    assert told(0, 0 * HOUR) == ()
    assert told(7, HOUR / 2) == (Restated("main", "up", 7 * len(scopes)),)
    assert told(7, 2 * HOUR) == ()


async def test_keys_bills_and_invoices_are_the_ledgers(observer: Observer, view: LedgerView) -> None:
    created, month = view.at - DAY, (view.at.replace(day=1) - DAY).replace(day=1, hour=0, minute=0, second=0)
    listed = KeyRecord(ApiKey("main", "1", "ci", created_at=created), "ci")
    gone = KeyRecord(ApiKey("main", "2", "old"), "old", is_listed=False)
    invoice = Invoice("main", "i1", "F-1", "open", month, month, None, view.at, "USD", 0, 0, 0, 9)
    told = replace(
        view,
        keys=(listed, gone),
        keys_told_from={"main": view.at - 9 * DAY},
        invoices=(
            invoice,
            replace(invoice, id="i2", number="F-2", status="paid"),
            replace(invoice, id="i3", number="F-3", due_at=None),
            replace(invoice, id="i4", number="F-4", status="past_due"),
            replace(invoice, id="i5", number="F-5", status="void"),
            replace(invoice, id="i6", number="F-6", total=-9),
        ),
        reconciliations=(
            Reconciliation("main", FOCUS_INVOICE, month.replace(microsecond=0), month, view.at, 9, 7, {}),
            Reconciliation("main", "invoice", month.replace(microsecond=0), month, view.at, 9, 8, {}),
        ),
    )
    seen = observer.observe(told, Outlook())
    assert seen.keys == (KeyOverview("main", "ci", created, created),)
    assert [(item.number, item.total) for item in seen.open_invoices] == [("F-1", 9), ("F-4", 9)]
    assert [(item.against, item.amount) for item in seen.bills] == [(FOCUS_INVOICE, 2)]


async def test_the_clock_and_fals_own_budgets_are_as_health_knows_them(view: LedgerView) -> None:
    health = Health(CollectorRegistry())
    observer = Observer(health)
    assert observer.observe(view, Outlook()).clock_ahead is None
    health.provider_budgets("main", {"soft": 1, "hard": 2})
    health.clock_compared(61.0)
    health.clock_stepped()
    seen = observer.observe(replace(view, overflowed_series=3), Outlook())
    assert (seen.provider_budgets, seen.clock_ahead, seen.clock_steps) == ({"main": 2}, 61.0, 1)
    assert seen.folded_series == 3 - view.overflowed_series
    health.provider_budgets("main", {})
    later = observer.observe(replace(view, at=view.at + HOUR), Outlook())
    assert (later.provider_budgets, later.clock_steps) == ({}, 0)
