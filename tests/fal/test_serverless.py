from datetime import datetime
from decimal import Decimal

import pytest
from fal.conftest import Bench, Fal, as_json, bucket, page

from exporter.charges import NANO, SURGE, Amounts, Window
from exporter.fal.platform_usage import serverless

TEN = "2026-11-21T10:00:00Z"


def machine_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "app": "my-app",
        "environment": "prod",
        "machine_type": "GPU-H100",
        "unit": "second",
        "quantity": 1200,
        "unit_price": Decimal("0.00099"),
        "percent_discount": None,
        "cost_subtotal": Decimal("1.188"),
        "cost_discount": 0,
        "cost_total": Decimal("1.188"),
        "cost": Decimal("1.188"),
        "currency": "USD",
        "is_surge": False,
    }
    return {name: value for name, value in (row | changes).items() if value is not ...}


async def charges(fal: Fal, bench: Bench, window: Window, *rows: object) -> list[tuple[object, ...]]:
    fal.plays("/v1/serverless/usage", as_json(page(bucket(TEN, *rows))))
    reading = await serverless(bench.client()).read(window, with_api_key=True)
    assert reading.rejected == {}
    return [(*charge.dimensions[2:8], charge.amounts) for charge in reading.charges]


@pytest.mark.parametrize("machine", ["GPU-H100", "gpu_8x_h100_sxm5"])
async def test_a_gpu_machines_quantity_is_gpu_seconds_already(
    fal: Fal, bench: Bench, window: Window, machine: str
) -> None:
    assert await charges(fal, bench, window, machine_row(machine_type=machine)) == [
        (
            "serverless",
            "",
            "my-app",
            "prod",
            "H100",
            "second",
            Amounts(1200 * NANO, 1200 * NANO, 1188000000, 0, 1188000000),
        )
    ]
    assert fal.requests[0].query["expand"] == ["time_series"]


async def test_a_machine_without_gpu_has_no_gpu_seconds(fal: Fal, bench: Bench, window: Window) -> None:
    ((*names, amounts),) = await charges(fal, bench, window, machine_row(machine_type="L"))
    assert names[4] == ""
    assert amounts == Amounts(1200 * NANO, 0, 1188000000, 0, 1188000000)


async def test_two_names_of_one_gpu_are_one_charge(fal: Fal, bench: Bench, window: Window) -> None:
    ((*_, amounts),) = await charges(fal, bench, window, machine_row(), machine_row(machine_type="NVIDIA H100"))
    assert amounts == Amounts(2400 * NANO, 2400 * NANO, 2376000000, 0, 2376000000)


@pytest.mark.parametrize("ordinary", [False, None, ..., "true"])
async def test_what_is_sold_at_surge_prices_is_a_charge_of_its_own(
    fal: Fal, bench: Bench, window: Window, ordinary: object
) -> None:
    rows = [machine_row(is_surge=ordinary), machine_row(is_surge=True, quantity=1)]
    fal.plays("/v1/serverless/usage", as_json(page(bucket(TEN, *rows))))
    reading = await serverless(bench.client()).read(window, with_api_key=True)
    assert {it.dimensions.surge: it.amounts.quantity for it in reading.charges} == {"": 1200 * NANO, SURGE: NANO}


@pytest.mark.parametrize("nothing", [None, ...])
async def test_app_and_environment_may_be_null_or_absent(
    fal: Fal, bench: Bench, window: Window, nothing: object
) -> None:
    ((*names, _),) = await charges(fal, bench, window, machine_row(app=nothing, environment=nothing))
    assert names[2:4] == ["", ""]


async def test_the_regular_price_is_told_rather_than_the_surge(
    fal: Fal, bench: Bench, window: Window, hour: datetime
) -> None:
    rows = [machine_row(is_surge=True, unit_price=5), machine_row(), machine_row(environment="dev")]
    fal.plays("/v1/serverless/usage", as_json(page(bucket(TEN, *rows))))
    reading = await serverless(bench.client()).read(window, with_api_key=False)
    assert reading.prices == (("prod", "serverless", "", "my-app", "H100", "second", hour, 990_000, 0),)
