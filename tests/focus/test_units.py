import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.focus.columns import focus_unit, is_unit


@pytest.mark.parametrize(
    ("fal", "focus"),
    [
        ("image", "Images"),
        ("second", "Seconds"),
        ("1k_characters", "1000 Characters"),
        ("1m_tokens", "1000000 Tokens"),
        ("100 credits", "100 Credits"),
        ("compute_second", "Compute-Seconds"),
        ("Compute_Second", "Compute-Seconds"),
        ("5K widgets", "5000 Widgets"),
        ("2m-steps", "2000000 Steps"),
        ("0 tokens", "Units"),
        ("audio minute", "Audio Minutes"),
        ("", "Units"),
        ("3d-mesh", "Units"),
    ],
)
def test_fals_words_become_units_of_the_format(fal: str, focus: str) -> None:
    assert focus_unit(fal) == focus


@given(st.text(max_size=20))
def test_whatever_fal_says_becomes_a_unit(fal: str) -> None:
    assert is_unit(focus_unit(fal))


@pytest.mark.parametrize("unit", ["GB", "GiB", "GB-Hours", "GB/Hour", "1000 Tokens", "Units/3 Months", "Hours", "IOPS"])
def test_units_of_the_specification_are_units(unit: str) -> None:
    assert is_unit(unit)


@pytest.mark.parametrize(
    "unit", ["images", "image", "Token", "Hour", "1,000 Tokens", "GB-Hour", "0 Tokens", "Images used"]
)
def test_other_words_are_none(unit: str) -> None:
    assert not is_unit(unit)
