from datetime import UTC, datetime, timedelta

import pytest
from fal.conftest import Answer, Bench, Fal, refused
from fal.focus_csv import report, usage

from exporter.charges import HOUR, NANO, SURGE, Amounts, Dimensions, RejectedRow, Window
from exporter.fal.aggregation import Detail, Reading
from exporter.fal.errors import FeatureError, NotCsvError, ShapeError, TooLargeError, TruncatedError
from exporter.fal.focus.usage import FocusUsage, UsageLine, described, unit_of_fal
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
            ("prod", "acme", "model_apis", "fal-ai/flux/dev", "", "", "", "image", "", "", ""),
            (),
        ),
        (
            {
                **MODELS,
                "charge_description": "fal-ai/veo3 by second",
                "pricing_unit": "Seconds",
                "sub_account_id": "cus_1",
            },
            ("prod", "cus_1", "model_apis", "fal-ai/veo3", "", "", "", "second", "", "", ""),
            (),
        ),
        (
            {**MODELS, "sku_id": "fal-ai/custom", "x_unit": "GPU-H100", "consumed_unit": "Gpu-H100"},
            ("prod", "", "model_apis", "fal-ai/custom", "", "", "H100", "GPU-H100", "", "", ""),
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
            ("prod", "", "serverless", "", "my-app", "prod", "H100", "second", "", "", ""),
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
            ("prod", "", "serverless", "", "my-app", "staging", "", "second", "", "", ""),
            (),
        ),
        (
            {**OWN_APPS, "sku_id": "GPU-B200", "consumed_unit": "Seconds", "tags": '{"app": "a", "environment": "e"}'},
            ("prod", "", "serverless", "", "a", "e", "B200", "second", "", "", ""),
            ("B200", 1),
        ),
        (
            {**MACHINES, "charge_description": "type: gpu_8x_h100_sxm5 (my-app, prod)", "consumed_unit": "Seconds"},
            ("prod", "", "compute", "", "my-app", "prod", "H100", "second", "", "", ""),
            ("H100", 8),
        ),
        (
            {**MACHINES, "sku_id": "gpu_8x_h100_sxm5", "consumed_unit": "Hours"},
            ("prod", "", "compute", "", "", "", "H100", "hour", "", "", ""),
            ("H100", 8 * 3600),
        ),
        (
            {**MACHINES, "sku_price_details": '{"InstanceType": "H200", "GpuCount": 4}', "consumed_unit": "Minutes"},
            ("prod", "", "compute", "", "", "", "H200", "minute", "", "", ""),
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


PATH = "/v1/account/focus"


async def read(bench: Bench, window: Window) -> Reading:
    return await FocusUsage(bench.client(attempts=1)).read(window, with_api_key=True)


async def test_the_hourly_estimate_of_the_window_is_asked_for_team_by_team(
    fal: Fal, bench: Bench, window: Window
) -> None:
    fal.plays(PATH, report())
    reading = await read(bench, window)
    assert fal.requests[0].query == {
        "source": ["estimate"],
        "start": ["2026-11-21T10:00:00Z"],
        "end": ["2026-11-21T12:00:00Z"],
        "timezone": ["UTC"],
        "timeframe": ["hour"],
        "bound_to_timeframe": ["false"],
        "expand": ["organization"],
    }
    assert (reading.account, reading.source, reading.window) == ("prod", "focus", window)
    assert (reading.charges, reading.prices, reading.rejected) == ((), (), {})


async def test_a_row_becomes_a_charge_with_its_price(fal: Fal, bench: Bench, window: Window, hour: datetime) -> None:
    fal.plays(PATH, report(usage()))
    reading = await read(bench, window)
    (charge,) = reading.charges
    assert charge.hour == hour
    assert charge.dimensions == ("prod", "acme", "model_apis", "fal-ai/flux/dev", "", "", "", "image", "", "", "")
    assert charge.amounts == Amounts(4 * NANO, 0, 400_000_000, 80_000_000, 320_000_000)
    (price,) = reading.prices
    assert price == (*("prod", "model_apis", "fal-ai/flux/dev", "", "", "image"), hour, 100_000_000, 20 * NANO)


async def test_rows_that_split_a_charge_are_summed_and_one_below_zero_takes_back(
    fal: Fal, bench: Bench, window: Window, hour: datetime
) -> None:
    back = usage(BilledCost="-0.1", EffectiveCost="-1E-1", ListCost="-0.1", ConsumedQuantity="-1")
    later = {"ChargePeriodStart": "2026-11-21 11:00:00", "ChargePeriodEnd": "2026-11-21T12:00:00+00:00"}
    fal.plays(PATH, report(usage(), usage(), back, usage(**later)))
    reading = await read(bench, window)
    assert [(charge.hour, charge.amounts.cost, charge.amounts.quantity) for charge in reading.charges] == [
        (hour, 540_000_000, 7 * NANO),
        (hour + timedelta(hours=1), 320_000_000, 4 * NANO),
    ]
    assert reading.rejected == {}


async def test_prepaid_usage_counts_by_its_effective_cost(fal: Fal, bench: Bench, window: Window) -> None:
    without = {name: value for name, value in usage().items() if name not in {"EffectiveCost", "ListCost"}}
    fal.plays(PATH, report(usage(BilledCost="0")))
    assert [charge.amounts.cost for charge in (await read(bench, window)).charges] == [320_000_000]
    fal.plays(PATH, report(without))
    assert [charge.amounts[2:] for charge in (await read(bench, window)).charges] == [(320_000_000, 0, 320_000_000)]


async def test_what_is_no_usage_is_no_charge(fal: Fal, bench: Bench, window: Window) -> None:
    fal.plays(PATH, report(usage(ChargeCategory="Credit", BilledCost="-5"), usage(ChargeCategory="Tax")))
    reading = await read(bench, window)
    assert (reading.charges, reading.rejected) == ((), {})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ChargePeriodStart": "2026-11-21T09:00:00Z"}, "outside_window"),
        ({"ChargePeriodStart": "2026-11-21T12:00:00Z"}, "outside_window"),
        ({"ChargePeriodStart": "2026-11-21T10:30:00Z"}, "bucket"),
        ({"ChargePeriodEnd": "2026-11-21T12:00:00Z"}, "bucket"),
        ({"BillingCurrency": "EUR"}, "currency"),
        ({"EffectiveCost": "1E15"}, "out_of_range"),
        ({"EffectiveCost": "-1", "BilledCost": "-1"}, "negative"),
        ({"BilledCost": "twelve"}, "unreadable"),
        ({"BilledCost": ""}, "unreadable"),
        ({"ChargePeriodStart": "yesterday"}, "unreadable"),
    ],
)
async def test_rows_that_cannot_be_charges_are_left_out_and_counted(
    fal: Fal, bench: Bench, window: Window, changes: dict[str, str], reason: str
) -> None:
    fal.plays(PATH, report(usage(SkuId="good"), usage(SkuId="bad", **changes)))
    reading = await read(bench, window)
    assert [charge.dimensions.model for charge in reading.charges] == ["good"]
    assert reading.rejected == {reason: 1}


BAD = Dimensions("prod", team="acme", product="model_apis", model="bad", unit="image")


@pytest.mark.parametrize(
    ("changes", "hour_is_known", "cost"),
    [
        ({"ChargePeriodStart": "2026-11-21T10:30:00Z"}, False, 320_000_000),
        ({"ChargePeriodStart": "yesterday"}, False, 320_000_000),
        ({"BillingCurrency": "EUR"}, True, 0),
        ({"EffectiveCost": "-1", "BilledCost": "-1"}, True, NANO),
        ({"EffectiveCost": "0,32"}, True, 320_000_000),
        ({"EffectiveCost": "0,32", "BilledCost": ""}, True, 0),
        ({"ListCost": "a lot"}, True, 320_000_000),
    ],
)
async def test_of_a_rejected_row_all_that_can_be_read_is_kept(
    fal: Fal, bench: Bench, changes: dict[str, str], *, hour_is_known: bool, cost: int
) -> None:
    window = Window(datetime(2026, 11, 21, 10, tzinfo=UTC), datetime(2026, 11, 21, 12, tzinfo=UTC))
    fal.plays(PATH, report(usage(SkuId="bad", **changes), usage(ChargeCategory="Tax", BilledCost="a lot")))
    reading = await read(bench, window)
    (rejected,) = reading.rejected_rows
    assert (rejected.hour, rejected.dimensions) == (window.start if hour_is_known else None, BAD)
    assert (rejected.cost, rejected.is_counted) == (cost, False)


async def test_of_a_line_that_is_no_row_nothing_is_known(fal: Fal, bench: Bench, window: Window) -> None:
    answer = report(usage(), usage())
    first, second, third = answer.body.splitlines(keepends=True)
    fal.plays(PATH, Answer(first + second.replace(b",", b",,", 1) + third))
    reading = await read(bench, window)
    assert (len(reading.charges), reading.rejected_rows) == (1, (RejectedRow("unreadable"),))


async def test_a_row_keeps_its_cost_though_its_quantity_cannot_be_read(
    fal: Fal, bench: Bench, window: Window, hour: datetime
) -> None:
    fal.plays(PATH, report(usage(SkuId="bad", ConsumedQuantity="four", PricingQuantity="four")))
    reading = await read(bench, window)
    assert reading.charges[0] == (hour, BAD, Amounts(0, 0, 400_000_000, 80_000_000, 320_000_000))
    assert reading.rejected_rows == (RejectedRow("quantity", hour, BAD, 0, is_counted=True),)


async def test_dollars_are_dollars_in_whatever_case(fal: Fal, bench: Bench, window: Window) -> None:
    fal.plays(PATH, report(usage(BillingCurrency="usd")))
    reading = await read(bench, window)
    assert (len(reading.charges), reading.rejected_rows) == (1, ())


async def test_an_hour_is_right_to_the_nano_dollar_however_fine_its_rows_are(
    fal: Fal, bench: Bench, window: Window
) -> None:
    fine = {"EffectiveCost": "0.0000000004", "ListCost": "4E-10", "BilledCost": "4E-10"}
    rows = [usage(SkuId=f"model {number % 7}", **fine) for number in range(500)]
    later = {"ChargePeriodStart": "2026-11-21T11:00:00Z", "ChargePeriodEnd": "2026-11-21T12:00:00Z"}
    fal.plays(PATH, report(*rows, *(row | later for row in rows[:5])))
    reading = await read(bench, window)
    costs = [sum(charge.amounts.cost for charge in reading.charges if charge.hour == hour) for hour in window.hours()]
    assert costs == [200, 2]
    assert window.start + HOUR in window


async def test_the_sum_of_two_large_rows_is_checked(fal: Fal, bench: Bench, window: Window) -> None:
    fal.plays(PATH, report(usage(EffectiveCost="9E9"), usage(EffectiveCost="9E9")))
    reading = await read(bench, window)
    assert (reading.charges, reading.rejected) == ((), {"out_of_range": 1})


async def test_a_key_that_may_not_see_teams_reads_the_account_alone_and_from_then_on(
    fal: Fal, bench: Bench, window: Window
) -> None:
    refusal = refused(403, "authorization_error", "expand=organization needs the root team.")
    fal.plays(PATH, refusal, refusal, report(usage(SubAccountName="")))
    source = FocusUsage(bench.client(attempts=1))
    for _ in range(2):
        reading = await source.read(window, with_api_key=False)
        assert [charge.dimensions.team for charge in reading.charges] == [""]
    assert [request.query.get("expand") for request in fal.requests] == [*[["organization"]] * 2, None, None]
    assert source.detail is Detail.REDUCED


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(403, "authorization_error", "FOCUS reports are not enabled for this account."), FeatureError),
        (Answer(b"a,b\n1,2\n"), NotCsvError),
        (Answer(b"ContractCommitmentId,ContractId\n"), NotCsvError),
        (Answer(b"BilledCost,BillingCurrency\n1,USD\n"), ShapeError),
        (Answer(report(usage(), usage()).body[:-30]), TruncatedError),
    ],
)
async def test_a_report_that_is_none_is_a_failure_and_no_empty_reading(
    fal: Fal, bench: Bench, window: Window, answer: Answer, kind: type[Exception]
) -> None:
    fal.plays(PATH, answer)
    with pytest.raises(kind) as caught:
        await read(bench, window)
    assert "GET /account/focus of account 'prod' failed" in str(caught.value)


async def test_a_report_of_more_rows_than_its_hours_may_have_is_refused(fal: Fal, bench: Bench, window: Window) -> None:
    fal.plays("/v1/account/focus", report(*(usage() for _ in range(9))))
    assert len((await FocusUsage(bench.client(rows_per_hour=5)).read(window, with_api_key=True)).charges) == 1
    for client in (bench.client(rows_per_hour=4), bench.client(rows=8)):
        with pytest.raises(TooLargeError, match=r"more than 8 rows.*shorter window"):
            await FocusUsage(client).read(window, with_api_key=True)
