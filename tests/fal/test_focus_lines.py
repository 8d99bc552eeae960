import pytest

from exporter.charges import SURGE
from exporter.fal.focus.usage import UsageLine, described, unit_of_fal
from exporter.fal.rows import GpuTime


def row(**columns: str) -> UsageLine:
    return UsageLine("Usage", "USD", **columns)  # type: ignore[arg-type]  # prices are not among them


MODELS = {"service_name": "fal Model APIs", "service_category": "AI and Machine Learning"}
OWN_APPS = {"service_name": "fal Serverless", "service_category": "Compute"}
MACHINES = {"service_name": "fal Compute", "service_category": "Compute"}


@pytest.mark.parametrize(
    ("columns", "dimensions", "gpu"),
    [
        (
            {**MODELS, "sku_id": "fal-ai/flux/dev", "consumed_unit": "Images", "sub_account_name": "acme"},
            ("prod", "acme", "model_apis", "fal-ai/flux/dev", "", "", "", "image", "", ""),
            (),
        ),
        (
            {
                **MODELS,
                "charge_description": "fal-ai/veo3 by second",
                "pricing_unit": "Seconds",
                "sub_account_id": "cus_1",
            },
            ("prod", "cus_1", "model_apis", "fal-ai/veo3", "", "", "", "second", "", ""),
            (),
        ),
        (
            {**MODELS, "sku_id": "fal-ai/custom", "x_unit": "GPU-H100", "consumed_unit": "Gpu-H100"},
            ("prod", "", "model_apis", "fal-ai/custom", "", "", "H100", "GPU-H100", "", ""),
            ("H100", 1),
        ),
        (
            {
                **OWN_APPS,
                "sku_id": "GPU-H100",
                "sku_price_details": '{"InstanceType": "GPU-H100", "GpuCount": 2}',
                "charge_description": "type: GPU-H100 (my-app, prod) by second",
                "x_fal_unit": "second",
            },
            ("prod", "", "serverless", "", "my-app", "prod", "H100", "second", "", ""),
            ("H100", 1),
        ),
        (
            {
                **OWN_APPS,
                "sku_id": "L",
                "consumed_unit": "Seconds",
                "resource_name": "my-app",
                "x_environment": "staging",
            },
            ("prod", "", "serverless", "", "my-app", "staging", "", "second", "", ""),
            (),
        ),
        (
            {**OWN_APPS, "sku_id": "GPU-B200", "consumed_unit": "Seconds", "tags": '{"app": "a", "environment": "e"}'},
            ("prod", "", "serverless", "", "a", "e", "B200", "second", "", ""),
            ("B200", 1),
        ),
        (
            {**MACHINES, "charge_description": "type: gpu_8x_h100_sxm5 (my-app, prod)", "consumed_unit": "Seconds"},
            ("prod", "", "compute", "", "my-app", "prod", "H100", "second", "", ""),
            ("H100", 8),
        ),
        (
            {**MACHINES, "sku_id": "gpu_8x_h100_sxm5", "consumed_unit": "Hours"},
            ("prod", "", "compute", "", "", "", "H100", "hour", "", ""),
            ("H100", 8 * 3600),
        ),
        (
            {**MACHINES, "sku_price_details": '{"InstanceType": "H200", "GpuCount": 4}', "consumed_unit": "Minutes"},
            ("prod", "", "compute", "", "", "", "H200", "minute", "", ""),
            ("H200", 240),
        ),
    ],
)
def test_each_dimension_is_found_where_focus_or_fal_has_it(
    columns: dict[str, str], dimensions: tuple[str, ...], gpu: tuple[str, int]
) -> None:
    item = described("prod", row(**columns))
    assert tuple(item.dimensions) == dimensions
    assert item.gpu == GpuTime(*gpu)


@pytest.mark.parametrize(
    ("columns", "product"),
    [
        ({"service_name": "Model endpoints"}, "model_apis"),
        ({"service_name": "Serverless Compute"}, "serverless"),
        ({"service_name": "GPU Compute"}, "compute"),
        ({"service_subcategory": "Virtual Machines", "service_category": "Compute"}, "compute"),
        ({"service_subcategory": "Serverless Compute", "service_category": "Compute"}, "serverless"),
        ({"service_category": "AI and Machine Learning"}, "model_apis"),
        ({"service_category": "Compute", "charge_description": "type: gpu_8x_h100_sxm5 (a)"}, "compute"),
        ({"service_category": "Compute", "charge_description": "type: GPU-H100 (a)"}, "serverless"),
        ({"sku_id": "fal-ai/flux/dev"}, "model_apis"),
        ({"service_name": "fal Storage", "service_category": "Storage"}, ""),
    ],
)
def test_the_product_is_told_by_the_service(columns: dict[str, str], product: str) -> None:
    assert described("prod", row(**columns)).dimensions.product == product


@pytest.mark.parametrize(
    ("unit", "fals"),
    [
        ("Images", "image"),
        ("Megapixels", "megapixel"),
        ("Seconds", "second"),
        ("1000 Characters", "1k_characters"),
        ("1000000 Tokens", "1m_tokens"),
        ("Compute-Seconds", "compute_second"),
        ("image", "image"),
        ("", ""),
    ],
)
def test_units_of_focus_are_told_in_fals_words(unit: str, fals: str) -> None:
    assert unit_of_fal(unit) == fals


@pytest.mark.parametrize("columns", [{"pricing_category": "Dynamic"}, {"x_is_surge": "true"}])
def test_surge_prices_are_told_apart(columns: dict[str, str]) -> None:
    assert described("prod", row(**OWN_APPS, **columns)).dimensions.surge == SURGE
    regular = row(**OWN_APPS, pricing_category="Standard", x_is_surge="false")
    assert described("prod", regular).dimensions.surge == ""


@pytest.mark.parametrize("column", ["tags", "sku_price_details"])
@pytest.mark.parametrize("text", ["not JSON", "[1]", '{"app": 1, "InstanceType": {}, "GpuCount": "many"}', "{"])
def test_details_that_cannot_be_read_leave_the_charge_as_it_is(column: str, text: str) -> None:
    item = described("prod", row(**OWN_APPS, sku_id="GPU-H100", consumed_unit="Seconds", **{column: text}))
    assert (item.dimensions.app, item.dimensions.gpu_class) == ("", "H100")


def test_what_no_label_can_hold_is_replaced() -> None:
    item = described("prod", row(**MODELS, sku_id="fal-ai/\x00flux", sub_account_name="a\nb" * 200))
    assert item.dimensions.model == "fal-ai/\N{REPLACEMENT CHARACTER}flux"
    assert len(item.dimensions.team) == 300
