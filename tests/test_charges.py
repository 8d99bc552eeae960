from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, NANO, NO_GPU, Amounts, GpuMachine, Window, decimal_of, gpu_machine, hour_of, nano

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
hours = st.integers(-1000, 1000).map(lambda count: NOON + count * HOUR)
windows = st.tuples(hours, st.integers(1, 200)).map(lambda it: Window(it[0], it[0] + it[1] * HOUR))


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_nano_units_and_their_decimal_stand_for_each_other(amount: int) -> None:
    assert nano(decimal_of(amount)) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.025", 25_000_000),
        ("1e-9", 1),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("-0.0000000015", -2),
        ("1E+3", 1000 * NANO),
        ("9223372036.854775807", 2**63 - 1),
        ("1E-400000", 0),
    ],
)
def test_a_decimal_is_exact_or_rounded_half_even_at_the_ninth_place(text: str, amount: int) -> None:
    assert nano(Decimal(text)) == amount


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("-Infinity"), Decimal("9223372036.854775808"), Decimal("1e999999"), 2**63]
)
def test_an_amount_that_no_ledger_can_hold_is_refused(value: Decimal | int) -> None:
    with pytest.raises(ValueError, match="amount"):
        nano(value)


def test_an_hour_begins_in_utc_whatever_the_zone_of_the_instant() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    assert hour_of(datetime(2026, 11, 20, 12, 50, 1, 2, kathmandu)) == datetime(2026, 11, 20, 7, tzinfo=UTC)


amounts = st.builds(Amounts, *[st.integers()] * 5)


@given(amounts, amounts)
def test_amounts_are_added_field_by_field(one: Amounts, other: Amounts) -> None:
    assert tuple(one.plus(other)) == tuple(mine + theirs for mine, theirs in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NOON, NOON),
        (NOON + HOUR, NOON),
        (NOON, NOON + timedelta(minutes=90)),
        (NOON.replace(tzinfo=None), NOON),
        (NOON, (NOON + HOUR).astimezone(timezone(HOUR))),
    ],
)
def test_a_window_is_of_whole_utc_hours_and_not_empty(start: datetime, end: datetime) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(start, end)


@given(windows, st.integers(1, 50))
def test_the_pieces_of_a_window_are_the_window(window: Window, size: int) -> None:
    pieces = list(window.pieces(size))
    assert [hour for piece in pieces for hour in piece.hours()] == list(window.hours())
    assert all(len(piece) <= size for piece in pieces)
    assert sum(map(len, pieces)) == len(window)


def test_a_window_holds_its_start_and_not_its_end() -> None:
    window = Window(NOON, NOON + HOUR)
    assert NOON in window
    assert NOON + HOUR not in window
    assert str(window) == "2026-11-20T12Z/2026-11-20T13Z"


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("GPU-H100", GpuMachine("H100", 1)),
        ("NVIDIA H100", GpuMachine("H100", 1)),
        ("gpu_1x_h100_sxm5", GpuMachine("H100", 1)),
        ("gpu_8x_h100_sxm5", GpuMachine("H100", 8)),
        ("GPU-B300", GpuMachine("B300", 1)),
        ("NVIDIA B200", GpuMachine("B200", 1)),
        ("GPU-Z9000", GpuMachine("Z9000", 1)),
        ("XS", NO_GPU),
        ("l", NO_GPU),
        ("", NO_GPU),
        (None, NO_GPU),
    ],
)
def test_a_machine_s_gpus_are_told_from_any_of_its_names(name: str | None, machine: GpuMachine) -> None:
    assert gpu_machine(name) == machine
