import pytest
from fal.conftest import Bench, Fal, as_json, bucket, page

from exporter.charges import NANO, Amounts, Window
from exporter.fal.platform_usage import compute, describe_team_row, organization, organization_totals


@pytest.mark.parametrize(
    ("product", "endpoint", "unit", "names", "gpu_seconds"),
    [
        ("model_apis", "fal-ai/flux/dev", "image", ("fal-ai/flux/dev", "", "", ""), 0),
        ("model_apis", "fal-ai/x", "GPU-A100", ("fal-ai/x", "", "", "A100"), 1),
        ("serverless", "my-app", "second", ("", "my-app", "", ""), 0),
        ("serverless", "type: GPU-H100 (my-app, prod)", "second", ("", "my-app", "prod", "H100"), 1),
        ("serverless", "type: gpu_8x_h100_sxm5 (my-app)", "second", ("", "my-app", "", "H100"), 1),
        ("serverless", "type: L (my-app)", "second", ("", "my-app", "", ""), 0),
        ("compute", "type: gpu_8x_h100_sxm5 (my-app, prod)", "second", ("", "my-app", "prod", "H100"), 8),
        ("compute", "type: gpu_8x_h100_sxm5", "hour", ("", "", "", "H100"), 8 * 3600),
        ("compute", "something else", "second", ("something else", "", "", ""), 0),
        ("novelty", "fal-ai/y", "image", ("fal-ai/y", "", "", ""), 0),
    ],
)
def test_what_a_row_is_for_follows_from_product_and_line(
    product: str, endpoint: str, unit: str, names: tuple[str, ...], gpu_seconds: int
) -> None:
    item = describe_team_row("prod", ["acme", product, endpoint, unit])
    model, app, environment, gpu_class = names
    assert item.dimensions == ("prod", "acme", product, model, app, environment, gpu_class, unit, "", "")
    assert item.gpu.seconds == gpu_seconds


async def test_a_compute_lines_seconds_count_every_gpu(fal: Fal, bench: Bench, window: Window) -> None:
    row = {
        "username": "acme",
        "product": "compute",
        "endpoint_id": "type: gpu_8x_h100_sxm5 (my-app, prod)",
        "unit": "second",
        "quantity": 60,
        "unit_price": 1,
        "cost": 60,
        "currency": "USD",
    }
    fal.plays("/v1/organization/usage", as_json(page(bucket("2026-11-21T10:00:00Z", row))))
    reading = await organization(bench.client()).read(window, with_api_key=True)
    assert reading.charges[0].amounts == Amounts(60 * NANO, 480 * NANO, 60 * NANO, 0, 60 * NANO)
    assert reading.prices == (), "a price that may be after discount is none before it"
    assert fal.requests[0].query["expand"] == ["time_series", "auth_method_structured"]


def team_row(product: object, cost: object, **changes: object) -> dict[str, object]:
    endpoint = "type: gpu_8x_h100_sxm5 (my-app, prod)"
    row = {"username": "acme", "product": product, "endpoint_id": endpoint, "unit": "second"}
    return row | {"quantity": 60, "unit_price": 1, "cost": cost, "currency": "USD"} | changes


async def test_compute_takes_the_products_that_no_other_source_reports(fal: Fal, bench: Bench, window: Window) -> None:
    rows = [team_row(product, cost) for product, cost in (("model_apis", 1), ("serverless", 2), ("compute", 4))]
    rows += [
        team_row("novelty", 8, endpoint_id="fal-ai/y", unit="image"),
        team_row("models", "broken"),  # of an unknown product, so that it may be this source's
        team_row("serverless", "broken"),  # another source's
    ]
    late = bucket("2026-11-21T09:00:00Z", team_row("model_apis", 1), team_row("compute", 1))
    fal.plays("/v1/organization/usage", as_json(page(bucket("2026-11-21T10:00:00Z", *rows), late)))
    reading = await compute(bench.client()).read(window, with_api_key=False)
    costs = {charge.dimensions.product: charge.amounts.cost // NANO for charge in reading.charges}
    assert costs == {"compute": 4, "novelty": 8}
    machine = reading.charges[0]
    assert machine.dimensions == ("prod", "", "compute", "", "my-app", "prod", "H100", "second", "", "")
    assert machine.amounts.gpu_seconds == 480 * NANO
    assert reading.rejected == {"wrong_type": 1, "outside_window": 1}
    assert reading.prices == ()


async def test_totals_are_those_of_the_readable_rows(fal: Fal, bench: Bench, window: Window) -> None:
    rows = [
        team_row("compute", 4),
        team_row("compute", 5, username="other"),
        team_row("serverless", 2),
        team_row([], 1),
    ]
    fal.plays("/v1/organization/usage", as_json(page(bucket("2026-11-01T00:00:00Z", *rows, team_row("models", "x")))))
    client = bench.client()
    totals = await organization_totals(client, window, client.deadline())
    assert totals.by_product == {"compute": 9 * NANO, "serverless": 2 * NANO}
    assert (totals.teams, totals.rejected) == ({"acme", "other"}, 2)
    asked = fal.requests[0].query
    assert (asked["start"], asked["end"]) == (["2026-11-21T10:00:00Z"], ["2026-11-21T12:00:00Z"])
    assert (asked["timeframe"], asked["bound_to_timeframe"]) == (["month"], ["false"])
