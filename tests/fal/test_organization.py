import pytest

from exporter.charges import NANO, Amounts, Window
from exporter.fal.platform_usage import describe_team_row, organization
from tests.fal.conftest import Bench, Fal, as_json, bucket, page


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
