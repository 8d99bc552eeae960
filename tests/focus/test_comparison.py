"""Comparison of two data sets: exact, complete, and in bounded memory."""

import csv
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from focus.conftest import FileRow, base_rows, header, to_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.errors import ConfigurationError
from exporter.focus import comparison as module
from exporter.focus import reports
from exporter.focus.comparison import Comparison, Source, compare
from exporter.focus.comparison_report import comparison_csv, comparison_json, comparison_text
from exporter.focus.reports import parse_filter


def compared(folder: Path, a: Sequence[FileRow], b: Sequence[FileRow], **options: object) -> Comparison:
    sources = []
    for name, rows in (("a.csv", a), ("b.csv", b)):
        (folder / name).write_bytes(to_csv(rows))
        sources.append(Source(name, [str(folder / name)]))
    return compare(*sources, **options)  # type: ignore[arg-type]  # a mapping has one type for all its values


class Told(NamedTuple):
    change: str
    before: Decimal | None
    after: Decimal | None
    rows: int


def told(found: Comparison) -> list[Told]:
    return [Told(row.change, row.before, row.after, row.rows) for row in found.rows]


def test_the_same_rows_in_another_order_are_equal(tmp_path: Path) -> None:
    rows = base_rows()
    found = compared(tmp_path, rows, rows[::-1])
    assert found.is_equal
    assert not found.rows
    assert "no difference in " in comparison_text(found)


def test_rows_that_changed_came_and_went_are_named(tmp_path: Path) -> None:
    rows = [row | {"SkuId": "sku", "BilledCost": f"{place}.5"} for place, row in enumerate(base_rows()[:6])]
    other = [*rows[:3], rows[3] | {"BilledCost": "3.500000001"}, rows[4], rows[4]]
    found = compared(tmp_path, rows, other)
    assert not found.is_equal
    assert sorted(told(found), key=str) == [
        Told("changed", Decimal("3.5"), Decimal("3.500000001"), 1),
        Told("only in A", Decimal("5.5"), None, 1),
        Told("only in B", None, Decimal("4.5"), 1),
    ]
    assert not found.unexplained()
    text = comparison_text(found)
    assert "3.5 -> 3.500000001, difference 0.000000001" in text
    assert text.splitlines()[5].split()[0] == "USD"


def test_dates_and_tags_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    rows = [row | {"Tags": '{"a": "1", "b": "2"}', "BilledCost": "1.5"} for row in base_rows()[:3]]
    other = [
        row | {"Tags": '{"b":"2","a":"1"}', "ChargePeriodStart": row["ChargePeriodStart"].replace("Z", "+00:00")}
        for row in rows
    ]
    other[0] |= {"BilledCost": "1.6"}
    assert told(compared(tmp_path, rows, other)) == [Told("changed", Decimal("1.5"), Decimal("1.6"), 1)]


def test_groups_are_by_short_names_tags_and_months(tmp_path: Path) -> None:
    rows = [row | {"Tags": '{"team": "x"}', "BilledCost": "1.0"} for row in base_rows()[:4]]
    rows[3] |= {"Tags": '{"team": true}', "ChargePeriodStart": "soon"}
    found = compared(tmp_path, rows, rows[:3], by=["tag:team", "month"], where=[parse_filter("tag:team!=z")])
    assert {key: found.difference(pair) for key, pair in found.pairs().items()} == {
        ("USD", "true", "undated"): Decimal(-1),
        ("USD", "x", "2025-10"): Decimal(0),
    }
    assert found.a.undated == 1
    assert "of which undated: 1" in comparison_text(found)


def test_rows_in_no_sum_are_beside_the_totals_and_nothing_is_equal_with_them(tmp_path: Path) -> None:
    rows = base_rows()[:4]
    wrong = [*rows[:3], rows[3] | {"BilledCost": "NaN"}]
    found = compared(tmp_path, wrong, wrong)
    assert not found.is_equal
    assert json.loads(comparison_json(found))["totals"][0]["rows_not_included_b"] == 1
    assert (
        "INCOMPLETE: 1 row is left out of B, because something in it cannot be read; B - A is without it"
        in comparison_text(found)
    )


def test_a_column_that_one_side_lacks_is_told_and_identifies_nothing(tmp_path: Path) -> None:
    rows = base_rows()[:3]
    (tmp_path / "a.csv").write_bytes(to_csv(rows))
    names = [name for name in header() if name != "SkuPriceId"]
    text = io.StringIO()
    table = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows([rows[0] | {"BilledCost": "77.0"}, *rows[1:]])
    (tmp_path / "b.csv").write_text(text.getvalue(), encoding="utf-8")
    sources = [Source(name, [str(tmp_path / name)]) for name in ("a.csv", "b.csv")]
    found = compare(*sources, by=["SkuPriceId"])
    assert "SkuPriceId" not in found.match
    assert found.notes == ["b.csv has no column SkuPriceId; it is taken for null there"]
    by_service = compare(*sources, by=["service"])
    assert told(by_service) == [Told("changed", Decimal(rows[0]["BilledCost"]), Decimal(77), 1)]
    with pytest.raises(ConfigurationError, match="no file has a column Colour"):
        compare(*sources, match=["Colour"])


def test_csv_adds_up_by_each_kind_of_record(tmp_path: Path) -> None:
    rows = base_rows()
    found = compared(tmp_path, rows, [*rows[5:], rows[9]], most=2)
    lines = list(csv.DictReader(io.StringIO(comparison_csv(found))))
    kinds = {line["record"] for line in lines}
    assert kinds == {"total", "group", "only in A", "only in B", "not explained"}

    def total(*records: str) -> Decimal:
        return sum((Decimal(line["difference"]) for line in lines if line["record"] in records), Decimal(0))

    assert total("total") == total("group") == total("only in A", "only in B", "changed", "not explained") != 0
    assert found.unshown == 4
    assert "not shown: 4 rows more; --max-rows shows them" in comparison_text(found)


@pytest.mark.parametrize("held", [3, 40])
def test_memory_is_bounded_and_what_is_left_is_told(held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_HELD", held)
    monkeypatch.setattr(reports, "_MOST_SKUS", 5)
    rows = [row | {"SkuId": f"sku-{place % 9}"} for place, row in enumerate(base_rows())]
    found = compared(tmp_path, rows, [row | {"BilledCost": f"{row['BilledCost']}1"} for row in rows[:20]], most=1000)
    assert not found.are_all
    total = sum((found.difference(pair) for pair in found.by_currency().values()), Decimal(0))
    shown = sum((row.difference for row in found.rows), Decimal(0))
    assert shown + sum(found.unexplained().values(), Decimal(0)) == total
    assert len(found.pairs()) == 6
    assert "--where narrows them" in comparison_text(found)


def test_changes_that_add_up_to_nothing_are_found_whatever_the_hashes_are(tmp_path: Path) -> None:
    starts = [f"2025-10-02T{hour:02}:00:00Z" for hour in range(20)]
    base = base_rows()[0] | {"SkuId": "sku"}
    rows = [base | {"ChargePeriodStart": start, "BilledCost": cost} for start in starts for cost in ("1.0", "3.0")]
    other = [row | {"BilledCost": "2.0"} for row in rows]
    found = told(compared(tmp_path, rows, [*other, base | {"BilledCost": "-5.0"}], most=100))
    assert [row.change for row in found] == ["only in B"] + ["changed"] * 40


def test_changes_that_add_up_to_nothing_are_found_too(tmp_path: Path) -> None:
    rows = [base_rows()[0] | {"SkuId": "sku", "BilledCost": cost} for cost in ("1.0", "3.0")]
    other = [row | {"BilledCost": "2.0"} for row in rows]
    credit = rows[0] | {"ChargePeriodStart": "2025-10-02T00:00:00Z", "BilledCost": "-5.0"}
    assert told(compared(tmp_path, rows, [*other, credit])) == [
        Told("only in B", None, Decimal(-5), 1),
        Told("changed", Decimal(1), Decimal(2), 1),
        Told("changed", Decimal(3), Decimal(2), 1),
    ]


def test_no_row_is_named_that_does_not_differ_where_too_many_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_HELD", 3)
    rows = [base_rows()[0] | {"BilledCost": f"{place}.5"} for place in range(20)]
    found = compared(tmp_path, rows, rows[:0:-1], match=["SkuId"])
    assert (found.rows, found.are_all) == ([], False)
    assert found.unexplained() == {"USD": Decimal("-0.5")}
    assert "so many rows differ that none was matched; --where narrows them" in comparison_text(found)


def test_groups_beyond_a_bound_are_the_same_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_MOST_SKUS", 5)
    rows = [row | {"SkuId": f"sku-{place}"} for place, row in enumerate(base_rows())]
    assert compared(tmp_path, rows, rows[::-1], by=["sku"]).is_equal


_COSTS = st.sampled_from(["0.0", "-1.5", "1.5", "2.000000001", "1E3", "-0.0", "0.1"])
_ROWS = st.lists(
    st.builds(
        lambda cost, sku, currency, hour: (
            base_rows()[0]
            | {
                "BilledCost": cost,
                "SkuId": sku,
                "BillingCurrency": currency,
                "ChargePeriodStart": f"2025-10-01T0{hour}:00:00Z",
            }
        ),
        _COSTS,
        st.sampled_from(["x", "y"]),
        st.sampled_from(["USD", "EUR"]),
        st.integers(0, 2),
    ),
    max_size=8,
)


@settings(
    max_examples=examples(10, long=100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_ROWS, _ROWS)
def test_shown_rows_add_up_to_the_difference(tmp_path: Path, a: list[FileRow], b: list[FileRow]) -> None:
    found = compared(tmp_path, a, b, most=100)
    for currency, pair in found.by_currency().items():
        expected = [
            sum((Decimal(row["BilledCost"]) for row in rows if row["BillingCurrency"] == currency), Decimal(0))
            for rows in (a, b)
        ]
        assert found.difference(pair) == expected[1] - expected[0]
        shown = sum((row.difference for row in found.rows if row.group[0] == currency), Decimal(0))
        assert shown == expected[1] - expected[0]
    assert not found.unexplained()


def test_parquet_is_compared_by_the_same_columns(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    rows = base_rows()[:6]
    (tmp_path / "a.csv").write_bytes(to_csv(rows))
    (tmp_path / "b.csv").write_bytes(to_csv([rows[0] | {"BilledCost": "77.5"}, *rows[1:]]))
    polars.read_csv(tmp_path / "b.csv", infer_schema=False).write_parquet(tmp_path / "b.parquet")
    a, b = Source("a.csv", [str(tmp_path / "a.csv")]), Source("b.parquet", [str(tmp_path / "b.parquet")])
    found = compare(a, b)
    assert [*found.match] == [*module.IDENTITY]
    assert told(found) == [Told("changed", Decimal(rows[0]["BilledCost"]), Decimal("77.5"), 1)]
    assert told(compare(a, b, match=["ResourceId", "ChargePeriodStart"])) == told(found)
