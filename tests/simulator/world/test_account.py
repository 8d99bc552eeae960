from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from time import process_time

import pytest

from exporter.simulator import PlantedLateness, Simulator, World, WorldSize
from exporter.simulator.world import account as module
from exporter.simulator.world.account import Account, balance, invoices, last_invoiced
from exporter.simulator.world.company import company
from exporter.simulator.world.exact import FOREVER, HOUR, NANO, SECOND, microseconds, nanos_of

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)

START = microseconds(datetime(2026, 11, 20, tzinfo=UTC))


def cost(account: Account, start: int, end: int, as_of: int) -> int:
    return sum(charge.cost for charges in account.charges((start, end), as_of) for charge in charges)


def test_the_running_hour_grows_with_every_second(simulator: Simulator) -> None:
    simulator = Simulator(company(1, simulator.clock()), simulator.clock)
    seen = []
    for _ in range(20):
        simulator.clock.now += timedelta(seconds=10)
        seen.append(simulator.statement(start="2026-11-21T14:00:00Z", end="2026-11-21T15:00:00Z")["requests"])
    assert all(later > earlier for earlier, later in pairwise(seen))


def test_an_hour_as_of_later_is_never_cached_for_earlier() -> None:
    account, fresh = Account(World(7)), Account(World(7))
    hour = START // HOUR
    instants = [START + step * HOUR // 4 for step in range(1, 200)]
    for instant in (*reversed(instants), *instants):
        assert account.cost(hour, instant) == cost(account, START, START + HOUR, instant)
    assert account.cost(hour, instants[0]) == fresh.cost(hour, instants[0])


def test_everything_has_arrived_at_the_instant_that_is_told() -> None:
    account = Account(World(7))
    for hour in range(START // HOUR, START // HOUR + 48):
        known = account.known_from(hour)
        final = cost(account, hour * HOUR, (hour + 1) * HOUR, FOREVER)
        assert cost(account, hour * HOUR, (hour + 1) * HOUR, known) == final


def test_parts_of_hours_add_up() -> None:
    account = Account(World(7))
    as_of = START + 20 * HOUR
    edges = [START, START + 77 * SECOND, START + 3 * HOUR + 1, START + 3 * HOUR + 1_799 * SECOND, START + 30 * HOUR]
    parts = sum(cost(account, start, end, as_of) for start, end in pairwise(edges))
    assert parts == cost(account, edges[0], edges[-1], as_of)


def test_teams_share_the_whole() -> None:
    account = Account(World(7))
    span = START, START + 24 * HOUR
    total = cost(account, *span, FOREVER)
    by_team = [
        sum(charge.cost for charges in account.charges(span, FOREVER, team) for charge in charges)
        for team in account.world.teams
    ]
    assert sum(by_team) == total
    assert all(by_team)


def test_hours_are_cheap_and_those_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_RECORDS", 26 * 150)
    account = Account(World.of_lines(1, 150))
    first = account.records(START // HOUR)
    for hour in range(START // HOUR, START // HOUR + 26):
        account.records(hour)
    assert account.records(START // HOUR) is first
    for hour in range(START // HOUR + 26, START // HOUR + 53):
        account.records(hour)
    assert account.records(START // HOUR) is not first

    account = Account(World(1))
    began = process_time()
    for hour in range(START // HOUR, START // HOUR + 200):
        account.cost(hour, FOREVER)
    assert process_time() - began < 2


async def test_the_balance_falls_by_exactly_what_becomes_visible(simulator: Simulator) -> None:
    falls = 0
    for hours in range(1, 20):
        earlier, later = NOVEMBER + timedelta(hours=hours), NOVEMBER + timedelta(hours=hours + 1)
        spent = visible(simulator, later) - visible(simulator, earlier)
        fallen = await balance(simulator.account, earlier) - await balance(simulator.account, later)
        assert (fallen - spent) % (10_000 * NANO) == 0
        falls += fallen == spent
    assert falls >= 17


async def test_the_credit_is_topped_up_before_it_runs_out() -> None:
    account = Account(World(7))
    days = [NOVEMBER + timedelta(hours=24 * step) for step in range(1, 21)]
    balances = [await balance(account, day) for day in days]
    assert min(balances) > 0
    assert max(balances) < 30_000 * NANO
    assert any(later > earlier for earlier, later in pairwise(balances))


async def test_an_account_without_prepaid_credit_has_a_balance_of_zero() -> None:
    assert await balance(Account(World.of_lines(1, 10)), NOVEMBER) == 0


async def test_a_months_invoice_is_its_charges_to_the_nano_dollar(simulator: Simulator) -> None:
    for invoice in await invoices(simulator.account, datetime(2026, 11, 21, 14, 37, 12, tzinfo=UTC)):
        if invoice.status == "void":
            continue
        start, end = invoice.period_start.isoformat(), invoice.period_end.isoformat()
        told = simulator.statement(
            start=start, end=end, group_by="product", final=str(invoice.status == "paid").lower()
        )
        assert invoice.total == nanos_of(str(told["cost"]))
        assert invoice.total == invoice.subtotal - invoice.credits + invoice.tax


async def test_invoices_go_from_draft_to_open_to_paid(simulator: Simulator) -> None:
    async def status(now: datetime) -> str:
        october = [
            invoice
            for invoice in await invoices(simulator.account, now)
            if invoice.period_start.month == 10 and invoice.status != "void"
        ]
        return october[0].status

    assert await status(datetime(2026, 10, 20, tzinfo=UTC)) == "draft"
    assert await status(datetime(2026, 11, 1, 22, tzinfo=UTC)) == "draft"
    assert await status(datetime(2026, 11, 1, 23, tzinfo=UTC)) == "open"
    assert await status(datetime(2026, 11, 17, tzinfo=UTC)) == "paid"


async def test_a_charge_that_arrives_after_the_issue_is_not_on_the_invoice(simulator: Simulator) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    hour = microseconds(datetime(2026, 10, 5, 12, tzinfo=UTC))
    whole = await total(simulator, now)
    simulator.faults.add(PlantedLateness(hour // HOUR, microseconds(datetime(2026, 11, 10, tzinfo=UTC))))
    assert await total(simulator, now) < whole


async def test_now_and_then_an_invoice_is_void() -> None:
    account = Account(World(3, invoiced_months=12))
    account.cost = lambda _hour, _as_of: 0  # only the statuses matter here
    statuses = [invoice.status for invoice in await invoices(account, datetime(2026, 11, 21, tzinfo=UTC))]
    assert 1 <= statuses.count("void") <= 8
    assert statuses.count("draft") == 1


async def test_credits_and_tax_change_the_total_consistently() -> None:
    account = Account(
        World(
            7, size=WorldSize(models=3, apps=1, compute=0), tax_percent=19, monthly_credit=100 * NANO, invoiced_months=1
        )
    )
    invoice = (await invoices(account, datetime(2026, 11, 2, tzinfo=UTC)))[0]
    assert invoice.credits == 100 * NANO
    assert invoice.tax == (invoice.subtotal - invoice.credits) * 19 // 100
    assert invoice.total == invoice.subtotal - invoice.credits + invoice.tax


def test_the_last_invoiced_month_waits_for_the_issue() -> None:
    assert last_invoiced(datetime(2026, 11, 1, 22, tzinfo=UTC)).month == 9
    assert last_invoiced(datetime(2026, 11, 1, 23, tzinfo=UTC)).month == 10


def visible(simulator: Simulator, now: datetime) -> int:
    simulator.clock.now = now
    told = simulator.statement(start="2026-10-28T00:00:00Z", end="2026-12-01T00:00:00Z", group_by="product")
    return int(Decimal(str(told["cost"])).scaleb(9))


async def total(simulator: Simulator, now: datetime) -> int:
    return next(
        invoice.total
        for invoice in await invoices(simulator.account, now)
        if invoice.period_start.month == 10 and invoice.status != "void"
    )
