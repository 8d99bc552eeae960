from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from fal.conftest import Bench, Fal, as_json, bucket, model_row, page, refused
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import NANO, SURGE, Amounts, Dimensions, RejectedRow, Window
from exporter.fal.aggregation import Tally, rounded
from exporter.fal.answers import decoded
from exporter.fal.errors import ServerError, ShapeError
from exporter.fal.platform_usage import (
    COMPUTE,
    MODELS,
    ORGANIZATION,
    SERVERLESS,
    Interface,
    Rows,
    amounts_of,
    caller,
    compute,
    describe_model,
    describe_team_row,
    models,
    organization,
    organization_totals,
    serverless,
)
from exporter.fal.rows import IN_PART, REJECTIONS, Rejections

PATH = "/v1/models/usage"
TEN = "2026-11-21T10:00:00Z"
WINDOW = Window(datetime.fromisoformat(TEN), datetime.fromisoformat(TEN) + timedelta(hours=2))


async def test_whole_hours_in_utc_are_asked_for_and_not_one_more(fal: Fal, bench: Bench, window: Window) -> None:
    fal.plays(PATH, as_json(page()))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert fal.requests[0].query == {
        "start": ["2026-11-21T10:00:00Z"],
        "end": ["2026-11-21T12:00:00Z"],
        "timezone": ["UTC"],
        "timeframe": ["hour"],
        "bound_to_timeframe": ["false"],
        "expand": ["time_series"],
        "limit": ["1000"],
    }
    assert (reading.account, reading.source, reading.window) == ("prod", "models", window)
    assert (reading.charges, reading.prices, reading.rejected) == ((), (), {})


async def test_charges_come_out_exact_with_their_price(fal: Fal, bench: Bench, window: Window, hour: datetime) -> None:
    fal.plays(PATH, as_json(page(bucket(TEN, model_row()))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    (charge,) = reading.charges
    assert charge.hour == hour
    assert charge.dimensions == ("prod", "", "model_apis", "fal-ai/flux/dev", "", "", "", "image", "", "", "")
    assert charge.amounts == Amounts(4 * NANO, 0, 400_000_000, 80_000_000, 320_000_000)
    (price,) = reading.prices
    assert price == (*("prod", "model_apis", "fal-ai/flux/dev", "", "", "image"), hour, 100_000_000, 20 * NANO)


async def test_rows_that_split_a_charge_are_summed_over_buckets_and_pages(
    fal: Fal, bench: Bench, window: Window, hour: datetime
) -> None:
    dear = model_row(unit_price=Decimal("0.2"), percent_discount=None, cost_subtotal=1, cost_total=1, cost=1)
    first = as_json(page(bucket(TEN, model_row(), dear), cursor="c1"))
    fal.plays(PATH, first, first, as_json(page(bucket(TEN, model_row()), bucket("2026-11-21T11:00:00Z", dear))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert [(charge.hour, charge.amounts) for charge in reading.charges] == [
        (hour, Amounts(12 * NANO, 0, 1_800_000_000, 160_000_000, 1_640_000_000)),
        (hour + timedelta(hours=1), Amounts(4 * NANO, 0, NANO, 0, NANO)),
    ]


async def test_bucket_stamps_are_converted_from_their_offset(
    fal: Fal, bench: Bench, window: Window, hour: datetime
) -> None:
    fal.plays(PATH, as_json(page(bucket("2026-11-21T05:00:00-05:00", model_row()))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert [charge.hour for charge in reading.charges] == [hour]


@pytest.mark.parametrize(
    ("stamp", "reason"),
    [
        ("2026-11-21T09:00:00Z", "outside_window"),
        ("2026-11-21T12:00:00Z", "outside_window"),
        ("2026-11-21T10:30:00Z", "bucket"),
        ("2026-11-21T10:00:00+00:30", "bucket"),
        ("2026-11-21", "bucket"),
        ("today", "bucket"),
        (None, "bucket"),
        (17, "bucket"),
    ],
)
async def test_rows_of_another_time_are_rejected_not_counted_twice(
    fal: Fal, bench: Bench, window: Window, stamp: object, reason: str
) -> None:
    fal.plays(PATH, as_json(page({"bucket": stamp, "results": [model_row(), model_row()]}, bucket(TEN, model_row()))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert len(reading.charges) == 1
    assert reading.rejected == {reason: 2}


@pytest.mark.parametrize("entry", [None, [], "x", {"bucket": TEN}, {"bucket": TEN, "results": {}}])
async def test_what_is_no_bucket_is_an_error(fal: Fal, bench: Bench, window: Window, entry: object) -> None:
    fal.plays(PATH, as_json(page(bucket(TEN, model_row()), entry)))
    with pytest.raises(ShapeError):
        await models(bench.client()).read(window, with_api_key=False)


async def test_a_failure_on_a_later_page_leaves_no_half_reading(fal: Fal, bench: Bench, window: Window) -> None:
    fal.plays(PATH, as_json(page(bucket(TEN, model_row()), cursor="c1")), refused(500))
    with pytest.raises(ServerError):
        await models(bench.client(attempts=2)).read(window, with_api_key=False)


REJECTED = [
    ("a row", "not_an_object"),
    (None, "not_an_object"),
    (model_row(endpoint_id=...), "missing_field"),
    (model_row(endpoint_id=5), "wrong_type"),
    (model_row(endpoint_id=["a"]), "wrong_type"),
    (model_row(cost_total=..., cost=...), "missing_field"),
    (model_row(cost_total=10**12), "out_of_range"),
    (model_row(cost_total=Decimal("-0.01")), "negative"),
    (model_row(cost_total={}), "wrong_type"),
    (model_row(cost_subtotal="0,4"), "wrong_type"),
    (model_row(currency="EUR"), "currency"),
    (model_row(currency=...), "missing_field"),
]


@pytest.mark.parametrize(("row", "reason"), REJECTED)
async def test_a_malformed_row_is_rejected_alone_and_counted(
    fal: Fal, bench: Bench, window: Window, row: object, reason: str
) -> None:
    fal.plays(PATH, as_json(page(bucket(TEN, row, model_row(), row))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert len(reading.charges) == 1
    assert reading.charges[0].amounts.cost == 320_000_000
    assert reading.rejected == {reason: 2}
    assert reason in REJECTIONS
    assert (reading.rows, len(reading.rejected_rows)) == (1, 2)
    assert {(item.reason, item.hour, item.is_counted) for item in reading.rejected_rows} == {
        (reason, WINDOW.start, False)
    }


ODD_VALUES: list[object] = [..., None, "four", True, -1, 10**12, [], {}]
FLUX = Dimensions("prod", product="model_apis", model="fal-ai/flux/dev", unit="image")


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (model_row(cost_total="a lot", cost=None), (FLUX, 0)),
        (model_row(cost_total="a lot"), (FLUX, 320_000_000)),
        (model_row(cost_total=Decimal("-0.01")), (FLUX, 10_000_000)),
        (model_row(currency="EUR"), (FLUX, 0)),
        (model_row(endpoint_id=None), (None, 320_000_000)),
        (model_row(cost_total=-2, unit=None), (None, 2 * NANO)),
        ([], (None, 0)),
    ],
)
async def test_of_a_rejected_row_all_that_can_be_read_is_kept(
    fal: Fal, bench: Bench, window: Window, row: object, kept: tuple[Dimensions | None, int]
) -> None:
    fal.plays(PATH, as_json(page(bucket(TEN, row))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    (rejected,) = reading.rejected_rows
    assert (rejected.hour, rejected.dimensions, rejected.cost) == (WINDOW.start, *kept)


async def test_rows_of_an_hour_that_cannot_be_read_may_be_of_any(fal: Fal, bench: Bench, window: Window) -> None:
    fal.plays(PATH, as_json(page(bucket("ten", model_row()), bucket("2026-11-21T09:00:00Z", model_row()))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert reading.rejected_rows == (RejectedRow("bucket", None, FLUX, 320_000_000),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *[({"quantity": value}, "quantity") for value in ODD_VALUES],
        *[({"unit": value}, "unit") for value in ODD_VALUES if value != "four"],
    ],
)
async def test_a_row_keeps_its_cost_though_its_quantity_or_unit_cannot_be_read(
    fal: Fal, bench: Bench, window: Window, changes: dict[str, object], reason: str
) -> None:
    fal.plays(PATH, as_json(page(bucket(TEN, model_row(**changes)))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    (charge,) = reading.charges
    assert charge.dimensions == FLUX._replace(unit="" if reason == "unit" else "image")
    assert charge.amounts == Amounts(0, 0, 400_000_000, 80_000_000, 320_000_000)
    assert (reading.rejected, reading.rows, reading.prices) == ({reason: 1}, 1, ())
    kept = FLUX if reason == "quantity" else None
    assert reading.rejected_rows == (RejectedRow(reason, WINDOW.start, kept, 0, is_counted=True),)


@pytest.mark.parametrize("changes", [{"currency": "usd"}, {"cost_total": "0.32", "quantity": "4"}])
async def test_what_can_only_mean_one_thing_is_read(
    fal: Fal, bench: Bench, window: Window, changes: dict[str, object]
) -> None:
    fal.plays(PATH, as_json(page(bucket(TEN, model_row(**changes)))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert reading.charges[0].amounts == Amounts(4 * NANO, 0, 400_000_000, 80_000_000, 320_000_000)
    assert (reading.rejected, reading.rejected_rows) == ({}, ())


def test_every_reason_of_a_rejection_has_been_seen_above() -> None:
    assert {reason for _, reason in REJECTED} | {"bucket", "outside_window", "unreadable", *IN_PART} == set(REJECTIONS)


async def test_a_sum_too_large_for_a_ledger_is_rejected(fal: Fal, bench: Bench, window: Window) -> None:
    huge = model_row(quantity=9 * 10**9)
    fal.plays(PATH, as_json(page(bucket(TEN, huge, huge))))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert reading.rejected == {"out_of_range": 1}
    assert reading.charges[0].amounts.quantity == 9 * 10**18


async def test_one_sample_a_reason_is_logged_for_all_readings(
    fal: Fal, bench: Bench, window: Window, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = model_row(cost_total="four")
    fal.plays(PATH, as_json(page(bucket(TEN, bad, bad, model_row(currency="EUR")))))
    source = models(bench.client())
    await source.read(window, with_api_key=False)
    await source.read(window, with_api_key=False)
    logged = [line for line in capsys.readouterr().out.splitlines() if "row_rejected" in line]
    assert len(logged) == 2
    assert "four" in logged[0]


async def test_unknown_fields_are_accepted(fal: Fal, bench: Bench, window: Window) -> None:
    fal.plays(PATH, as_json({**page({**bucket(TEN, model_row(novelty=[1])), "n": 1}), "summary": []}))
    reading = await models(bench.client()).read(window, with_api_key=False)
    assert (len(reading.charges), reading.rejected) == (1, {})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cost_total": ..., "cost_subtotal": ..., "cost_discount": ...}, (320_000_000, 0, 320_000_000)),
        ({"cost_total": None, "cost_subtotal": None, "cost_discount": None}, (320_000_000, 0, 320_000_000)),
        ({"cost": Decimal(99)}, (400_000_000, 80_000_000, 320_000_000)),
        ({"cost_total": ...}, (400_000_000, 80_000_000, 320_000_000)),
        ({"cost_subtotal": ...}, (400_000_000, 80_000_000, 320_000_000)),
        ({"cost_discount": ...}, (400_000_000, 80_000_000, 320_000_000)),
        ({"cost_subtotal": Decimal("0.3")}, (320_000_000, 0, 320_000_000)),
        ({"cost_total": Decimal("0.0000000005"), "cost_subtotal": 0}, (0, 0, 0)),
        ({"cost_total": Decimal("0.0000000015"), "cost_subtotal": 0}, (2, 0, 2)),
    ],
)
def test_the_charge_is_the_total_and_the_discount_what_is_missing_to_the_list_cost(
    changes: dict[str, object], expected: tuple[int, int, int]
) -> None:
    amounts = amounts_of(model_row(**changes), 0, 0)
    assert next(rounded({FLUX: amounts}))[1][2:] == expected


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"auth_method_structured": {"detail": "d", "api_key_id": "k1", "login_username": "u"}}, ("k1", "u")),
        ({"auth_method_structured": {"detail": "d", "api_key_id": "k1", "login_username": None}}, ("k1", "")),
        ({"auth_method_structured": {"detail": "d", "login_username": "u"}}, ("", "u")),
        ({"auth_method_structured": {"detail": "d"}, "auth_method": "m"}, ("d", "")),
        ({"auth_method": "Production Key"}, ("Production Key", "")),
        ({"auth_method_structured": [], "auth_method": 5}, ("", "")),
        ({}, ("", "")),
    ],
)
async def test_charges_by_key_are_asked_for_only_when_wanted(
    fal: Fal, bench: Bench, window: Window, fields: dict[str, object], named: tuple[str, str]
) -> None:
    assert caller(fields) == named
    fal.plays(PATH, as_json(page(bucket(TEN, model_row(**fields), model_row(**fields), model_row()))))
    source = models(bench.client())
    by_key = await source.read(window, with_api_key=True)
    assert fal.requests[-1].query["expand"] == ["time_series", "auth_method_structured"]
    assert {charge.dimensions[-3:-1] for charge in by_key.charges} == {named, ("", "")}
    together = await source.read(window, with_api_key=False)
    assert fal.requests[-1].query["expand"] == ["time_series"]
    assert [charge.dimensions.api_key for charge in together.charges] == [""]
    assert together.charges[0].amounts.cost == sum(charge.amounts.cost for charge in by_key.charges)


JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.decimals(allow_nan=False),
    st.text(max_size=3),
    st.sampled_from(["USD", [], {}, [{}], {"api_key_id": []}, {"detail": "d"}]),
)
NAMES = sorted({*model_row(), *SERVERLESS.names, *ORGANIZATION.names, "is_surge", "auth_method_structured"})
GOOD = model_row(machine_type="GPU-H100", username="acme", product="compute")
ROWS = st.dictionaries(st.sampled_from(NAMES), JSON_VALUES, max_size=3).map(lambda changes: GOOD | changes)


def tally() -> Tally:
    return Tally("prod", "models", WINDOW, Rejections("prod", lambda text: text))


@pytest.mark.parametrize(
    "interface", [MODELS, SERVERLESS, ORGANIZATION, COMPUTE], ids=lambda interface: interface.source
)
@given(st.lists(ROWS | JSON_VALUES, max_size=4), JSON_VALUES, st.booleans())
def test_any_row_is_a_charge_or_a_counted_rejection(
    interface: Interface,
    rows: list[object],
    stamp: object,
    by_key: bool,  # noqa: FBT001  drawn by hypothesis
) -> None:
    sums = tally()
    reader = Rows(interface, "prod", sums, by_key=by_key)
    reader.take(TEN, rows)
    reader.take(stamp, rows)
    reading = sums.reading(reader.prices())
    assert set(reading.rejected) <= set(REJECTIONS)
    rejected = sum(count for reason, count in reading.rejected.items() if reason not in IN_PART)
    assert reading.rows == 2 * len(rows) - rejected
    assert len(reading.charges) <= 2 * len(rows) - rejected
    assert bool(reading.charges) == (rejected < 2 * len(rows))


MONEY = st.decimals(min_value=0, max_value=10**6, places=12)


@given(st.lists(st.tuples(MONEY, MONEY, MONEY), max_size=20))
def test_amounts_equal_fractions_to_the_nano_dollar_from_the_text_of_the_json(
    rows: list[tuple[Decimal, Decimal, Decimal]],
) -> None:
    texts = [
        f'{{"endpoint_id":"m","unit":"image","currency":"USD","quantity":{quantity:f},'
        f'"cost_subtotal":{cost + off:f},"cost_total":{cost:f}}}'
        for quantity, cost, off in rows
    ]
    parsed = decoded(f"[{','.join(texts)}]".encode())
    assert isinstance(parsed, list)
    sums = tally()
    Rows(MODELS, "prod", sums, by_key=False).take(TEN, parsed)
    totals = [charge.amounts for charge in sums.reading().charges]
    exact = [sum(map(Fraction, column)) * NANO for column in zip(*rows, strict=True)] or [0, 0, 0]
    assert sum(amounts.quantity for amounts in totals) == round(exact[0])
    assert sum(amounts.cost for amounts in totals) == round(exact[1])
    assert sum(amounts.list_cost for amounts in totals) == round(exact[1] + exact[2])
    assert all(amounts.cost == amounts.list_cost - amounts.discount for amounts in totals)


@pytest.mark.parametrize(
    ("unit", "gpu_class", "seconds"), [("image", "", 0), ("GPU-H100", "H100", 1), ("compute_second", "", 0)]
)
def test_a_models_unit_gives_its_gpu(unit: str, gpu_class: str, seconds: int) -> None:
    item = describe_model("prod", ["fal-ai/flux/dev", unit])
    assert item.dimensions == ("prod", "", "model_apis", "fal-ai/flux/dev", "", "", gpu_class, unit, "", "", "")
    assert item.gpu.seconds == seconds


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
    assert {charge.dimensions.surge: charge.amounts.quantity for charge in reading.charges} == {
        "": 1200 * NANO,
        SURGE: NANO,
    }


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
    assert item.dimensions == ("prod", "acme", product, model, app, environment, gpu_class, unit, "", "", "")
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
    assert machine.dimensions == ("prod", "", "compute", "", "my-app", "prod", "H100", "second", "", "", "")
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
