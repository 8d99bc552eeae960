"""A month by `models` and `serverless`, the same month by `focus`, and what fal bills of it: to the nano-dollar."""

import asyncio
import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from e2e.processes import Labels, parsed
from local_http import NO_TLS
from pydantic import SecretStr

from exporter.app.focus.files import ledger_request, run_check, run_export
from exporter.app.single_process import in_one_process
from exporter.charges import NANO, SURGE
from exporter.settings import Listen, Settings
from exporter.settings.parsing import DEFAULT_LABELS
from exporter.simulator import ADMIN_KEY, Fault, GlitchedJob, PlantedSpend, Simulator, World, WorldSize, serving

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 2, 3, 20, tzinfo=UTC)
"""Some hours after the invoice of October has been issued."""

FROM_LISTS = ("models", "serverless")
FROM_FOCUS = ("focus",)
INVOICES = {("invoice", "current_month"), ("invoice", "last_month")}
REPORTS = {("focus_estimate", "current_month"), ("focus_estimate", "last_month"), ("focus_invoice", "last_month")}

Scrape = dict[str, dict[Labels, float]]


@pytest.fixture(scope="module")
def world() -> Simulator:
    """Return one fal for all tests but one, as it keeps the hours it has worked out."""
    size = WorldSize(models=2, callers=1, apps=1, compute=0, teams=2)
    return Simulator(World(11, size, invoiced_months=1, tax_percent=19, monthly_credit=5 * NANO), lambda: NOW)


@pytest.fixture
def simulator(world: Simulator) -> Iterator[Simulator]:
    yield world
    world.faults.clear()


async def scraped(
    simulator: Simulator, folder: Path, sources: tuple[str, ...], compared: set[tuple[str, str]] = INVOICES | REPORTS
) -> Scrape:
    """Run an exporter until it has compared so much, and return what it exposes then."""
    async with serving(simulator) as fal:
        settings = Settings(
            key=SecretStr(ADMIN_KEY),
            sources=sources,
            platform_url=fal.platform_url,
            reporting_url=fal.reporting_url,
            labels=(*DEFAULT_LABELS, "surge"),
            listen=Listen("127.0.0.1", 0),
            ledger_url=SecretStr(f"sqlite:///{folder / '-'.join(sources)}.sqlite"),
            request_attempts=1,
        )
        async with (
            in_one_process(settings, clock=lambda: NOW) as running,
            httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client,
            asyncio.timeout(90),
        ):
            while True:
                await running.published.wait()
                running.published.clear()
                found = parsed((await client.get(f"{running.url}/metrics")).text)
                if compared <= differences(found).keys() and is_up(found):
                    return found


def differences(found: Scrape) -> dict[tuple[str, str], float]:
    return {
        (dict(labels)["against"], dict(labels)["period"]): value
        for labels, value in found.get("fal_reconciliation_difference_usd", {}).items()
    }


def is_up(found: Scrape) -> bool:
    ups = {dict(labels)["source"]: value for labels, value in found["fal_source_up"].items()}
    return ups.get("reconciliation") == ups.get("invoices") == 1.0


def billed(found: Scrape, period: str) -> dict[str, Decimal]:
    """Return what the reports bill, of any size by category; a float of an exposition is the nearest to the exact."""
    return {
        dict(labels)["charge_category"]: Decimal(repr(value))
        for labels, value in found["fal_focus_billed_usd"].items()
        if dict(labels)["period"] == period
    }


def spent(found: Scrape, family: str, **labels: str) -> Decimal:
    """Return the sum of a family's values, or of those with some labels."""
    wanted = (value for key, value in found[family].items() if labels.items() <= dict(key).items())
    return sum((Decimal(repr(value)) for value in wanted), Decimal(0))


def truth(simulator: Simulator, start: datetime, end: datetime, source: str = "") -> Decimal:
    stated = simulator.statement(start=start.isoformat(), end=end.isoformat(), source=source)
    return Decimal(str(stated["cost"]))


def at_surge_prices(simulator: Simulator, start: datetime, end: datetime) -> Decimal:
    stated = simulator.statement(start=start.isoformat(), end=end.isoformat(), group_by="surge")
    charges = stated["charges"]
    assert isinstance(charges, list)
    (cost,) = (Decimal(str(charge["cost"])) for charge in charges if charge["surge"] == "surge")
    return cost


def exported(folder: Path, sources: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a file of October, from the ledger that an exporter has left."""
    path = folder / "october.csv"
    address = f"sqlite:///{folder / '-'.join(sources)}.sqlite"
    done = run_export(
        address,
        ledger_request({"timeframe": "day"}, "2026-10", clock=lambda: NOW),
        version="1.2",
        omit_empty_columns=False,
        output=path,
        metadata_output=None,
        account=None,
        clock=lambda: NOW,
    )
    assert done == 0
    assert run_check([str(path)], version="1.2", output_format="text") == 0
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def billed_in(rows: list[dict[str, str]], category: str) -> Decimal:
    return sum((Decimal(row["BilledCost"]) for row in rows if row["PricingCategory"] == category), Decimal(0))


@pytest.mark.parametrize("sources", [pytest.param(FROM_LISTS, marks=pytest.mark.long), FROM_FOCUS], ids=",".join)
async def test_a_month_is_the_same_from_every_source_and_on_every_bill(
    simulator: Simulator, tmp_path: Path, sources: tuple[str, ...]
) -> None:
    found = await scraped(simulator, tmp_path, sources)
    october = truth(simulator, OCTOBER, NOVEMBER)
    assert october > 100
    assert spent(found, "fal_spend_last_month_usd") == october
    assert spent(found, "fal_spend_month_to_date_usd") == truth(simulator, NOVEMBER, NOW)
    assert differences(found) == dict.fromkeys(INVOICES | REPORTS, 0.0)
    surge = at_surge_prices(simulator, OCTOBER, NOVEMBER)
    assert 0 < surge < october
    assert spent(found, "fal_spend_last_month_usd", surge=SURGE) == surge
    rows = exported(tmp_path, sources)
    assert (billed_in(rows, "Dynamic"), billed_in(rows, "Standard")) == (surge, october - surge)
    bill = billed(found, "last_month")
    tax = (october - 5) * 19 / 100
    assert (bill["Usage"], bill["Credit"], bill["Correction"]) == (october, -5, 0)
    assert abs(bill["Tax"] - tax) <= Decimal("1E-9")
    estimated = billed(found, "current_month")
    assert estimated["Usage"] == truth(simulator, NOVEMBER, NOW.replace(minute=0))
    assert (estimated["Credit"], estimated["Tax"]) == (0, 0)


@pytest.mark.long
async def test_compute_which_models_and_serverless_do_not_tell_is_the_difference(tmp_path: Path) -> None:
    size = WorldSize(models=2, callers=1, apps=1, compute=1, teams=2)
    simulator = Simulator(World(11, size, invoiced_months=1), lambda: NOW)
    listed = await scraped(simulator, tmp_path, FROM_LISTS)
    machines = truth(simulator, OCTOBER, NOVEMBER) - sum(
        truth(simulator, OCTOBER, NOVEMBER, item) for item in FROM_LISTS
    )
    assert machines > 10
    for against in ("invoice", "focus_invoice", "focus_estimate"):
        assert Decimal(repr(differences(listed)[against, "last_month"])) == -machines
    whole = await scraped(simulator, tmp_path, FROM_FOCUS)
    assert set(differences(whole).values()) == {0.0}
    labels = [dict(labels) for labels in whole["fal_spend_last_month_usd"]]
    assert {label["product"] for label in labels} == {"model_apis", "serverless", "compute"}
    assert {label["team"] for label in labels} == set(simulator.account.world.teams)
    assert {label["gpu_class"] for label in labels if label["product"] == "compute"} == {"H100"}


@pytest.mark.long
async def test_a_planted_difference_is_shown_exactly(simulator: Simulator, tmp_path: Path) -> None:
    # A charge that comes to light after the invoice has been issued is in the ledger and not on the invoice.
    hour = int(datetime(2026, 10, 17, 9, tzinfo=UTC).timestamp()) // 3600
    seen_from = int((NOW - timedelta(minutes=30)).timestamp()) * 1_000_000
    plant = PlantedSpend(hour, GlitchedJob().line(12_345_678_901), visible_from=seen_from)
    simulator.faults.add(plant)
    found = await scraped(simulator, tmp_path, FROM_LISTS)
    assert differences(found) == {
        ("invoice", "last_month"): 12.345678901,
        ("focus_invoice", "last_month"): 12.345678901,
        ("focus_estimate", "last_month"): 0.0,
        ("invoice", "current_month"): 0.0,
        ("focus_estimate", "current_month"): 0.0,
    }


@pytest.mark.long
async def test_without_the_feature_the_invoices_alone_are_compared(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.add(Fault("feature_disabled"))
    found = await scraped(simulator, tmp_path, FROM_LISTS, INVOICES)
    assert differences(found) == dict.fromkeys(INVOICES, 0.0)
    assert "fal_focus_billed_usd" not in found
