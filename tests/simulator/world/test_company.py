from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

from exporter.simulator import ADMIN_KEY, Simulator, company_events
from exporter.simulator.interfaces.serverless import shares_of
from exporter.simulator.world.account import Account, invoices
from exporter.simulator.world.company import IDLE_APP, REPRICED_MODEL, Company, company
from exporter.simulator.world.exact import FOREVER, HOUR, NANO, instant_of, microseconds, nanos_of

NOW = datetime(2026, 11, 21, 0, 37, tzinfo=UTC)
HEADERS = {"authorization": f"Key {ADMIN_KEY}"}


def spent(account: Account, start: datetime, end: datetime, as_of: int = FOREVER) -> int:
    span = microseconds(start), microseconds(end)
    return sum(charge.cost for charges in account.charges(span, as_of) for charge in charges)


def of_model(world: Company, model: str, hour: int) -> list[int]:
    return [record.line.price for record in world.records(hour) if record.line.model == model]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_company_spends_thousands_a_month_of_which_no_product_is_all(seed: int) -> None:
    account = Account(company(seed, NOW))
    month = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    assert 6_000 * NANO < spent(account, *month) < 12_000 * NANO
    week = microseconds(month[0]), microseconds(month[0] + timedelta(days=7))
    of_product: dict[str, int] = {}
    for charges in account.charges(week, FOREVER):
        for charge in charges:
            of_product[charge.line.product] = of_product.get(charge.line.product, 0) + charge.cost
    assert set(of_product) == {"model_apis", "serverless", "compute"}
    assert min(of_product.values()) > sum(of_product.values()) // 20


def test_a_demo_moves_every_few_seconds() -> None:
    world = company(1, NOW)
    assert sum(record.requests for record in world.records(world.start)) > 1_800


def test_a_model_is_new_since_a_day_and_another_has_another_price_since_four() -> None:
    world = company(1, NOW)
    new = {line.model for line in world.changes} - {line.model for line in world.lines} - {"fal-ai/flux-pro/kontext"}
    assert len(new) == 1
    (model,) = new
    first = next(hour for hour in range(world.start - 200, world.start) if of_model(world, model, hour))
    assert world.start - 30 < first < world.start - 20
    prices = [
        price for ago in range(150, 50, -1) for price in of_model(world, "fal-ai/flux-pro/kontext", world.start - ago)
    ]
    assert prices == sorted(prices)
    assert sorted({*prices}) == [36_000_000, 40_000_000]


def test_a_price_rises_with_the_start_and_its_first_charges_show_after_those_of_the_hours_before() -> None:
    account = Account(company(1, NOW))
    account.plant(company_events(NOW))
    hour, at = microseconds(NOW) // HOUR, microseconds(NOW)

    def prices(start: int, minutes: int) -> set[int]:
        charges = chain.from_iterable(account.charges((start * HOUR, (hour + 1) * HOUR), at + minutes * 60_000_000))
        return {charge.line.price for charge in charges if charge.line.model == REPRICED_MODEL}

    assert (prices(hour - 24, 2), prices(hour, 2)) == ({500_000}, set())
    assert (prices(hour - 24, 4), prices(hour, 4)) == ({500_000, 575_000}, {575_000})


def test_the_runners_of_one_app_are_mostly_idle() -> None:
    world = company(1, NOW)
    apps = {line.app for line in world.lines if line.product == "serverless" and line.app}
    idle = {app: shares_of(world, app, world.start).idle for app in apps}
    assert idle.pop(IDLE_APP) > 750
    assert all(share < 650 for share in idle.values())


def test_minutes_after_the_start_charges_arrive_late_and_others_are_corrected() -> None:
    account = Account(company(1, NOW))
    hour = microseconds(NOW) // HOUR - 1
    usual = account.records(hour)
    account.plant(company_events(NOW))
    changed = [record for record, before in zip(account.records(hour), usual, strict=True) if record != before]
    assert {record.line.app or record.line.model for record in changed} == {"virtual-tryon", "fal-ai/nano-banana"}
    at = microseconds(NOW)
    costs = [account.cost(hour, at + minute * 60_000_000) for minute in range(8)]
    assert costs[0] < max(costs) > costs[-1]


@pytest.mark.parametrize(
    "now",
    [
        datetime(2026, 11, 1, 23, 59, tzinfo=UTC),
        pytest.param(datetime(2026, 11, 1, 0, 5, tzinfo=UTC), marks=pytest.mark.long),
    ],
)
async def test_the_events_leave_a_month_alone_that_has_been_invoiced(now: datetime) -> None:
    simulator = Simulator(company(1, now), lambda: now + timedelta(days=2), faults=company_events(now))
    october = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    invoice = next(
        invoice
        for invoice in await invoices(simulator.account, simulator.clock())
        if invoice.period_start == october[0] and invoice.status != "void"
    )
    told = simulator.statement(start=october[0].isoformat(), end=october[1].isoformat())
    assert invoice.total == nanos_of(str(told["cost"]))


def test_equal_starts_are_equal_worlds() -> None:
    assert company(3, NOW) == company(3, NOW + timedelta(minutes=10))
    assert company(3, NOW) != company(3, NOW + timedelta(hours=1))
    assert instant_of(company(3, NOW).start * HOUR) == NOW.replace(minute=0)
