import csv
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

import httpx
import pytest
from simulator.conftest import MovableClock

from exporter.simulator import ADMIN_KEY, GlitchedJob, PlantedSpend, Simulator, World, WorldSize, simulator_app
from exporter.simulator.interfaces.calls import Key
from exporter.simulator.interfaces.focus import COLUMNS
from exporter.simulator.world.exact import HOUR, NANO, microseconds

Ask = Callable[..., Awaitable[object]]
Truth = Callable[..., Decimal]
Row = dict[str, str]
ESTIMATE = {"source": "estimate", "start": "2026-11-19T00:00:00Z", "end": "2026-11-21T00:00:00Z"}


async def download(client: httpx.AsyncClient, path: str = "/v1/account/focus", **parameters: str) -> list[Row]:
    response = await client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(StringIO(response.text)))


@pytest.fixture
def world() -> World:
    return World(7, size=WorldSize(models=1, callers=5, apps=1, compute=1), invoiced_months=1)


def billed(rows: list[Row]) -> Decimal:
    return sum((Decimal(row["BilledCost"]) for row in rows), Decimal(0))


@pytest.mark.parametrize("timeframe", ["hour", "day", "month"])
async def test_an_estimate_is_the_truth_to_the_nano_dollar(
    client: httpx.AsyncClient, truth: Truth, timeframe: str
) -> None:
    rows = await download(client, **ESTIMATE, timeframe=timeframe, bound_to_timeframe="false")
    assert billed(rows) == truth(ESTIMATE["start"], ESTIMATE["end"])


async def test_every_row_is_well_formed(client: httpx.AsyncClient) -> None:
    for row in await download(client, **ESTIMATE, timeframe="hour"):
        assert tuple(row) == COLUMNS
        subtotal, cost = Decimal(row["ListCost"]), Decimal(row["BilledCost"])
        assert cost <= subtotal
        assert row["BilledCost"] == row["EffectiveCost"] == row["ContractedCost"]
        quantity = Decimal(row["PricingQuantity"])
        assert abs(Decimal(row["ListUnitPrice"]) * quantity - subtotal) < Decimal("0.00000001")
        assert abs(Decimal(row["ContractedUnitPrice"]) * quantity - cost) < Decimal("0.00000002")
        for name in ("BilledCost", "ListCost", "ListUnitPrice", "PricingQuantity"):
            assert "." in row[name]
            assert "e" not in row[name].lower()
        start, end = (datetime.fromisoformat(row[f"ChargePeriod{edge}"]) for edge in ("Start", "End"))
        assert (end - start).total_seconds() == 3600
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["BillingPeriodEnd"]
        assert row["InvoiceId"] == ""


async def test_what_is_sold_at_surge_prices_is_told_by_its_category_and_price(
    client: httpx.AsyncClient, world: World
) -> None:
    rows = await download(client, **ESTIMATE, timeframe="day")
    at_surge = [row for row in rows if row["x_IsSurge"] == "true"]
    assert at_surge == [row for row in rows if row["PricingCategory"] == "Dynamic"]
    assert at_surge == [row for row in rows if row["SkuPriceId"].endswith("/surge")]
    prices = {Decimal(line.price).scaleb(-9) for line in world.lines if line.surge}
    assert {Decimal(row["ListUnitPrice"]) for row in at_surge} == prices
    assert prices


async def test_an_invoice_download_is_the_invoice(client: httpx.AsyncClient, ask: Ask) -> None:
    invoices = await ask("/billing/invoices")
    october = next(
        invoice for invoice in invoices if invoice["id"].startswith("inv_202610") and invoice["status"] != "void"
    )
    latest = await download(client, source="invoice")
    assert billed(latest) == october["total"]
    assert {row["InvoiceId"] for row in latest} == {october["id"]}
    assert {row["BillingPeriodStart"] for row in latest} == {"2026-10-01T00:00:00Z"}
    texts = {
        (await client.get("/v1/account/focus", params={"source": "invoice", **month})).text
        for month in ({}, {"billing_month": "2026-11"}, {"charge_month": "2026-10"})
    }
    assert len(texts) == 1


async def test_credits_and_taxes_are_rows_of_the_invoice(clock: Callable[[], datetime]) -> None:
    size = WorldSize(models=1, apps=0, compute=0)
    world = World(7, size=size, invoiced_months=1, tax_percent=19, monthly_credit=10**9)
    transport = httpx.ASGITransport(simulator_app(Simulator(world, clock)))
    headers = {"authorization": f"Key {ADMIN_KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://fal", headers=headers) as client:
        rows = await download(client, source="invoice")
        invoices = (await client.get("/billing/invoices")).text
    assert [row["ChargeCategory"] for row in rows[-2:]] == ["Credit", "Tax"]
    assert f'"total":{billed(rows).normalize()}' in invoices


async def test_a_team_sees_its_own_charges_of_an_invoice_and_nobody_elses_credit(
    clock: Callable[[], datetime],
) -> None:
    world = World(7, size=WorldSize(models=1, callers=5, apps=1, compute=1), invoiced_months=1, tax_percent=19)
    keys = (Key("root:1"), Key("labs:2", team="acme-labs"))
    transport = httpx.ASGITransport(simulator_app(Simulator(world, clock, keys=keys)))
    found: dict[str, list[Row]] = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://fal") as client:
        for key in keys:
            client.headers["authorization"] = f"Key {key.text}"
            found[key.team] = await download(client, source="invoice")
        refused = await client.get("/v1/account/focus", params={"source": "invoice", "expand": "organization"})
    assert {row["ChargeCategory"] for row in found[""]} == {"Usage", "Tax"}
    assert {row["ChargeCategory"] for row in found["acme-labs"]} == {"Usage"}
    assert 0 < billed(found["acme-labs"]) < billed(found[""])
    assert refused.status_code == 403


async def test_an_invoice_stays_as_it_was_issued(
    client: httpx.AsyncClient, simulator: Simulator, clock: MovableClock
) -> None:
    clock.now = datetime(2026, 11, 3, tzinfo=UTC)
    october = {"source": "estimate", "start": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}
    issued, estimated = await download(client, source="invoice"), await download(client, **october, timeframe="month")
    hour, found = (microseconds(datetime(2026, month, 10, tzinfo=UTC)) for month in (10, 11))
    simulator.faults.add(PlantedSpend(hour // HOUR, GlitchedJob().line(7 * NANO), found))
    clock.now = datetime(2026, 11, 28, tzinfo=UTC)
    assert await download(client, source="invoice") == issued
    assert billed(await download(client, **october, timeframe="month")) == billed(estimated) + 7


async def test_a_month_that_is_not_invoiced_yet_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/account/focus", params={"source": "invoice", "charge_month": "2026-11"})
    assert response.status_code == 400
    assert "2026-11" in response.json()["error"]["message"]


async def test_teams_are_sub_accounts_of_the_organization(client: httpx.AsyncClient, truth: Truth) -> None:
    plain = await download(client, **ESTIMATE)
    assert {row["SubAccountId"] for row in plain} == {""}
    by_team = await download(client, **ESTIMATE, expand="organization")
    names = {row["SubAccountName"] for row in by_team}
    assert len(names) > 2
    assert names <= {"acme", "acme-labs", "acme-mobile", "acme-research", "acme-studio"}
    labs = await download(client, "/v1/organization/focus", **ESTIMATE, team_username="acme-labs", timeframe="hour")
    assert billed(labs) == truth(ESTIMATE["start"], ESTIMATE["end"], team="acme-labs")


async def test_invoiced_machines_have_no_sub_account_and_no_team_filter(client: httpx.AsyncClient) -> None:
    rows = await download(client, "/v1/organization/focus", source="invoice")
    assert {bool(row["SubAccountId"]) for row in rows if row["ServiceCategory"] == "Compute"} == {False}
    assert {bool(row["SubAccountId"]) for row in rows if row["ServiceCategory"] != "Compute"} == {True}
    parameters = {"source": "invoice", "team_username": "acme-labs"}
    assert (await client.get("/v1/organization/focus", params=parameters)).status_code == 400


async def test_a_tagged_estimate_tags_endpoint_requests_only(client: httpx.AsyncClient, truth: Truth) -> None:
    rows = await download(client, **(ESTIMATE | {"source": "tagged-estimate"}), timeframe="hour")
    assert {"cost_center" in row["Tags"] for row in rows} == {True, False}
    assert not any("cost_center" in row["Tags"] for row in await download(client, **ESTIMATE))
    assert billed(rows) == truth(ESTIMATE["start"], ESTIMATE["end"], source="models")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({}, 400),
        ({"source": "guess"}, 400),
        ({"source": "invoice", "charge_month": "2026-13"}, 400),
        ({"source": "invoice", "charge_month": "2026-09", "billing_month": "2026-10"}, 400),
        ({"source": "estimate", "start": "2026-01-01"}, 400),
        ({"source": "estimate", "expand": "team"}, 400),
    ],
)
async def test_a_wrong_download_is_refused(client: httpx.AsyncClient, parameters: dict[str, str], status: int) -> None:
    assert (await client.get("/v1/account/focus", params=parameters)).status_code == status


async def test_an_unknown_team_is_not_found(client: httpx.AsyncClient) -> None:
    parameters = {"source": "estimate", "team_username": "nobody"}
    assert (await client.get("/v1/organization/focus", params=parameters)).status_code == 404
