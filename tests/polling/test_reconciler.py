from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench
from structlog.typing import EventDict

from exporter.charges import Invoice, Window, nano
from exporter.ledger import Ledger, Reconciliation, ScopeState
from exporter.polling.reconciler import covered_part, invoiced, months
from exporter.simulator import API_KEY, Fault, RunningSimulator

OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
NOVEMBER = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NOW = datetime(2026, 11, 2, 3, 20, tzinfo=UTC)


def scope(source: str, start: datetime | None, through: datetime | None) -> ScopeState:
    return ScopeState("main", source, NOW, through, None, start, NOW, 0, 0, 0)


def invoice(number: int, subtotal: int, status: str = "paid", **changes: object) -> Invoice:
    made = Invoice(
        account="main",
        id=f"inv_{number}",
        number="",
        status=status,
        period_start=OCTOBER.start,
        period_end=OCTOBER.end,
        issued_at=None,
        due_at=None,
        currency="USD",
        subtotal=subtotal,
        credits=3,
        tax=2,
        total=subtotal - 1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # a mapping has one type for all its values


def test_billing_months_are_of_utc() -> None:
    assert months(NOW) == (NOVEMBER, OCTOBER)
    assert months(NOVEMBER.end)[1] == NOVEMBER


def test_a_month_is_compared_as_far_as_every_source_has_covered_it_from_its_start() -> None:
    early, late = OCTOBER.start, OCTOBER.start + timedelta(days=3)
    assert covered_part(OCTOBER, []) is None
    assert covered_part(OCTOBER, [scope("models", early, NOW)]) == OCTOBER
    assert covered_part(OCTOBER, [scope("models", early, NOW), scope("serverless", early, late)]) == Window(early, late)
    assert covered_part(OCTOBER, [scope("models", early, NOW), scope("serverless", late, NOW)]) is None
    assert covered_part(OCTOBER, [scope("models", early, early)]) is None
    assert covered_part(OCTOBER, [scope("models", None, None)]) is None


def test_the_invoices_of_a_month_are_one_bill() -> None:
    other_month = invoice(9, 99, period_start=NOVEMBER.start, period_end=NOVEMBER.end)
    credit_of_both = invoice(8, 0, period_end=NOVEMBER.end)
    bill = invoiced("main", [invoice(1, 10), invoice(2, 5, "open"), other_month, credit_of_both], OCTOBER)
    assert bill is not None
    assert (bill.against, bill.window, bill.usage) == ("invoice", OCTOBER, 15)
    assert bill.by_category == {"Usage": 15, "Credit": -6, "Tax": 4}


def test_a_void_invoice_bills_nothing_and_a_draft_only_until_the_invoice_is_there() -> None:
    void, draft, paid = invoice(1, 1, "void"), invoice(2, 20, "draft"), invoice(3, 300)
    assert invoiced("main", [void], OCTOBER) is None
    assert [invoiced("main", them, OCTOBER).usage for them in ([void, draft], [void, draft, paid])] == [20, 300]


def test_what_is_billed_of_two_months_together_is_compared_with_neither() -> None:
    whole = [invoice(1, 10), invoice(2, 20, period_start=NOVEMBER.start, period_end=NOVEMBER.end)]
    both = invoice(
        3, 5, period_start=OCTOBER.start + timedelta(days=14), period_end=NOVEMBER.start + timedelta(days=14)
    )
    for billing in (both, replace(both, subtotal=-5), replace(both, status="past_due")):
        assert [invoiced("main", [*whole, billing], month) for month in (OCTOBER, NOVEMBER)] == [None, None]
    for not_billing in (replace(both, subtotal=0), replace(both, status="void"), replace(both, status="draft")):
        bills = [invoiced("main", [*whole, not_billing], month) for month in (OCTOBER, NOVEMBER)]
        assert [bill and bill.usage for bill in bills] == [10, 20]


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = NOW
    return clock


@pytest.fixture
async def loaded(fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack) -> Bench:
    """An account whose ledger holds the current month only, so that it is quickly loaded."""
    reach = replace(REACH, history=NOW - NOVEMBER.start + timedelta(hours=2))
    bench = await stack.enter_async_context(opened_bench(fal, clock, tmp_path, reach=reach))
    assert await bench.account.load_history()
    return bench


async def compared(bench: Bench) -> dict[tuple[str, datetime], Reconciliation]:
    return {
        (reconciliation.against, reconciliation.month): reconciliation
        for reconciliation in (await bench.view()).reconciliations
    }


async def test_only_months_that_the_ledger_has_covered_are_compared(loaded: Bench, clock: Clock) -> None:
    await loaded.account.poll_invoices()
    await loaded.account.poll_reconciliation()
    found = await compared(loaded)
    assert set(found) == {("invoice", NOVEMBER.start), ("focus_estimate", NOVEMBER.start)}
    assert [item.difference for item in found.values()] == [0, 0]
    assert found["focus_estimate", NOVEMBER.start].through == NOW.replace(minute=0)
    assert found["invoice", NOVEMBER.start].compared_at == clock.now
    assert loaded.number("fal_source_up", account="main", source="reconciliation") == 1


async def test_a_comparison_goes_with_the_invoice_that_it_was_made_of(loaded: Bench) -> None:
    await loaded.account.poll_invoices()
    assert set(await compared(loaded)) == {("invoice", NOVEMBER.start)}
    of_ledger = await loaded.ledger.invoices("main")
    await loaded.ledger.record_invoices("main", [replace(item, status="void") for item in of_ledger])
    await loaded.account.poll_reconciliation()
    assert set(await compared(loaded)) == {("focus_estimate", NOVEMBER.start)}


async def test_a_month_of_which_an_invoice_cannot_be_read_is_not_compared_and_that_is_said(
    loaded: Bench, fal: RunningSimulator
) -> None:
    await loaded.account.poll_invoices()
    assert set(await compared(loaded)) == {("invoice", NOVEMBER.start)}
    assert not any("invoices" in remark for remark in loaded.account.remarks(()))
    for fields in (("total",), ("total", "period_end")):
        fal.simulator.faults.clear()
        fal.simulator.faults.add(Fault("missing_fields", path="/billing/invoices", fields=fields))
        await loaded.account.poll_invoices()
        assert set(await compared(loaded)) == set()
        assert "2026-11 is not compared with its invoices: one that may be of it cannot be read." in (
            loaded.account.remarks(())
        )
    fal.simulator.faults.clear()
    await loaded.account.poll_invoices()
    assert set(await compared(loaded)) == {("invoice", NOVEMBER.start)}
    assert not any("invoices" in remark for remark in loaded.account.remarks(()))


@pytest.mark.parametrize(
    ("first", "end", "blocks"),
    [
        (OCTOBER.start, OCTOBER.end, False),
        (NOVEMBER.end, NOVEMBER.end + timedelta(days=9), False),
        (OCTOBER.start, NOVEMBER.end, True),
        (NOVEMBER.end - timedelta(days=1), NOVEMBER.end, True),
    ],
)
async def test_an_invoice_that_cannot_be_read_keeps_no_other_month_from_being_compared(
    loaded: Bench, first: datetime, end: datetime, *, blocks: bool
) -> None:
    await loaded.account.poll_invoices()
    loaded.account._reconciler.unread = [(first, end)]
    await loaded.account.poll_reconciliation()
    assert (("invoice", NOVEMBER.start) not in await compared(loaded)) == blocks


async def test_a_month_that_is_over_is_compared_with_its_invoice_once_all_of_it_has_been_read(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack
) -> None:
    """After days without fal the invoices are there before the hours that they bill."""
    bench = await stack.enter_async_context(opened_bench(fal, clock, tmp_path, sources=("focus",)))
    read, missed = (
        Window(OCTOBER.start, OCTOBER.end - timedelta(days=2)),
        Window(OCTOBER.end - timedelta(days=2), NOW.replace(minute=0)),
    )
    await bench.ledger.run(lambda ledger: ledger.restate("main", "focus", read, [], at=read.end))
    part = invoice(1, 10, period_end=OCTOBER.start + timedelta(days=9))
    await bench.ledger.record_invoices("main", [invoice(1, 10)])
    clock.now = NOW
    await bench.account.poll_reconciliation()
    assert set(await compared(bench)) == {("focus_estimate", OCTOBER.start)}
    await bench.ledger.record_invoices("main", [part])
    await bench.account.poll_reconciliation()
    assert (await compared(bench))["invoice", OCTOBER.start].through == part.period_end
    await bench.ledger.record_invoices("main", [invoice(1, 10)])
    await bench.ledger.run(lambda ledger: ledger.restate("main", "focus", missed, [], at=NOW))
    await bench.account.poll_reconciliation()
    found = (await compared(bench))["invoice", OCTOBER.start]
    assert (found.through, found.difference) == (OCTOBER.end, -10)


async def test_invoices_are_compared_as_soon_as_they_are_polled(loaded: Bench) -> None:
    await loaded.account.poll_invoices()
    assert set(await compared(loaded)) == {("invoice", NOVEMBER.start)}


async def test_an_account_without_reports_is_told_once_and_stays_up(
    loaded: Bench, fal: RunningSimulator, logs: list[EventDict]
) -> None:
    fal.simulator.faults.add(Fault("feature_disabled"))
    await loaded.account.poll_invoices()
    for _ in range(3):
        await loaded.account.poll_reconciliation()
        assert loaded.number("fal_source_up", account="main", source="reconciliation") == 1
    assert set(await compared(loaded)) == {("invoice", NOVEMBER.start)}
    told = [entry for entry in logs if "FOCUS" in entry["event"]]
    assert [entry["log_level"] for entry in told] == ["info"]


async def test_a_report_of_which_rows_cannot_be_read_is_not_compared(loaded: Bench, fal: RunningSimulator) -> None:
    """Their amounts would be a difference, as if fal billed less than it reports."""
    fal.simulator.faults.add(Fault("odd_rows", path="/v1/account/focus", oddity="text", every_row=5))
    await loaded.account.poll_reconciliation()
    assert set(await compared(loaded)) == set()
    assert loaded.number("fal_source_partial", account="main", source="reconciliation") == 1
    fal.simulator.faults.clear()
    await loaded.account.poll_reconciliation()
    assert [item.difference for item in (await compared(loaded)).values()] == [0]


async def test_another_account_keeps_no_bill_from_being_compared(loaded: Bench) -> None:
    accounts = {"main": ("models", "serverless"), "other": ("models",)}
    await loaded.ledger.run(lambda ledger: ledger.activate(accounts))
    await loaded.account.poll_reconciliation()
    assert set(await compared(loaded)) == {("focus_estimate", NOVEMBER.start)}


@pytest.mark.parametrize(("sources", "by_team"), [(("focus",), True), (("models", "serverless"), False)])
async def test_a_bill_is_that_of_all_teams_where_the_sources_are(
    fal: RunningSimulator,
    clock: Clock,
    tmp_path: Path,
    stack: AsyncExitStack,
    sources: tuple[str, ...],
    *,
    by_team: bool,
) -> None:
    reach = replace(REACH, history=NOW - NOVEMBER.start + timedelta(hours=2))
    bench = await stack.enter_async_context(opened_bench(fal, clock, tmp_path, reach=reach, sources=sources))
    assert await bench.account.load_history()
    fal.simulator.faults.add(Fault("server_error", path="/v1/account/focus", query="expand=organization"))
    await bench.account.poll_reconciliation()
    assert (("focus_estimate", NOVEMBER.start) not in await compared(bench)) == by_team


async def test_a_report_that_fails_fails_the_poll_and_leaves_what_was_compared(
    loaded: Bench, fal: RunningSimulator, clock: Clock
) -> None:
    await loaded.account.poll_reconciliation()
    before = await compared(loaded)
    fal.simulator.faults.add(Fault("server_error", path="/v1/account/focus"))
    clock.forward(hours=6)
    await loaded.account.poll_reconciliation()
    assert loaded.number("fal_source_up", account="main", source="reconciliation") == 0
    assert await compared(loaded) == before


async def test_a_month_whose_invoice_is_not_issued_yet_is_no_failure(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack, logs: list[EventDict]
) -> None:
    clock.now = NOVEMBER.start + timedelta(hours=10)
    bench = await stack.enter_async_context(opened_bench(fal, clock, tmp_path, sources=("focus",)))
    await bench.ledger.run(lambda ledger: ledger.restate("main", "focus", OCTOBER, [], at=clock.now))
    for _ in range(2):
        await bench.account.poll_reconciliation()
    assert set(await compared(bench)) == {("focus_estimate", OCTOBER.start)}
    assert bench.number("fal_source_up", account="main", source="reconciliation") == 1
    assert [entry["event"] for entry in logs if "FOCUS" in entry["event"]] == [
        "there is no FOCUS invoice for 2026-10 yet"
    ]
    clock.forward(days=1)
    await bench.account.poll_reconciliation()
    found = await compared(bench)
    # The ledger has been told that there was nothing, so that all of the bill is the difference.
    statement = fal.simulator.statement(start=OCTOBER.start.isoformat(), end=OCTOBER.end.isoformat())
    assert found["focus_invoice", OCTOBER.start].difference == -nano(Decimal(str(statement["cost"])))


async def test_nothing_is_asked_for_an_account_without_usage(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack
) -> None:
    bench = await stack.enter_async_context(opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None))
    await bench.account.poll_reconciliation()
    assert fal.simulator.seen["/v1/account/focus"] == 0
    assert (await bench.ledger.run(Ledger.view)).reconciliations == ()


async def test_before_the_history_is_there_nothing_is_asked(bench: Bench, fal: RunningSimulator) -> None:
    await bench.account.poll_current()
    await bench.account.poll_reconciliation()
    assert fal.simulator.seen["/v1/account/focus"] == 0
    assert (await bench.view()).reconciliations == ()
