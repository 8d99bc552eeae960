from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import (
    HOUR,
    LONGEST_LABEL,
    NANO,
    NO_GPU,
    Amounts,
    GpuMachine,
    Window,
    decimal_of,
    gpu_machine,
    hour_of,
    label_text,
    nano,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
hours = st.integers(-1000, 1000).map(lambda count: NOON + count * HOUR)
windows = st.tuples(hours, st.integers(1, 200)).map(lambda item: Window(item[0], item[0] + item[1] * HOUR))


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


@pytest.mark.parametrize(
    "name",
    [
        "株式会社\u3000未来",  # an ideographic space, usual in names of Japanese companies
        "caf\u00e9\u00a0bar",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian needs the zero-width non-joiner
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # one emoji of three, joined
        "e\u0301",
        "\u202eabc",
        "plain",
    ],
)
def test_every_letter_blank_and_joiner_of_unicode_stays_in_a_label(name: str) -> None:
    assert label_text(name) == name


@pytest.mark.parametrize("unfit", ["\0", "\n", "\r", "\x1b", "\x85", "\u2028", "\u2029", "\ud800", "\x7f"])
def test_what_no_line_of_text_can_hold_is_replaced_in_a_label(unfit: str) -> None:
    assert label_text(f"a{unfit}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_long_names_that_differ_at_their_end_stay_distinct() -> None:
    first, second = label_text("x" * 400 + "1"), label_text("x" * 400 + "2")
    assert first != second
    assert len(first) == len(second) == LONGEST_LABEL
    assert label_text("x" * LONGEST_LABEL) == "x" * LONGEST_LABEL


@given(st.text(alphabet=st.characters()))
def test_a_label_is_what_its_own_text_becomes(name: str) -> None:
    assert label_text(label_text(name)) == label_text(name)
