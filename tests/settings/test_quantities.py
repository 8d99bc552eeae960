from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.settings.fields import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("30d", 2_592_000), ("1w", 604_800), ("0s", 0), (" 2h ", 7200)],
)
def test_durations_are_numbers_with_units(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "300", "m", "5 m", "1.5h", "-5m", "5M", "5min", "30m1h", "1h1h", "\N{ARABIC-INDIC DIGIT FIVE}m"],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it like 90s, 5m, 1h30m or 30d"):
        parse_duration(text)


def test_an_absurd_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than a hundred years"):
        parse_duration("999999999w")


@given(st.integers(0, 3_000_000_000))
def test_a_written_duration_reads_the_same(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["0s", "90s", "5m", "48h", "72h", "4d", "8d", "400d", "4d1h", "1h30m"])
def test_durations_are_written_as_people_write_them(text: str) -> None:
    written = {"90s": "1m30s"}.get(text, text)
    assert format_duration(parse_duration(text)) == written


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("1B", 1), ("512KiB", 2**19), ("64 MiB", 2**26), ("1GiB", 2**30)]
)
def test_sizes_are_numbers_with_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "64MB", "64mib", "1.5GiB", "-1B", "64 M"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write it like 512KiB, 64MiB or 1GiB"):
        parse_size(text)


@given(st.integers(1, 2**40))
def test_a_written_size_reads_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size
