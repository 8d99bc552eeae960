import pytest

from exporter.focus.columns import COLUMNS, SUBCATEGORIES, VERSIONS, columns_of, is_custom, other_data_set, version_of


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
