import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest
from focus.official import every_kind
from focus.test_checks import check, found
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.charges import HOUR, NANO, SURGE, Amounts, Charge, Dimensions, Window, decimal_of
from exporter.focus.charge import FocusCharge, Granularity, Price, PriceHistory, focus_charges
from exporter.focus.columns import columns_of
from exporter.focus.reader import Reader
from exporter.focus.writer import CUSTOM_COLUMNS, Written, decimal_text, harmless, layout, metadata, write

START = datetime(2026, 10, 31, 22, tzinfo=UTC)
FLUX = Dimensions("main", "red", "model_apis", "fal-ai/flux/dev", unit="image", api_key="key-1")
APP = Dimensions("main", "", "serverless", "", "shop, é", "prod", "H100", "second")
DISCOUNTED = Price(25_000_000, 10 * NANO)


def charge(dimensions: Dimensions, amounts: Amounts, price: Price | None = None) -> FocusCharge:
    return FocusCharge(START, START + HOUR, dimensions, amounts, price)


FLUX_CHARGE = charge(FLUX, Amounts(4 * NANO, 0, 100_000_000, 10_000_000, 90_000_000), DISCOUNTED)
APP_CHARGE = charge(APP, Amounts(3 * NANO, 3 * NANO, 1_000_000_000, 0, 1_000_000_000))


def written(charges: list[FocusCharge], version: str = "1.2", *, omit: bool = False) -> tuple[bytes, Written]:
    file = io.BytesIO()
    result = write(charges, file, version=version, omit_empty_columns=omit)
    return file.getvalue(), result


def parsed(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_a_file_for_a_spreadsheet_has_no_field_that_it_would_run() -> None:
    evil = Dimensions("=cmd|'/C calc'!A0", "@team", "model_apis", "+1+2", unit="-image", api_key="\tkey")
    file = io.BytesIO()
    write([charge(evil, FLUX_CHARGE.amounts, DISCOUNTED), FLUX_CHARGE], file, for_spreadsheet=True)
    for row in csv.reader(io.StringIO(file.getvalue().decode(), newline="")):
        for field in row:
            assert field[:1] not in {"=", "@", "\t", "\r"}
            assert field[:1] not in {"+", "-"} or Decimal(field) is not None
    first, second = parsed(file.getvalue())
    assert first["BillingAccountId"] == "'=cmd|'/C calc'!A0"
    assert first["SkuId"] == "'+1+2"
    assert parsed(written([charge(evil, FLUX_CHARGE.amounts, DISCOUNTED), FLUX_CHARGE])[0])[0]["SkuId"] == "+1+2"
    assert second == parsed(written([FLUX_CHARGE])[0])[0]
    assert [harmless(text) for text in ("-1.5", "+2", "-x", "", "a=b")] == ["-1.5", "+2", "'-x", "", "a=b"]
    for text in ("\n=1", "\t-1", "\uff1d1", "\uff0d1", "\uff20x", "-inf", "+nan"):
        assert harmless(text) == f"'{text}"


class Back(NamedTuple):
    """Fields that identify a charge."""

    charge_period_start: datetime
    charge_period_end: datetime
    billing_account_id: str
    sub_account_id: str | None
    x_fal_product: str | None
    sku_id: str | None
    tags: str | None
    x_gpu_class: str | None
    x_fal_unit: str | None
    consumed_quantity: Decimal | None
    x_gpu_seconds: Decimal | None
    list_cost: Decimal
    billed_cost: Decimal
    x_fal_unit_price: Decimal | None
    x_fal_discount_percent: Decimal | None
    pricing_category: str | None


def nano_of(value: Decimal | None) -> int:
    scaled = (value or Decimal(0)) * NANO
    assert scaled == int(scaled)
    return int(scaled)


def told(row: Back) -> FocusCharge:
    tags = json.loads(row.tags or "{}")
    product = row.x_fal_product or ""
    is_model = product == "model_apis"
    dimensions = Dimensions(
        row.billing_account_id,
        row.sub_account_id or "",
        product,
        (row.sku_id or "") if is_model else "",
        tags.get("app", ""),
        tags.get("environment", ""),
        row.x_gpu_class or "",
        row.x_fal_unit or "",
        tags.get("api_key", ""),
        tags.get("member", ""),
        SURGE if row.pricing_category == "Dynamic" else "",
    )
    listed, billed = nano_of(row.list_cost), nano_of(row.billed_cost)
    price = None
    if row.x_fal_unit_price is not None:
        price = Price(nano_of(row.x_fal_unit_price), nano_of(row.x_fal_discount_percent))
    amounts = Amounts(nano_of(row.consumed_quantity), nano_of(row.x_gpu_seconds), listed, listed - billed, billed)
    return FocusCharge(row.charge_period_start, row.charge_period_end, dimensions, amounts, price)


def read_back(data: bytes) -> list[FocusCharge]:
    reader = Reader(Back)
    rows = reader.feed(data) + reader.finish()
    assert reader.problems.first == []
    return [told(row) for row in rows]


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8).filter(
    lambda text: text.strip() and text.lower() not in {"null", "none", "nil", "nan", "n/a", "na", "-", "undefined"}
)
optional = st.just("") | words
amount = st.integers(0, 10**15) | st.integers(1, 10**4)


@st.composite
def charges(draw: st.DrawFn) -> FocusCharge:
    product = draw(st.sampled_from(["model_apis", "serverless", "compute"]))
    is_model = product == "model_apis"
    dimensions = Dimensions(
        draw(words),
        draw(optional),
        product,
        draw(words) if is_model else "",
        draw(optional),
        draw(optional),
        draw(st.sampled_from(["", "H100", "B200"])),
        draw(
            st.sampled_from(["image", "second", "1k_characters", "compute_second", "megapixel", "new thing", "3d-mesh"])
        ),
        draw(optional),
        draw(optional),
        draw(st.sampled_from(["", SURGE])),
    )
    quantity = draw(st.integers(1, 10**12))
    cost = draw(amount)
    discount = draw(amount)
    gpu = draw(amount) if dimensions.gpu_class else 0
    price = draw(st.none() | st.builds(Price, amount, st.integers(0, 100 * NANO)))
    hour = START + draw(st.integers(0, 100)) * HOUR
    return FocusCharge(hour, hour + HOUR, dimensions, Amounts(quantity, gpu, cost + discount, discount, cost), price)


@given(st.lists(charges(), max_size=6))
@settings(max_examples=examples(30, long=300), deadline=None)
def test_what_is_written_is_read_back_equal_and_passes_the_check(stated: list[FocusCharge]) -> None:
    data, result = written(stated)
    assert read_back(data) == stated
    assert result.billed_cost == sum(item.amounts.cost for item in stated)
    assert sum(Decimal(row["BilledCost"]) for row in parsed(data)) == decimal_of(result.billed_cost)
    # A model whose unit changes has an SKU with two meters, which should not be.
    assert found(data, "1.2") <= {"SkuMeter-C-006-O" if stated else "X-NoRows"}


@pytest.mark.parametrize("version", ["1.2", "1.3", "1.4"])
def test_every_version_is_clean_by_our_own_check(version: str) -> None:
    data, _ = written([FLUX_CHARGE, APP_CHARGE], version)
    report = check(data)
    assert (report.version, report.findings.kept) == (version, [])


@pytest.mark.parametrize("granularity", Granularity, ids=lambda item: item.value)
def test_charges_of_every_kind_are_clean_and_add_up_at_every_granularity(granularity: Granularity) -> None:
    data, result = written(list(every_kind(granularity)), "1.4" if granularity is Granularity.MONTH else "1.2")
    assert found(data) == set()
    assert result.billed_cost == sum(item.amounts.cost for item in every_kind(Granularity.HOUR))
    for row in parsed(data):
        sold_at_surge = row["PricingCategory"] == "Dynamic"
        assert row["SkuPriceId"].endswith("/surge") == sold_at_surge
        assert row["ChargeDescription"].endswith(" at surge prices") == sold_at_surge


def test_surge_is_another_price_of_the_same_sku() -> None:
    surge = charge(APP._replace(surge=SURGE), Amounts(3 * NANO, 3 * NANO, 1_500_000_000, 0, 1_500_000_000))
    data, _ = written([APP_CHARGE, surge])
    plain, dynamic = parsed(data)
    assert {row["SkuId"] for row in (plain, dynamic)} == {"serverless/H100"}
    assert (plain["SkuPriceId"], plain["PricingCategory"]) == ("serverless/H100/second", "Standard")
    assert (dynamic["SkuPriceId"], dynamic["PricingCategory"]) == ("serverless/H100/second/surge", "Dynamic")
    assert (dynamic["ListUnitPrice"], dynamic["ContractedUnitPrice"]) == ("0.5", "0.5")
    assert (plain["ChargeDescription"], dynamic["ChargeDescription"]) == (
        "serverless/H100 by second",
        "serverless/H100 by second at surge prices",
    )
    assert found(data) == set()


def test_prices_are_found_by_what_they_are_for_whoever_caused_the_charge() -> None:
    window = Window(START, START + HOUR)
    stated = Price(7, 0)
    lines = [APP, APP._replace(team="blue", environment="test", api_key="k", surge=SURGE), APP._replace(app="other")]
    hours = [Charge(START, line, Amounts(1)) for line in lines]
    key = ("main", "serverless", "", "shop, é", "H100", "second")
    assert [item.price for item in focus_charges(hours, window, Granularity.HOUR, {key: PriceHistory(stated)})] == [
        stated,
        stated,
        None,
    ]


def test_a_version_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match=r"FOCUS 1\.1 cannot be written"):
        written([], "1.1")


def test_columns_come_in_order_and_our_own_last() -> None:
    for version in ("1.2", "1.3", "1.4"):
        names = list(layout(version))
        focus = names[: -len(CUSTOM_COLUMNS)]
        assert focus == sorted(focus)
        assert names[len(focus) :] == list(CUSTOM_COLUMNS)
    assert "ProviderName" not in layout("1.4")
    assert {"ProviderName", "ServiceProviderName"} <= set(layout("1.3"))
    for version in ("1.3", "1.4"):
        assert layout(version)[: -len(CUSTOM_COLUMNS)] == tuple(column.name for column in columns_of(version))


def test_numbers_dates_and_nulls_are_written_as_no_reader_mistakes_them() -> None:
    data, _ = written([FLUX_CHARGE])
    (row,) = parsed(data)
    assert (row["BilledCost"], row["ListCost"], row["PricingQuantity"]) == ("0.09", "0.1", "4.0")
    assert (row["ChargePeriodStart"], row["BillingPeriodEnd"]) == ("2026-10-31T22:00:00Z", "2026-11-01T00:00:00Z")
    assert b'""' not in data.replace(b'"{""api_key"": ""key-1""}"', b"")
    assert not data.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in data


def test_the_last_hour_of_a_month_is_billed_with_that_month() -> None:
    last = FLUX_CHARGE._replace(start=START + HOUR, end=START + 2 * HOUR)
    (row,) = parsed(written([last])[0])
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
    assert row["ChargePeriodEnd"] == "2026-11-01T00:00:00Z"


def test_every_column_that_names_a_provider_names_fal() -> None:
    (old,) = parsed(written([FLUX_CHARGE], "1.2")[0])
    (new,) = parsed(written([FLUX_CHARGE], "1.4")[0])
    assert {old[name] for name in ("ProviderName", "PublisherName", "InvoiceIssuerName")} == {"fal"}
    assert {new[name] for name in ("ServiceProviderName", "HostProviderName", "InvoiceIssuerName")} == {"fal"}


def test_nano_units_are_written_exactly_of_any_size_and_sign() -> None:
    assert [decimal_text(item) for item in (0, 1, -1, 2_500_000_000, -NANO, 10**30)] == [
        *("0.0", "0.000000001", "-0.000000001", "2.5", "-1.0"),
        f"1{'0' * 21}.0",
    ]


def test_a_discount_is_inside_the_usage_row() -> None:
    (row,) = parsed(written([FLUX_CHARGE])[0])
    assert (row["ListUnitPrice"], row["ContractedUnitPrice"], row["ChargeCategory"]) == ("0.025", "0.0225", "Usage")
    assert (row["x_FalUnitPrice"], row["x_FalDiscountPercent"]) == ("0.025", "10.0")
    assert row["x_ListCostDifference"] == "0.0"


def test_where_fals_cost_is_not_price_times_quantity_it_stands_and_the_difference_is_shown() -> None:
    dearer = charge(FLUX, Amounts(4 * NANO, 0, 110_000_001, 0, 110_000_001), DISCOUNTED)
    data, _ = written([dearer])
    (row,) = parsed(data)
    assert (row["BilledCost"], row["ListCost"]) == ("0.110000001", "0.110000001")
    assert (row["x_FalUnitPrice"], row["x_ListCostDifference"]) == ("0.025", "0.010000001")
    assert row["ListUnitPrice"] == "0.02750000025"
    assert found(data) == set()


def test_a_rounding_of_fals_keeps_its_price() -> None:
    rounded = charge(FLUX, Amounts(333_333_333, 0, 8_333_333, 0, 8_333_333), Price(25_000_000, 0))
    (row,) = parsed(written([rounded])[0])
    assert (row["ListUnitPrice"], row["x_ListCostDifference"]) == ("0.025", "-0.000000000325")


def test_a_cost_without_a_quantity_is_an_adjustment_without_a_price() -> None:
    data, _ = written([charge(FLUX, Amounts(0, 0, 5, 0, 5))])
    (row,) = parsed(data)
    assert (row["ChargeCategory"], row["BilledCost"], row["PricingQuantity"]) == ("Adjustment", "0.000000005", "")
    assert found(data) == set()


def test_skus_are_stable_names_and_units_keep_fals_word() -> None:
    flux, app = parsed(written([FLUX_CHARGE, APP_CHARGE])[0])
    assert (flux["SkuId"], flux["SkuPriceId"]) == ("fal-ai/flux/dev", "fal-ai/flux/dev/image")
    assert (app["SkuId"], app["SkuPriceId"]) == ("serverless/H100", "serverless/H100/second")
    assert (app["PricingUnit"], app["x_FalUnit"], app["x_GpuSeconds"]) == ("Seconds", "second", "3.0")
    assert app["Tags"] == '{"app": "shop, é", "environment": "prod"}'
    assert (app["ConsumedUnit"], flux["ConsumedUnit"]) == ("Seconds", "Images")
    assert (flux["ServiceName"], app["ServiceName"]) == ("fal Model APIs", "fal Serverless")


def test_empty_columns_can_be_left_out() -> None:
    whole = parsed(written([FLUX_CHARGE, APP_CHARGE])[0])
    data, result = written([FLUX_CHARGE, APP_CHARGE], omit=True)
    lean = parsed(data)
    assert "InvoiceId" not in result.columns
    assert lean == [{name: row[name] for name in result.columns} for row in whole]
    assert all(any(row[name] for row in lean) for name in result.columns)


def test_a_column_that_only_one_of_many_rows_fills_is_kept() -> None:
    plain = charge(FLUX._replace(api_key=""), Amounts(NANO, 0, 5, 0, 5))
    charges = [APP_CHARGE._replace(dimensions=APP._replace(team="two\r\nlines")), *[plain] * 1_200]
    data, result = written(charges, omit=True)
    assert {"Tags", "x_GpuClass"} <= set(result.columns)
    assert (result.rows, result.billed_cost) == (1_201, 1_000_000_000 + 6_000)
    whole = parsed(written(charges)[0])
    assert parsed(data) == [{name: row[name] for name in result.columns} for row in whole]
    assert whole[0]["SubAccountId"] == "two\r\nlines"


@pytest.mark.parametrize(
    ("dimensions", "service", "sku"),
    [
        (Dimensions("main", model="fal-ai/flux", unit="image"), "fal Model APIs", "fal-ai/flux"),
        (Dimensions("main", app="shop", unit="second"), "fal Serverless", "serverless/machine"),
        (Dimensions("main", gpu_class="H100", unit="second"), "fal Serverless", "serverless/H100"),
        (Dimensions("main", product="compute", gpu_class="H100", unit="second"), "fal Compute", "compute/H100"),
        (Dimensions("main", product="storage", unit="second"), "fal", "storage/machine"),
        (Dimensions("main"), "fal", "fal/machine"),
    ],
)
def test_what_a_source_does_not_state_is_told_from_what_it_names(
    dimensions: Dimensions, service: str, sku: str
) -> None:
    data, _ = written([charge(dimensions, Amounts(NANO, 0, 5, 0, 5))])
    (row,) = parsed(data)
    assert (row["ServiceName"], row["SkuId"]) == (service, sku)
    assert row["SkuPriceId"] == f"{sku}/{dimensions.unit or 'Units'}"
    assert row["SkuMeter"] == (dimensions.unit or "Units")
    assert row["ChargeDescription"] == f"{sku} by {dimensions.unit or 'use'}"
    assert row["x_GpuSeconds"] == ("0.0" if dimensions.gpu_class else "")
    assert found(data) == set()


def test_a_period_sums_up_its_hours_and_ends_with_the_window() -> None:
    window = Window(START, START + 5 * HOUR)
    hours = [Charge(hour, FLUX, Amounts(1, 0, 3, 1, 2)) for hour in window.hours()]
    by_day = list(focus_charges(hours, window, Granularity.DAY, {}))
    midnight = START + 2 * HOUR
    assert [(item.start, item.end, item.amounts.cost) for item in by_day] == [
        (START, midnight, 4),
        (midnight, START + 5 * HOUR, 6),
    ]
    assert len(list(focus_charges(hours, window, Granularity.HOUR, {}))) == 5
    whole = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    by_month = list(focus_charges(hours, whole, Granularity.MONTH, {}))
    assert [(item.start.month, item.end.month, item.amounts.cost) for item in by_month] == [(10, 11, 4), (11, 12, 6)]


def test_charges_out_of_order_are_refused() -> None:
    window = Window(START, START + 3 * HOUR)
    late = [Charge(START + HOUR, FLUX, Amounts(1)), Charge(START, FLUX, Amounts(1))]
    with pytest.raises(ValueError, match="come after"):
        list(focus_charges(late, window, Granularity.HOUR, {}))


def test_the_metadata_describe_every_column_and_the_content() -> None:
    _, result = written([FLUX_CHARGE, APP_CHARGE])
    window = Window(START, START + HOUR)
    told = json.loads(
        metadata(
            result,
            version="1.2",
            generator_version="9.9",
            created=START + timedelta(days=1),
            window=window,
            granularity="hour",
            complete=True,
        )
    )
    definitions = {item["ColumnName"]: item for item in told["Schema"]["ColumnDefinition"]}
    assert tuple(definitions) == result.columns
    assert definitions["BilledCost"] == {
        "ColumnName": "BilledCost",
        "DataType": "Decimal",
        "NumericPrecision": 38,
        "NumberScale": 9,
    }
    assert definitions["ChargePeriodStart"] == {"ColumnName": "ChargePeriodStart", "DataType": "Date/Time"}
    assert definitions["Tags"] == {"ColumnName": "Tags", "DataType": "JSON", "StringEncoding": "UTF-8"}
    assert definitions["SkuId"] == {"ColumnName": "SkuId", "DataType": "String", "StringEncoding": "UTF-8"}
    schema = told["Schema"]
    assert (schema["FocusVersion"], schema["DataGeneratorVersion"]) == ("1.2", "9.9")
    assert schema["CreationDate"] == "2026-11-01T22:00:00Z"
    assert told["x_Content"] == {
        "Start": "2026-10-31T22:00:00Z",
        "End": "2026-10-31T23:00:00Z",
        "Granularity": "hour",
        "Complete": True,
        "Rows": 2,
        "BilledCost": "1.09",
    }


@given(st.lists(charges(), min_size=1, max_size=4))
@settings(max_examples=examples(20, long=100), deadline=None)
def test_no_number_has_more_places_than_the_metadata_say(stated: list[FocusCharge]) -> None:
    data, result = written(stated)
    window = Window(START, START + HOUR)
    told = json.loads(
        metadata(
            result,
            version="1.2",
            generator_version="9.9",
            created=START,
            window=window,
            granularity="hour",
            complete=True,
        )
    )
    rows = parsed(data)
    for column in told["Schema"]["ColumnDefinition"]:
        for text in (row[column["ColumnName"]] for row in rows if column["DataType"] == "Decimal"):
            whole, _, places = text.partition(".")
            assert len(places) <= column["NumberScale"]
            assert len((whole + places).lstrip("-0")) <= column["NumericPrecision"]


def test_a_schema_has_an_id_of_its_version_and_columns_and_keeps_it() -> None:
    def schema_id(result: Written, version: str, day: int) -> str:
        created = datetime(2026, 11, day, tzinfo=UTC)
        text = metadata(
            result,
            version=version,
            generator_version="9.9",
            created=created,
            window=Window(START, START + HOUR),
            granularity="hour",
            complete=True,
        )
        return str(json.loads(text)["Schema"]["SchemaId"])

    whole, lean = written([FLUX_CHARGE])[1], written([FLUX_CHARGE], omit=True)[1]
    assert schema_id(whole, "1.2", 1) == schema_id(whole, "1.2", 2)
    assert len({schema_id(whole, "1.2", 1), schema_id(whole, "1.3", 1), schema_id(lean, "1.2", 1)}) == 3
