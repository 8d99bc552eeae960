from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import GpuMachine, nano
from exporter.fal.rows import (
    GpuTime,
    RejectedError,
    Rejection,
    Rejections,
    amount,
    billing_line,
    cost_shown,
    fine_amount,
    gpu_time_of_unit,
    in_dollars,
    instant,
    number,
    text,
)


def test_every_row_is_counted_and_the_first_of_a_source_and_reason_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts: Counter[str] = Counter()
    rejections = Rejections("prod", lambda text: text.replace("secret", "***"))
    for index in range(3):
        rejections.reject(counts, "models", Rejection.NEGATIVE, {"number": index, "key": "secret"})
    rejections.reject(counts, "serverless", Rejection.NEGATIVE, {})
    rejections.reject(counts, "models", Rejection.CURRENCY, {})
    assert counts == {"negative": 4, "currency": 1}
    logged = capsys.readouterr().out
    assert logged.count("row_rejected") == 3
    assert "'number': 0" in logged
    assert "secret" not in logged


def test_a_row_that_cannot_be_shown_is_still_counted(capsys: pytest.CaptureFixture[str]) -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    counts: Counter[str] = Counter()
    Rejections("prod", lambda text: text).reject(counts, "models", Rejection.WRONG_TYPE, nested)
    assert counts == {"wrong_type": 1}
    assert "cannot be shown" in capsys.readouterr().out


@given(st.decimals(min_value=0, max_value=Decimal("9.2E+9"), allow_nan=False))
def test_amounts_are_rounded_half_even_at_the_ninth_place_and_not_otherwise(value: Decimal) -> None:
    assert amount(value) == nano(value) == round(Fraction(value) * 10**9)


@given(st.decimals(min_value=0, max_value=Decimal("9.2E+9"), allow_nan=False, places=18))
def test_a_number_within_a_string_is_read_as_exactly_as_one_without(value: Decimal) -> None:
    assert fine_amount(f"{value:f}") == fine_amount(str(value)) == fine_amount(value) == value * 10**18


@pytest.mark.parametrize("currency", ["USD", "usd", "Usd"])
def test_dollars_are_dollars_in_whatever_case(currency: str) -> None:
    in_dollars(currency)


@pytest.mark.parametrize(
    ("row", "cost"),
    [
        ({"cost_total": None, "cost": "0.25", "currency": "usd"}, 250_000_000),
        ({"cost_total": Decimal("-0.5"), "cost": 7}, 500_000_000),
        ({"cost_total": "a lot", "cost": []}, 0),
        ({"cost_total": 1, "currency": "EUR"}, 0),
        ("a row", 0),
    ],
)
def test_what_a_rejected_row_costs_is_what_can_be_read_of_it(row: object, cost: int) -> None:
    assert cost_shown(row, ("cost_total", "cost")) == cost


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing_field"),
        *(
            (item, "wrong_type")
            for item in ("", "1,5", "1.", ".5", "+1", " 1", "1 000", "$1", "0x1", "1_0", "NaN", "Infinity")
        ),
        ("٣", "wrong_type"),
        ("-0.1", "negative"),
        ("1E999", "out_of_range"),
        (True, "wrong_type"),
        (1.5, "wrong_type"),
        ([], "wrong_type"),
        (-1, "negative"),
        (Decimal("-0.1"), "negative"),
        (10**10, "out_of_range"),
        (Decimal("1E+999"), "out_of_range"),
        (Decimal("Infinity"), "out_of_range"),
    ],
)
def test_what_is_no_amount_is_rejected_by_reason(value: object, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        amount(value)


def test_a_balance_may_be_negative() -> None:
    assert number(Decimal("-0.18")) == -180_000_000


@given(st.text(alphabet=st.characters()))
def test_a_text_becomes_fit_for_a_label(value: str) -> None:
    read = text(value)
    read.encode()
    assert "\0" not in read
    assert len(read.splitlines()) <= 1
    assert len(read) <= 300


def test_half_a_surrogate_pair_and_a_nul_are_replaced() -> None:
    assert text("a\ud800b\0") == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    "stamp", ["2026-11-21T10:00:00Z", "2026-11-21T05:00:00-05:00", "2026-11-21T10:00:00", "2026-11-21 10:00:00.000+00"]
)
def test_stamps_are_converted_to_utc(stamp: str) -> None:
    assert instant(stamp) == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert instant(stamp).tzinfo is UTC


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_stamp_is_rejected(stamp: str) -> None:
    with pytest.raises(RejectedError, match="bucket"):
        instant(stamp)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("image", GpuTime()),
        ("second", GpuTime()),
        ("video", GpuTime()),
        ("megapixel", GpuTime()),
        ("1k_characters", GpuTime()),
        ("compute_second", GpuTime()),
        ("GPU-H100", GpuTime("H100", 1)),
        ("NVIDIA H200", GpuTime("H200", 1)),
        ("gpu_8x_h100_sxm5", GpuTime("H100", 8)),
        ("GPU-H100 second", GpuTime("H100", 1)),
        ("H100 hour", GpuTime("H100", 3600)),
        ("a100_minutes", GpuTime("A100", 60)),
        ("gpu_second", GpuTime("GPU", 1)),
        ("L", GpuTime()),
    ],
)
def test_a_unit_that_names_a_gpu_is_gpu_time(unit: str, expected: GpuTime) -> None:
    assert gpu_time_of_unit(unit) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type: gpu_8x_h100_sxm5 (my-app, prod)", (GpuMachine("H100", 8), "my-app", "prod")),
        ("type: GPU-H100 (my-app)", (GpuMachine("H100", 1), "my-app", "")),
        ("Type:L", (GpuMachine("", 0), "", "")),
        ("type: gpu_1x_b200 (app (two), prod)", (GpuMachine("B200", 1), "app (two)", "prod")),
        ("fal-ai/flux/dev", None),
        ("", None),
    ],
)
def test_a_machines_line_is_read(text: str, expected: tuple[GpuMachine, str, str] | None) -> None:
    assert billing_line(text) == expected


@given(st.text())
def test_any_text_is_a_line_or_none_and_a_unit(text: str) -> None:
    billing_line(text)
    gpu_class, seconds = gpu_time_of_unit(text)
    assert bool(gpu_class) == bool(seconds)
