import ssl
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from exporter.charges import NANO, Amounts, Window
from exporter.fal import event_rows
from exporter.fal.account import read_balance, read_invoices
from exporter.fal.billing_events import MODELS_EVENTS, ORGANIZATION_EVENTS, read_event_page
from exporter.fal.buckets import Allowance, Buckets, TooMuchError
from exporter.fal.client import Client
from exporter.fal.endpoints import Endpoint, Limits, Silent
from exporter.fal.errors import ApiError, PagingError
from exporter.fal.platform_usage import organization_totals, read_tagged
from exporter.fal.sources import DETAILED, SOURCES, automatic_sources, probe, usage_source
from exporter.simulator import ADMIN_KEY, API_KEY, Fault, RunningSimulator, Simulator, World, WorldSize, serving

NOW = datetime(2026, 11, 21, 12, 17, tzinfo=UTC)
WINDOWS = [
    Window(datetime(2026, 11, 21, 11, tzinfo=UTC), datetime(2026, 11, 21, 13, tzinfo=UTC)),
    Window(datetime(2026, 11, 20, 12, tzinfo=UTC), datetime(2026, 11, 21, 12, tzinfo=UTC)),
    Window(datetime(2026, 10, 31, 22, tzinfo=UTC), datetime(2026, 11, 1, 3, tzinfo=UTC)),
]


@pytest.fixture(scope="module")
def fal_account() -> Simulator:
    """Return one world for all tests, as it keeps the hours it has worked out."""
    size = WorldSize(models=8, apps=4, compute=2, teams=2, api_keys=4)
    return Simulator(World(7, size, invoiced_months=1), lambda: NOW)


@pytest.fixture
async def simulator(fal_account: Simulator) -> AsyncIterator[RunningSimulator]:
    async with serving(fal_account) as running:
        yield running
    fal_account.faults.clear()


def client_of(simulator: RunningSimulator, tls: ssl.SSLContext, key: str = ADMIN_KEY) -> Client:
    return Client(
        account="prod",
        key=lambda: SecretStr(key),
        platform_url=simulator.platform_url,
        reporting_url=simulator.reporting_url,
        limits=Limits(attempts=2, first_backoff=timedelta(0), page_rows=20),
        observer=Silent(),
        tls=tls,
        now=lambda: NOW,
    )


@pytest.fixture
async def client(simulator: RunningSimulator, tls: ssl.SSLContext) -> AsyncIterator[Client]:
    client = client_of(simulator, tls)
    yield client
    await client.aclose()


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("source", SOURCES)
async def test_each_source_equals_the_simulators_statement_to_the_nano_dollar(
    simulator: RunningSimulator, client: Client, source: str, window: Window
) -> None:
    reading = await usage_source(source, client).read(window, with_api_key=False)
    truth = simulator.simulator.statement(
        start=window.start.isoformat(), end=window.end.isoformat(), source=source, group_by="hour"
    )
    assert reading.rejected == {}
    assert reading.charges
    total = Amounts(*map(sum, zip(*(charge.amounts for charge in reading.charges), strict=True)))
    assert total.cost == nano(truth["cost"])
    assert total.gpu_seconds == nano(truth["gpu_seconds"])
    if source in {"models", "serverless"}:
        assert (total.list_cost, total.discount) == (nano(truth["list_cost"]), nano(truth["discount"]))
        assert total.quantity == nano(truth["quantity"])
    by_hour = {f"{hour:%Y-%m-%dT%H:%M:%SZ}": 0 for hour in window.hours()}
    for charge in reading.charges:
        by_hour[f"{charge.hour:%Y-%m-%dT%H:%M:%SZ}"] += charge.amounts.cost
    hours = truth["charges"]
    assert isinstance(hours, list)
    assert {hour: cost for hour, cost in by_hour.items() if cost} == {row["hour"]: nano(row["cost"]) for row in hours}


@pytest.mark.parametrize(
    ("call", "tagged"), [(MODELS_EVENTS, False), (MODELS_EVENTS, True), (ORGANIZATION_EVENTS, False)]
)
async def test_its_billing_events_are_read_by_columns(
    client: Client, monkeypatch: pytest.MonkeyPatch, call: Endpoint, *, tagged: bool
) -> None:
    def one_by_one(*_: object) -> None:
        raise AssertionError("a row was read by itself")

    monkeypatch.setattr(event_rows, "request_of", one_by_one)
    window = WINDOWS[0]
    page = await read_event_page(client, call, (window.start, window.end), client.deadline(), tagged=tagged)
    assert len(page.requests) == len(set(page.requests.request_id)) > 50
    assert (set(page.requests.tags) != {"{}"}) == tagged


@pytest.mark.parametrize("source", SOURCES)
async def test_buckets_of_any_length_add_up_to_the_simulators_statement(
    simulator: RunningSimulator, client: Client, source: str
) -> None:
    window = Window(datetime(2026, 10, 30, 22, tzinfo=UTC), datetime(2026, 11, 2, 3, tzinfo=UTC))
    truth = simulator.simulator.statement(start=window.start.isoformat(), end=window.end.isoformat(), source=source)
    reader, berlin = usage_source(source, client), ZoneInfo("Europe/Berlin")
    for buckets in (Buckets(window, None, berlin), Buckets(window, "day", berlin)):
        reading = await reader.read_buckets(buckets, client.deadline(), Allowance(400))
        assert reading.rejected == {}
        total = Amounts(*map(sum, zip(*(charge.amounts for charge in reading.charges), strict=True)))
        assert (total.cost, total.gpu_seconds) == (nano(truth["cost"]), nano(truth["gpu_seconds"]))


async def test_a_question_of_more_pages_than_calls_is_refused(client: Client) -> None:
    asked = Buckets(WINDOWS[1], "hour", ZoneInfo("UTC"))
    with pytest.raises(TooMuchError):
        await usage_source("models", client).read_buckets(asked, client.deadline(), Allowance(2))


@pytest.mark.parametrize("source", ["models", "organization"])
async def test_charges_by_key_add_up_to_those_without(client: Client, source: str) -> None:
    reader = usage_source(source, client)
    by_key = await reader.read(WINDOWS[1], with_api_key=True)
    together = await reader.read(WINDOWS[1], with_api_key=False)
    assert len({charge.dimensions.api_key for charge in by_key.charges}) > 1
    assert sum(charge.amounts.cost for charge in by_key.charges) == sum(
        charge.amounts.cost for charge in together.charges
    )


async def test_balance_and_invoices_are_read(client: Client) -> None:
    assert (await read_balance(client)).at == NOW
    invoices = await read_invoices(client)
    assert invoices
    assert invoices.rejected == {}
    assert {invoice.status for invoice in invoices} <= {"paid", "open", "draft", "void"}


async def test_a_key_with_api_scope_reads_the_balance_only(simulator: RunningSimulator, tls: ssl.SSLContext) -> None:
    client = client_of(simulator, tls, API_KEY)
    probes = await probe(client)
    assert [one.name for one in probes if one.ok] == ["user_balance"]
    assert automatic_sources(probes) == ()
    assert (await read_balance(client)).account == "prod"
    await client.aclose()


async def test_an_admin_key_may_read_everything(client: Client) -> None:
    probes = await probe(client)
    assert [one.problem for one in probes] == [""] * len(probes)
    assert next(one.teams for one in probes if one.name == "organization") == 2
    assert automatic_sources(probes) == ("organization",)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
async def test_the_detailed_sources_together_are_the_organizations_totals(client: Client, window: Window) -> None:
    charges = [
        charge
        for source in DETAILED
        for charge in (await usage_source(source, client).read(window, with_api_key=True)).charges
    ]
    totals = await organization_totals(client, window, client.deadline())
    sums: Counter[str] = Counter()
    for charge in charges:
        sums[charge.dimensions.product] += charge.amounts.cost
    assert sums == totals.by_product
    assert sums.keys() == {"model_apis", "serverless", "compute"}
    assert (len(totals.teams), totals.rejected) == (2, 0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("rate_limited", "rate_limited"),
        ("server_error", "server_error"),
        ("not_found", "not_found"),
        ("locked", "locked"),
        ("key_revoked", "key_rejected"),
        ("scope_removed", "scope"),
        ("truncated_body", "truncated"),
        ("not_json", "not_json"),
        ("duplicated_page", "endless_pages"),
        ("repeated_cursor", "endless_pages"),
        ("overlapping_pages", "endless_pages"),
        ("skipping_pages", "endless_pages"),
        ("endless_pages", "endless_pages"),
        ("giant_body", "too_large"),
        ("gzip_bomb", "too_large"),
    ],
)
async def test_its_faults_are_told_apart(simulator: RunningSimulator, client: Client, kind: str, reason: str) -> None:
    simulator.simulator.faults.add(Fault(kind, path="/v1/*"))
    with pytest.raises(ApiError) as caught:
        await usage_source("models", client).read(WINDOWS[0], with_api_key=False)
    assert caught.value.reason == reason
    assert isinstance(caught.value, PagingError) == (reason == "endless_pages")


async def test_pages_that_leave_rows_out_are_no_totals_and_no_allocation(
    simulator: RunningSimulator, client: Client
) -> None:
    simulator.simulator.faults.add(Fault("skipping_pages", path="/v1/*", rows=1))
    with pytest.raises(PagingError, match="leave rows out"):
        await organization_totals(client, WINDOWS[2], client.deadline())
    with pytest.raises(PagingError, match="leave rows out"):
        await read_tagged(client, WINDOWS[1], ("customer",))


@pytest.mark.parametrize("kind", ["wrong_types", "missing_fields"])
async def test_malformed_rows_of_it_are_counted(simulator: RunningSimulator, client: Client, kind: str) -> None:
    whole = await usage_source("models", client).read(WINDOWS[1], with_api_key=False)
    simulator.simulator.faults.add(Fault(kind, path="/v1/models/usage", every_row=3))
    reading = await usage_source("models", client).read(WINDOWS[1], with_api_key=False)
    assert sum(reading.rejected.values()) > 0
    assert 0 < len(reading.charges) <= len(whole.charges)


@pytest.mark.parametrize("kind", ["unknown_fields", "cost_only", "single_dimension", "clock_skew"])
async def test_what_it_may_do_differently_changes_no_cost(
    simulator: RunningSimulator, client: Client, kind: str
) -> None:
    for source in ("serverless", "reporting"):
        before = await usage_source(source, client).read(WINDOWS[2], with_api_key=False)
        simulator.simulator.faults.add(Fault(kind))
        after = await usage_source(source, client).read(WINDOWS[2], with_api_key=False)
        assert after.rejected == {}
        assert sum(charge.amounts.cost for charge in after.charges) == sum(
            charge.amounts.cost for charge in before.charges
        )


def nano(text: object) -> int:
    return int(Decimal(str(text)) * NANO)
