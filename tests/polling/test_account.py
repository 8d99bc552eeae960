from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench, truth
from pydantic import SecretStr
from structlog.typing import EventDict

from exporter.charges import HOUR, NANO, hour_of
from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger import Ledger
from exporter.polling.source_choice import NO_USAGE
from exporter.simulator import ADMIN_KEY, API_KEY, Fault, GlitchedJob, PlantedSpend, RunningSimulator
from exporter.simulator.interfaces import billing

MODELS = "/v1/models/usage"
SERVERLESS = "/v1/serverless/usage"
BALANCES = ("/v1/account/billing", "/billing/user_balance")


def plant(fal: RunningSimulator, hour: datetime, dollars: int) -> None:
    fal.simulator.faults.add(PlantedSpend(int(hour.timestamp()) // 3600, GlitchedJob().line(dollars * NANO)))


async def month(bench: Bench) -> int:
    return await bench.known_of_month()


async def counted(bench: Bench) -> int:
    """Return what the counters have counted, births shown and scraped."""
    sequence = (await bench.view()).sequence
    await bench.ledger.run(lambda ledger: ledger.scraped(sequence))
    view = await bench.view()
    return int(sum(sample.value for page in view.spend for sample in page.samples))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[datetime, datetime]]:
    """The windows of `models` that go into the ledger, in order."""
    windows: list[tuple[datetime, datetime]] = []
    restate = Ledger.restate

    def noted(self: Ledger, account: str, source: str, *given: object, **named: object) -> object:
        if source == "models":
            windows.append((given[0].start, given[0].end))  # type: ignore[attr-defined]  # a Window
        return restate(self, account, source, *given, **named)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(Ledger, "restate", noted)
    return windows


async def test_history_is_loaded_newest_first_to_its_configured_start_and_is_exact(
    bench: Bench, fal: RunningSimulator, clock: Clock, asked: list[tuple[datetime, datetime]]
) -> None:
    assert await bench.account.load_history()
    start = hour_of(clock.now - timedelta(days=3))
    assert await bench.since("models") == await bench.since("serverless") == (start, hour_of(clock.now))
    assert [window[0] for window in asked] == sorted((window[0] for window in asked), reverse=True)
    assert [later[0] for later in asked[:-1]] == [earlier[1] for earlier in asked[1:]]
    assert await month(bench) == truth(fal, start, clock.now)
    assert await counted(bench) == 0


async def test_history_goes_on_where_it_failed(bench: Bench, fal: RunningSimulator, clock: Clock) -> None:
    await bench.account.poll_current()
    first = await bench.since("models")
    fal.simulator.faults.add(Fault("server_error", path=MODELS))
    assert not await bench.account.load_history()
    assert await bench.since("models") == first
    # One source that cannot be read does not keep the other waiting.
    assert (await bench.since("serverless"))[0] == hour_of(clock.now - timedelta(days=3))
    fal.simulator.faults.clear()
    asked = fal.simulator.seen[SERVERLESS]
    assert await bench.account.load_history()
    assert (await bench.since("models"))[0] == hour_of(clock.now - timedelta(days=3))
    assert fal.simulator.seen[SERVERLESS] == asked


async def test_history_goes_on_after_a_restart_without_reading_anything_twice(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, asked: list[tuple[datetime, datetime]]
) -> None:
    async with opened_bench(fal, clock, tmp_path) as bench:
        await bench.account.poll_current()
        fal.simulator.faults.add(Fault("server_error", path=MODELS))
        await bench.account.load_history()
    fal.simulator.faults.clear()
    clock.forward(hours=2)
    start = hour_of(clock.now) - 2 * HOUR - timedelta(days=3)  # by the ledger's birth, not by the restart
    async with opened_bench(fal, clock, tmp_path) as bench:
        assert await bench.account.load_history()
        assert (await bench.since("models"))[0] == start
        assert len(asked) == len(set(asked))
        before = list(asked)
        assert await bench.account.load_history()
        assert asked == before


@pytest.mark.parametrize("downtime", [timedelta(hours=7), timedelta(days=9, hours=5)])
async def test_catching_up_after_downtime_covers_the_whole_gap_and_counts_it(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, downtime: timedelta
) -> None:
    async with opened_bench(fal, clock, tmp_path) as bench:
        assert await bench.account.load_history()
        left = clock.now
        known = await month(bench)
        known_of_the_running_hour = truth(fal, hour_of(left), left)
    clock.now += downtime
    async with opened_bench(fal, clock, tmp_path) as bench:
        await bench.account.poll_current()
        start, through = await bench.since("models")
        assert through == hour_of(clock.now)
        assert start == hour_of(left - timedelta(days=3))
        new = truth(fal, hour_of(left), clock.now) - known_of_the_running_hour
        assert await counted(bench) == new > 0
        assert await month(bench) == known + new


async def test_a_catch_up_that_fails_half_way_leaves_no_hole(bench: Bench, fal: RunningSimulator, clock: Clock) -> None:
    await bench.account.poll_current()
    clock.forward(days=3)
    fal.simulator.faults.add(Fault("server_error", path=MODELS))
    await bench.account.poll_current()
    await bench.account.poll_recent()
    fal.simulator.faults.clear()
    # The last days come in by another job first: what lies between is still missing and must not look known.
    await bench.account.poll_recent()
    assert (await bench.since("models"))[1] < hour_of(clock.now) - timedelta(days=2)
    await bench.account.poll_current()
    assert (await bench.since("models"))[1] == hour_of(clock.now)
    assert await month(bench) == truth(fal, (await bench.since("models"))[0] or clock.now, clock.now)


async def test_recent_deep_and_month_polls_find_charges_ever_further_back(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    reach = replace(REACH, history=timedelta(days=20))
    async with opened_bench(fal, clock, tmp_path, sources=("models",), reach=reach) as bench:
        assert await bench.account.load_history()
        for ago, poll in (
            (timedelta(hours=1), bench.account.poll_current),
            (timedelta(hours=47), bench.account.poll_recent),
            (timedelta(days=7), bench.account.poll_deep),
            (timedelta(days=19), bench.account.poll_months),
        ):
            before = await counted(bench)
            plant(fal, hour_of(clock.now - ago), 100)
            await poll()
            assert await counted(bench) == before + 100 * NANO


async def test_a_source_that_fails_does_not_hold_up_the_other(bench: Bench, fal: RunningSimulator) -> None:
    fal.simulator.faults.add(Fault("server_error", path=SERVERLESS))
    await bench.account.poll_current()
    states = {polled.name: polled.state for polled in bench.account.polled}
    assert (states["models"], states["serverless"]) == ("up", "failing")
    assert states["balance"] == "waiting"


async def test_what_the_key_may_read_is_chosen_once_and_kept(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        assert bench.account.sources == ()
        assert await bench.account.choose_sources()
        assert bench.account.sources == ("models", "serverless", "compute")
        assert not await bench.account.choose_sources()
        await bench.activate()
    # Whatever fal says later, the choice stays: another source would count from anew.
    fal.simulator.faults.add(Fault("scope_removed"))
    asked = fal.simulator.seen.total()
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        assert bench.account.sources == ("models", "serverless", "compute")
        assert not await bench.account.choose_sources()
        assert fal.simulator.seen.total() == asked


async def test_an_account_whose_key_may_not_read_usage_has_its_balance_and_is_asked_again(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    key = API_KEY
    async with opened_bench(fal, clock, tmp_path, sources=None, ask_key=lambda: SecretStr(key)) as bench:
        for _ in range(2):
            assert not await bench.account.choose_sources()
        assert bench.account.problem == NO_USAGE
        assert [entry["problem"] for entry in logs if entry["log_level"] == "warning"] == [NO_USAGE]
        await bench.account.poll_balance()
        assert bench.account.balance.state == "up"
        assert len((await bench.view()).balances) == 1
        assert not await bench.account.load_history()

        key = ADMIN_KEY
        assert await bench.account.choose_sources()
        assert bench.account.problem == ""
        await bench.activate()
        await bench.account.poll_current()
        assert {polled.state for polled in bench.account.polled if polled.name in bench.account.sources} == {"up"}


@pytest.mark.parametrize("kind", ["server_error", "locked", "not_json"])
async def test_nothing_is_chosen_while_fal_gives_no_clear_answer(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, kind: str
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        fal.simulator.faults.add(Fault(kind))
        assert not await bench.account.choose_sources()
        assert "cannot be chosen yet" in bench.account.problem
        fal.simulator.faults.clear()
        assert await bench.account.choose_sources()


async def test_a_wrong_address_is_not_taken_for_a_key_of_the_wrong_scope(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        fal.simulator.faults.add(Fault("not_found"))
        assert not await bench.account.choose_sources()
        assert "scope" not in bench.account.problem
        assert "check the URL" in bench.account.problem


async def test_a_key_that_cannot_be_used_is_told_as_it_is(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    def gone() -> SecretStr:
        raise ConfigurationError('the key file "key" cannot be read')

    async with opened_bench(fal, clock, tmp_path, sources=None, ask_key=gone) as bench:
        assert not await bench.account.choose_sources()
        assert 'the key file "key" cannot be read' in bench.account.problem
        await bench.account.poll_balance()
        assert bench.account.balance.problem == 'the key file "key" cannot be read'


async def test_a_lock_is_seen_by_the_balance_poll_and_its_end_too(bench: Bench, fal: RunningSimulator) -> None:
    fal.simulator.faults.add(Fault("locked"))
    await bench.account.poll_balance()
    assert bench.account.lock_reasons == ("exhausted_balance",)
    assert bench.account.balance.state == "failing"
    fal.simulator.faults.clear()
    for _ in BALANCES:
        await bench.account.poll_balance()
    assert bench.account.balance.state == "up"


async def test_a_lock_is_asked_for_where_every_other_call_answers(
    bench: Bench, fal: RunningSimulator, logs: list[EventDict]
) -> None:
    await bench.account.poll_balance()
    assert bench.account.lock_reasons == ()
    fal.simulator.faults.add(Fault("locked", reason="Admin lock. Write to support.", readable=True))
    for _ in range(2):
        await bench.account.poll_balance()
    assert bench.account.lock_reasons == ("admin_lock",)
    assert bench.number("fal_account_locked", account="main", reason="admin_lock") == 1
    assert bench.account.balance.state == "up"
    (told,) = [entry for entry in logs if entry["event"] == "fal has locked the account"]
    assert (told["account"], told["reason"]) == ("main", "admin_lock")
    assert "a top-up does not unlock it" in told["advice"]
    fal.simulator.faults.clear()
    await bench.account.poll_balance()
    assert bench.number("fal_account_locked", account="main", reason="admin_lock") == 0
    assert [entry["after"] for entry in logs if entry["event"] == "the account is no longer locked"] == ["admin_lock"]


@pytest.mark.parametrize("kind", ["not_found", "server_error", "refused", "not_json"])
async def test_a_lock_that_cannot_be_asked_for_fails_nothing_and_is_asked_for_again(
    bench: Bench, fal: RunningSimulator, logs: list[EventDict], kind: str
) -> None:
    faults = [Fault(kind, path=path) for path in ("/users/current", "/billing/user_details")]
    fal.simulator.faults.add(*faults)
    for _ in range(2):
        await bench.account.poll_balance()
    assert bench.account.balance.state == "up"
    assert [entry["event"] for entry in logs].count("fal does not state whether the account is locked") == 1
    fal.simulator.faults.clear()
    fal.simulator.faults.add(Fault("locked", readable=True))
    await bench.account.poll_balance()
    assert bench.account.lock_reasons == ("exhausted_balance",)


async def test_the_budgets_set_at_fal_are_shown_until_they_are_taken_back(bench: Bench, fal: RunningSimulator) -> None:
    def shown() -> dict[str, float | None]:
        return {item: bench.number("fal_provider_budget_usd", account="main", kind=item) for item in ("soft", "hard")}

    await bench.account.poll_balance()
    assert shown() == {"soft": None, "hard": None}
    fal.simulator.faults.add(Fault("account_details", soft_budget=10**6, hard_budget=2 * 10**6))
    await bench.account.poll_balance()
    assert shown() == {"soft": 10**6, "hard": 2 * 10**6}
    fal.simulator.faults.add(Fault("not_found", path="/billing/user_details"))
    await bench.account.poll_balance()
    assert shown() == {"soft": 10**6, "hard": 2 * 10**6}
    fal.simulator.faults.clear()
    fal.simulator.faults.add(Fault("account_details", hard_budget=1))
    await bench.account.poll_balance()
    assert shown() == {"soft": None, "hard": 1}
    assert bench.account.lock_reasons == ("budget_exceeded",)


@pytest.mark.parametrize(
    ("faults", "by_invoice"),
    [
        ((Fault("account_details", is_paying=True),), True),
        ((Fault("account_details", is_paying=False),), False),
        ((Fault("locked", readable=True),), False),
        ((Fault("not_found", path="/users/current"), Fault("not_found", path="/billing/user_details")), False),
    ],
    ids=["paying", "not paying", "locked", "not stated"],
)
async def test_who_pays_and_is_not_locked_without_credit_is_billed_by_invoice(
    bench: Bench,
    fal: RunningSimulator,
    faults: tuple[Fault, ...],
    by_invoice: bool,  # noqa: FBT001  a case
) -> None:
    fal.simulator.faults.add(*faults)
    await bench.account.poll_balance()
    assert bench.account.pays_by_invoice(0) is by_invoice
    assert not bench.account.pays_by_invoice(1)


@pytest.mark.parametrize(
    ("sentence", "floor", "hint"),
    [
        ("Unknown.", 0, "The last balance before the lock was $40.00"),
        ("Exhausted balance. Top up.", 0, "The last balance before the lock was $40.00"),
        ("Unknown.", 40 * NANO, ""),
        ("Admin lock.", 0, ""),
    ],
)
async def test_a_lock_for_want_of_credit_hints_at_the_floor(
    fal: RunningSimulator,
    clock: Clock,
    tmp_path: Path,
    logs: list[EventDict],
    *,
    sentence: str,
    floor: int,
    hint: str,
) -> None:
    async with opened_bench(fal, clock, tmp_path, credit_floor=floor) as bench:
        fal.simulator.faults.add(Fault("balance", amount=40 * NANO))
        await bench.account.poll_balance()
        assert bench.account.floor_hint == ""
        fal.simulator.faults.add(Fault("locked", reason=sentence, readable=True))
        await bench.account.poll_balance()
        assert bench.account.floor_hint.startswith(hint)
        assert bool(bench.account.floor_hint) is bool(hint)
        (told,) = [entry for entry in logs if entry["event"] == "fal has locked the account"]
        assert told["hint"] == bench.account.floor_hint
        fal.simulator.faults.remove("locked")
        await bench.account.poll_balance()
        assert bench.account.floor_hint == ""


async def test_a_repeated_poll_changes_nothing(bench: Bench, fal: RunningSimulator, clock: Clock) -> None:
    await bench.account.load_history()
    plant(fal, hour_of(clock.now), 7)
    for _ in range(3):
        await bench.account.poll_current()
        await bench.account.poll_recent()
    assert await counted(bench) == 7 * NANO


async def test_invoices_are_kept(bench: Bench) -> None:
    await bench.account.poll_invoices()
    assert {invoice.account for invoice in (await bench.view()).invoices} == {"main"}


async def test_a_ledger_that_cannot_be_read_is_a_failed_poll_of_every_source(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Ledger) -> None:
        raise LedgerError("the ledger is locked by another process")

    await bench.account.poll_current()
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "scopes", broken)
        await bench.account.poll_current()
        assert not await bench.account.load_history()
    for source in ("models", "serverless"):
        labels = {"account": "main", "source": source}
        assert bench.number("fal_source_up", **labels) == 0
        assert (bench.number("fal_exporter_poll_failures_total", reason="ledger", **labels) or 0) >= 1
    await bench.account.poll_current()
    assert bench.number("fal_source_up", account="main", source="models") == 1


async def test_two_accounts_in_one_ledger_do_not_mix(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack
) -> None:
    bench = await stack.enter_async_context(opened_bench(fal, clock, tmp_path))
    await bench.account.poll_current()
    scopes = await bench.ledger.run(Ledger.scopes)
    assert {scope.account for scope in scopes} == {"main"}
    assert {scope.born_at.tzinfo for scope in scopes} == {UTC}


async def test_an_answer_of_which_no_row_can_be_read_takes_nothing_back(bench: Bench, fal: RunningSimulator) -> None:
    await bench.account.poll_current()
    before = (await bench.view()).totals["main"]
    fal.simulator.faults.add(Fault("wrong_types", path="/v1/models/usage"))
    await bench.account.poll_current()
    (models,) = [polled for polled in bench.account.polled if polled.name == "models"]
    assert (models.state, models.cause) == ("failing", "unreadable")
    assert "the ledger keeps what it has" in models.problem
    assert (await bench.view()).totals["main"] == before


async def test_an_invoice_that_fal_has_withdrawn_is_not_shown_any_more(bench: Bench, fal: RunningSimulator) -> None:
    """A draft gets another id when it is issued; one that is open would be overdue for ever."""
    await bench.account.poll_invoices()
    stated = await bench.ledger.invoices("main")
    draft = replace(stated[0], id="draft_1", number="", status="draft")
    await bench.ledger.record_invoices("main", [draft, replace(draft, id="paid_1", status="paid")])
    fal.simulator.faults.add(Fault("missing_fields", path="/billing/invoices", fields=("total",), every_row=2))
    await bench.account.poll_invoices()
    assert "draft_1" in {item.id for item in await bench.ledger.invoices("main")}, "it may be the one that is odd"
    fal.simulator.faults.clear()
    await bench.account.poll_invoices()
    found = {item.id for item in (await bench.view()).invoices}
    assert found == {item.id for item in stated} | {"paid_1"}


async def test_an_invoice_that_fal_states_in_another_currency_now_is_not_kept_in_dollars(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.account.poll_invoices()
    first, *others = await bench.ledger.invoices("main")
    made = billing._invoice_row
    monkeypatch.setattr(
        billing, "_invoice_row", lambda item: made(item) | ({"currency": "EUR"} if item.id == first.id else {})
    )
    await bench.account.poll_invoices()
    assert list(await bench.ledger.invoices("main")) == others
    assert others


async def test_invoices_that_the_key_may_not_read_any_more_are_a_failure(bench: Bench, fal: RunningSimulator) -> None:
    """Those that were read are still shown, and get old."""
    (invoices,) = [polled for polled in bench.account.polled if polled.name == "invoices"]
    await bench.account.poll_invoices()
    fal.simulator.faults.add(Fault("scope_removed"))
    await bench.account.poll_invoices()
    assert (invoices.state, bench.number("fal_source_up", account="main", source="invoices")) == ("failing", 0)
    fal.simulator.faults.clear()
    await bench.account.poll_invoices()
    assert invoices.state == "up"


async def test_invoices_that_the_key_may_not_read_are_told_once_and_are_no_failure(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None) as bench:
        for _ in range(2):
            await bench.account.poll_invoices()
        (invoices,) = [polled for polled in bench.account.polled if polled.name == "invoices"]
        assert invoices.state == "up"
        assert [entry["event"] for entry in logs].count("the account's invoices cannot be read") == 1


async def test_list_prices_are_polled_only_while_there_is_no_usage_that_tells_what_is_paid(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    wanted = tuple(sorted({line.model for line in fal.simulator.account.world.lines if line.model}))
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None, price_models=wanted) as bench:
        await bench.account.choose_sources()
        await bench.account.poll_prices()
        prices = [sample for page in (await bench.view()).unit_prices for sample in page.samples]
        assert {sample.labels[2] for sample in prices} == set(wanted)
        assert all(sample.value > 0 for sample in prices)
        assert bench.number("fal_source_up", account="main", source="prices") == 1
    async with opened_bench(fal, clock, tmp_path, price_models=wanted) as bench:
        await bench.account.poll_prices()
        assert bench.number("fal_source_up", account="main", source="prices") is None
