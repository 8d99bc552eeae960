import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.focus.columns import (
    COLUMNS,
    SUBCATEGORIES,
    VERSIONS,
    columns_of,
    focus_unit,
    is_custom,
    is_unit,
    other_data_set,
    version_of,
)


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


@pytest.mark.parametrize(("version", "count"), [("1.0", 43), ("1.1", 50), ("1.2", 57), ("1.3", 65), ("1.4", 65)])
def test_a_version_has_as_many_columns_as_the_specification_says(version: str, count: int) -> None:
    # 1.4 has 65: two that came, two that went.
    assert len(columns_of(version)) == count


def test_columns_are_in_alphabetical_order() -> None:
    assert list(COLUMNS) == sorted(COLUMNS)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_columns_of_a_version_are_of_that_version(version: str) -> None:
    assert version_of(column.name for column in columns_of(version)) == version


def test_every_subcategory_has_one_parent() -> None:
    names = [name for children in SUBCATEGORIES.values() for name in children]
    assert len(names) == len(set(names))
    assert len(SUBCATEGORIES) == 19


def test_another_data_set_is_known_by_several_of_its_columns() -> None:
    invoice_detail = ["BilledCost", "InvoiceDetailGrain", "PaymentTerms"]
    assert other_data_set(invoice_detail) == "Invoice Detail"
    assert other_data_set(invoice_detail[:2]) is None
    assert other_data_set([*invoice_detail, "EffectiveCost"]) is None


def test_a_custom_column_begins_with_x_and_an_underscore() -> None:
    assert [is_custom(name) for name in ("x_Team", "xTeam", "X_Team", "Team")] == [True, False, False, False]


def test_a_cost_and_usage_file_is_no_other_data_set() -> None:
    assert all(other_data_set(column.name for column in columns_of(version)) is None for version in VERSIONS)
