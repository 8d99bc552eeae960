import csv
import io
import math
from collections.abc import Callable
from decimal import Decimal

import pytest
from focus.conftest import FileRow, base_rows, header, to_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.focus import checks
from exporter.focus.check_report import Report, check_json, check_junit, check_text
from exporter.focus.checks import Checker
from exporter.focus.columns import columns_of
from exporter.focus.findings import FocusError, TruncatedFileError, WrongContentError


def check(data: bytes, version: str | None = None, piece: int = 700, polars_from: float = math.inf) -> Report:
    checker = Checker(version, polars_from=polars_from)
    for start in range(0, len(data), piece):
        checker.feed(data[start : start + piece])
    return checker.finish()


def found(data: bytes, version: str | None = None) -> set[str]:
    return {rule.id for rule in check(data, version).findings.counts}


Mutation = Callable[[], bytes]


def everywhere(column: str, change: Callable[[str], str]) -> Mutation:
    """Change a column in every row that fills it."""
    return lambda: to_csv([row | {column: change(row[column])} if row.get(column) else row for row in base_rows()])


def once(column: str, value: str, where: Callable[[FileRow], bool] = lambda _: True) -> Mutation:
    """Change a column in the fourth of the rows that are meant."""

    def mutate() -> bytes:
        rows = base_rows()
        place = [number for number, row in enumerate(rows) if where(row)][:4][-1]
        rows[place] = rows[place] | {column: value}
        return to_csv(rows)

    return mutate


def without(column: str) -> Mutation:
    return lambda: to_csv(base_rows(), [name for name in header() if name != column])


def renamed(column: str, name: str) -> Mutation:
    return lambda: to_csv(base_rows()).replace(column.encode(), name.encode(), 1)


def several(changes: dict[str, str], where: Callable[[FileRow], bool]) -> Mutation:
    def mutate() -> bytes:
        rows = base_rows()
        place = next(number for number, row in enumerate(rows) if where(row))
        rows[place] = rows[place] | changes
        return to_csv(rows)

    return mutate


def category(name: str) -> Callable[[FileRow], bool]:
    return lambda row: row["ChargeCategory"] == name


COSTS = ("BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "PricingCurrencyEffectiveCost")
PRICES = (
    *("ListUnitPrice", "ContractedUnitPrice"),
    *("PricingCurrencyListUnitPrice", "PricingCurrencyContractedUnitPrice"),
)
UNPRICED = dict.fromkeys(("PricingQuantity", "PricingUnit", "ConsumedQuantity", "ConsumedUnit"), "")
DATES = ("ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd")


def whole_costs() -> bytes:
    return to_csv([row | {name: str(round(Decimal(row[name]))) for name in COSTS} for row in base_rows()])


def all_dates(change: Callable[[str], str]) -> Mutation:
    return lambda: to_csv([row | {name: change(row[name]) for name in DATES} for row in base_rows()])


def duplicate() -> bytes:
    rows = base_rows()
    return to_csv([*rows, rows[3]])


WRONG: dict[str, tuple[Mutation, str]] = {
    "01 a mandatory column is missing": (without("BilledCost"), "CostAndUsage-D-006-M"),
    "02 a cost is null": (once("BilledCost", ""), "BilledCost-C-003-M"),
    "03 an unknown charge category": (once("ChargeCategory", "Usages"), "ChargeCategory-C-003-M"),
    "04 dates with a blank": (
        all_dates(lambda item: item.replace("T", " ").replace("Z", "")),
        "ChargePeriodStart-C-002-M",
    ),
    "05 dates without time": (all_dates(lambda item: item[:10]), "ChargePeriodStart-C-002-M"),
    "06 dates with an offset of nothing": (
        all_dates(lambda item: item.replace("Z", "+00:00")),
        "ChargePeriodStart-C-002-M",
    ),
    "08 one date that is none": (once("ChargePeriodStart", "yesterday"), "ChargePeriodStart-C-001-M"),
    "09 dates with an offset": (all_dates(lambda item: item.replace("Z", "-07:00")), "ChargePeriodStart-C-002-M"),
    "10 costs cut to whole numbers": (whole_costs, "ListCost-C-009-C"),
    "12 an exponent with a plus": (once("BilledCost", "4.2E+3"), "BilledCost-C-002-M"),
    "13 a plus sign": (once("BilledCost", "+4.2"), "BilledCost-C-002-M"),
    "14 thousands separated": (once("BilledCost", "1,234.5"), "BilledCost-C-002-M"),
    "15 a currency sign": (once("BilledCost", "$4.2"), "BilledCost-C-002-M"),
    "16 a negative unit price": (once("ListUnitPrice", "-0.025"), "ListUnitPrice-C-008-M"),
    "17 a cost a cent off": (
        several({"ContractedCost": "0.0325"}, category("Usage")),
        "ContractedCost-C-009-C",
    ),
    "21 NULL in words": (once("ChargeClass", "NULL"), "NullHandling-A-001-C"),
    "22 a placeholder": (once("SkuPriceId", "N/A"), "NullHandling-A-002-M"),
    "22 a placeholder where null is not allowed": (once("ServiceName", "Unassigned"), "NullHandling-A-002-M"),
    "23 an empty string in quotes": (
        lambda: to_csv(base_rows()).replace(b",,", b',"",', 3),
        "NullHandling-A-002-M",
    ),
    "24 a currency in lower case": (once("BillingCurrency", "usd"), "BillingCurrency-C-003-M"),
    "25 a currency that is none": (once("BillingCurrency", "US$"), "BillingCurrency-C-003-M"),
    "26 a unit in other words": (once("PricingUnit", "images used"), "PricingUnit-C-003-O"),
    "26b a unit in lower case": (once("ConsumedUnit", "images"), "ConsumedUnit-C-003-O"),
    "27 a subcategory of another category": (
        once("ServiceSubcategory", "Virtual Machines"),
        "ServiceSubcategory-C-004-M",
    ),
    "27b an unknown subcategory": (once("ServiceSubcategory", "Pictures"), "ServiceSubcategory-C-003-M"),
    "28 somebody else invoices": (once("InvoiceIssuerName", "Reseller"), "BilledCost-C-005-C"),
    "29 a period that ends before it starts": (
        once("ChargePeriodEnd", "2025-10-01T00:00:00Z"),
        "ChargePeriodStart-C-004-M",
    ),
    "29 a billing period that ends before it starts": (
        once("BillingPeriodEnd", "2025-09-01T00:00:00Z"),
        "BillingPeriodStart-C-004-M",
    ),
    "30 an inclusive end": (once("ChargePeriodEnd", "2025-10-01T23:59:59Z"), "ChargePeriodEnd-C-004-M"),
    "30 an inclusive end of the billing period": (
        everywhere("BillingPeriodEnd", lambda _: "2025-10-31T23:59:59Z"),
        "BillingPeriodEnd-C-004-M",
    ),
    "31 a tax with a quantity": (
        several({"PricingQuantity": "1.0", "PricingUnit": "Units"}, category("Tax")),
        "PricingQuantity-C-004-C",
    ),
    "33 tags that are no JSON": (once("Tags", "app=shop"), "Tags-C-001-M"),
    "33b tags in tags": (once("Tags", '{"app": {"name": "shop"}}'), "Tags-C-001-M"),
    "35 a custom column without prefix": (renamed("x_Environment", "Environment"), "ColumnHandling-A-010-M"),
    "36 a credit whose costs differ": (
        several({"EffectiveCost": "-1.0", "PricingCurrencyEffectiveCost": "-1.0"}, category("Credit")),
        "EffectiveCost-C-010-C",
    ),
    "37 usage without a quantity": (once("PricingQuantity", ""), "PricingQuantity-C-005-C"),
    "38 usage without what was consumed": (once("ConsumedQuantity", ""), "ConsumedQuantity-C-006-C"),
    "39 an unknown charge class": (once("ChargeClass", "Normal"), "ChargeClass-C-005-C"),
    "40 an unknown frequency": (once("ChargeFrequency", "Monthly"), "ChargeFrequency-C-003-M"),
    "41 a purchase by usage": (once("ChargeCategory", "Purchase"), "ChargeFrequency-C-004-C"),
    "42 an unknown pricing category": (once("PricingCategory", "On-Demand"), "PricingCategory-C-007-M"),
    "43 a sub account without a name": (once("SubAccountName", ""), "SubAccountName-C-005-C"),
    "44 a quantity without a unit": (once("PricingUnit", ""), "PricingUnit-C-006-C"),
    "45 a price of two SKUs": (once("SkuId", "fal-ai/other"), "SkuPriceId-C-008-M"),
    "46 a service in two categories": (
        several({"ServiceCategory": "Compute", "ServiceSubcategory": "Containers"}, category("Usage")),
        "ServiceName-C-005-C",
    ),
    "48 a column in lower case": (renamed("BilledCost", "billedcost"), "CostAndUsage-D-006-M"),
    "49 a number from a float": (once("BilledCost", "27.339198999999997"), "X-FloatNoise"),
    "50 usage without a price": (once("ListUnitPrice", ""), "ListUnitPrice-C-005-C"),
    "51 Latin-1": (
        lambda: to_csv(base_rows()).replace(b"Team 1", b"\xc4quipe", 1),
        "SubAccountName-C-001-M",
    ),
    "52 a header alone": (lambda: to_csv([]), "X-NoRows"),
    "a second currency in an invoice": (once("BillingCurrency", "EUR"), "X-InvoiceCurrency"),
    "usage outside its billing period": (
        several({"ChargePeriodStart": "2025-09-30T23:00:00Z"}, category("Usage")),
        "X-PeriodContainment",
    ),
    "a row with a field too many": (lambda: to_csv(base_rows()) + b",".join([b"1"] * 90) + b"\n", "X-CsvRecord"),
    "a tag twice": (once("Tags", '{"app": "a", "app": "b"}'), "Tags-C-001-M"),
    "a status without its commitment": (once("CommitmentDiscountStatus", "Used"), "CommitmentDiscountStatus-C-003-C"),
    "a pricing currency that differs from itself": (
        once("PricingCurrencyListUnitPrice", "0.5"),
        "X-PricingCurrencyListUnitPrice-Equal",
    ),
}


@pytest.mark.parametrize(("mutate", "rule"), WRONG.values(), ids=WRONG)
def test_a_mutation_is_found_by_the_rule_it_breaks(mutate: Mutation, rule: str) -> None:
    assert rule in found(mutate(), "1.2")


def reversed_columns() -> bytes:
    names = header()
    return to_csv(base_rows(), [*names[:-2][::-1], *names[-2:]])


VALID: dict[str, Mutation] = {
    "00 the base file": lambda: to_csv(base_rows()),
    "07 dates with a fraction of nothing": all_dates(lambda item: item.replace("Z", ".000Z")),
    "11 an exponent": everywhere("ListUnitPrice", lambda item: f"{Decimal(item).scaleb(7):f}E-7"),
    "18 a byte order mark": lambda: b"\xef\xbb\xbf" + to_csv(base_rows()),
    "19 CRLF": lambda: to_csv(base_rows(), terminator="\r\n"),
    "20 a line end within a field": once("ChargeDescription", "flux,\nby image"),
    "33c tags of every scalar kind": once("Tags", '{"a": "b", "c": true, "d": 1.5, "e": null}'),
    "34 an account of digits": everywhere("BillingAccountId", lambda _: "123456789012"),
    "47 columns in another order": reversed_columns,
    "10 whole numbers without a point": several(
        dict.fromkeys(COSTS, "12") | dict.fromkeys(PRICES, "3") | {"PricingQuantity": "4", "ConsumedQuantity": "4"},
        category("Usage"),
    ),
    "49 a number of thirty decimals": several(
        dict.fromkeys(COSTS, f"0.{'123456789' * 3}123") | dict.fromkeys(PRICES, "") | UNPRICED,
        category("Credit"),
    ),
    "an average of fals prices": several(
        dict.fromkeys(("ListUnitPrice", "PricingCurrencyListUnitPrice"), "0.025000000000000001"), category("Usage")
    ),
    "usage at a dynamic price": once("PricingCategory", "Dynamic"),
    "usage that is free": several(dict.fromkeys(COSTS, "0.0") | dict.fromkeys(PRICES, "0.0"), category("Usage")),
    "usage taken back in its period": several(
        dict.fromkeys(COSTS, "-0.1")
        | dict.fromkeys(PRICES, "0.025")
        | {"PricingQuantity": "-4", "ConsumedQuantity": "-4"},
        category("Usage"),
    ),
    "a correction of an earlier month": several(
        UNPRICED
        | dict.fromkeys(PRICES, "")
        | {
            "ChargeClass": "Correction",
            "ChargePeriodStart": "2025-08-01T00:00:00Z",
            "ChargePeriodEnd": "2025-09-01T00:00:00Z",
        },
        category("Usage"),
    ),
    "credits that are bought": several(
        {
            "ChargeCategory": "Purchase",
            "ChargeFrequency": "One-Time",
            "EffectiveCost": "0.0",
            "PricingCurrencyEffectiveCost": "0.0",
            "ConsumedQuantity": "",
            "ConsumedUnit": "",
        },
        category("Usage"),
    ),
    "a currency of its own to price in": several(
        {"PricingCurrency": "Tokens", "PricingCurrencyListUnitPrice": "25.0", "PricingCurrencyEffectiveCost": "7.0"},
        category("Usage"),
    ),
    "a commitment that was not used": several(
        {
            "CommitmentDiscountId": "c-1",
            "CommitmentDiscountCategory": "Spend",
            "CommitmentDiscountType": "Plan",
            "CommitmentDiscountStatus": "Unused",
            "CommitmentDiscountQuantity": "1",
            "CommitmentDiscountUnit": "Hours",
            "ResourceId": "c-1",
            "ResourceType": "Plan",
            "ConsumedQuantity": "",
            "ConsumedUnit": "",
        },
        category("Usage"),
    ),
}


@pytest.mark.parametrize("mutate", VALID.values(), ids=VALID)
def test_what_is_valid_is_not_flagged(mutate: Mutation) -> None:
    assert found(mutate()) == set()


def test_the_line_of_a_finding_is_the_first_of_its_row_even_after_quoted_line_ends() -> None:
    rows = base_rows()
    rows[0] = rows[0] | {"ChargeDescription": "a\nb\nc"}
    rows[2] = rows[2] | {"BilledCost": "$1", "ChargeDescription": "d\ne"}
    (finding,) = check(to_csv(rows)).findings.kept
    assert (finding.rule.id, finding.line, finding.column, finding.value) == (
        "BilledCost-C-002-M",
        6,
        "BilledCost",
        "$1",
    )


def test_findings_are_all_counted_but_kept_in_part() -> None:
    checker = Checker(keep=2)
    checker.feed(everywhere("Tags", lambda _: "none of it")())
    report = checker.finish()
    assert (sum(report.findings.counts.values()), len(report.findings.kept)) == (30, 2)


def test_a_version_has_its_own_columns_and_rules() -> None:
    data = to_csv(base_rows())
    assert check(data).version == "1.2"
    missing = {"CAU-CostAndUsage-D-075-M", "CAU-CostAndUsage-D-076-M"}
    assert found(data, "1.4") == {*missing, "X-ColumnVersion"}
    assert "X-ColumnVersion" in found(data, "1.1")
    unpriced = several({"SkuPriceId": "", "SkuPriceDetails": "", "ChargeClass": "Correction"}, category("Usage"))()
    assert found(unpriced, "1.2") == set()
    assert "CAU-ListUnitPrice-C-012-C" in found(unpriced, "1.3")


def test_rows_that_occur_twice_are_findings_only_where_the_version_says_that_none_does() -> None:
    assert found(duplicate(), "1.2") == set()
    assert "X-DuplicateRow" in found(duplicate(), "1.4")


def test_invoices_are_summed_up_to_the_last_digit() -> None:
    rows = [row | {"InvoiceId": f"in-{place % 2}"} for place, row in enumerate(base_rows())]
    wanted = [sum(Decimal(row["BilledCost"]) for row in rows if row["InvoiceId"] == f"in-{place}") for place in (0, 1)]
    sums = check(to_csv(rows)).invoices
    assert {key: total.billed for key, total in sums.items()} == {
        ("in-0", "USD"): wanted[0],
        ("in-1", "USD"): wanted[1],
    }


def test_beyond_its_reach_a_duplicate_is_missed_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DUPLICATE_REACH", 5)
    rows = base_rows()
    report = check(to_csv([*rows[:20], rows[15], rows[0]]), "1.4")
    assert {rule.id: count for rule, count in report.findings.counts.items()}["X-DuplicateRow"] == 1
    assert report.notes == ["duplicates were searched within 5 rows of each other"]


def test_an_invoice_of_thirty_decimals_is_summed_up_exactly() -> None:
    costs = ["1000000000.0", f"0.{'0' * 29}1"]
    data = to_csv([{"InvoiceId": "in-1", "BillingCurrency": "USD", "BilledCost": cost} for cost in costs],
                  ["InvoiceId", "BillingCurrency", "BilledCost"])  # fmt: skip
    assert check(data).invoices["in-1", "USD"].billed == Decimal(f"1000000000.{'0' * 29}1")


@pytest.mark.parametrize("last", [b'"x"y,z', b",".join([b"1"] * 90)])
def test_a_wrong_last_row_without_a_line_end_is_a_finding_unless_it_may_go_on(last: bytes) -> None:
    assert found(to_csv(base_rows()) + last) == {"X-CsvRecord"}


def test_a_rule_that_a_version_has_no_more_is_not_applied() -> None:
    names = ["InvoiceIssuerName", "ProviderName", "BilledCost"]
    data = to_csv([{"InvoiceIssuerName": "Reseller", "ProviderName": "fal", "BilledCost": "1.5"}], names)
    assert "BilledCost-C-005-C" in found(data, "1.2")
    assert "BilledCost-C-005-C" not in found(data, "1.3")
    assert "BilledCost-C-005-C" not in {rule.id for rule in check(data, "1.3").outcomes()}


def test_what_is_remembered_is_bounded_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MOST_REMEMBERED", 3)
    names = ["BilledCost", "BillingCurrency", "InvoiceId", "SkuId", "SkuPriceId"]
    rows = [{"BilledCost": "1.5", "BillingCurrency": "USD", "InvoiceId": f"in-{place}"} for place in range(5)]
    rows += [{"BilledCost": "1.5", "BillingCurrency": "EUR", "InvoiceId": f"in-{place}"} for place in (0, 4)]
    rows += [{"SkuId": f"sku-{place}", "SkuPriceId": f"price-{place}"} for place in range(5)]
    rows += [{"SkuId": "other", "SkuPriceId": f"price-{place}"} for place in (2, 3)]
    report = check(to_csv(rows, names))
    counts = {rule.id: count for rule, count in report.findings.counts.items()}
    assert (counts["SkuPriceId-C-008-M"], counts["X-InvoiceCurrency"]) == (1, 1)
    sums = {key: total.billed for key, total in report.invoices.items()}
    assert sums == {(f"in-{place}", "USD"): Decimal("1.5") for place in range(3)}
    assert sorted(report.notes) == [
        "invoices beyond 3 were not summed up",
        "more than 3 values of InvoiceId were not compared",
        "more than 3 values of SkuPriceId were not compared",
    ]


def test_deprecated_columns_may_be_left_out_where_their_successor_is_there() -> None:
    def file(version: str, *left_out: str) -> bytes:
        names = [column.name for column in columns_of(version) if column.name not in left_out]
        return to_csv([row | {"ServiceProviderName": "fal", "HostProviderName": "fal"} for row in base_rows()], names)

    assert found(file("1.3", "ProviderName", "PublisherName"), "1.3") == set()
    missing = found(file("1.3", "ServiceProviderName", "ProviderName"), "1.3")
    assert missing == {"CAU-CostAndUsage-D-076-M", "CostAndUsage-D-038-M"}
    both = found(file("1.3", "ProviderName"), "1.2")
    assert {"CostAndUsage-D-038-M", "X-ColumnVersion"} <= both


def test_a_file_that_was_cut_off_is_an_error() -> None:
    data = to_csv(base_rows())
    with pytest.raises(TruncatedFileError, match="ends inside line 33"):
        check(data[:-200])
    with pytest.raises(TruncatedFileError, match="inside the quoted field"):
        check(data[: data.rfind(b"shop")])


def told(data: bytes, version: str | None, piece: int, polars_from: float = math.inf) -> object:
    """Return all that a report has, or the error."""
    try:
        report = check(data, version, piece, polars_from)
    except FocusError as error:
        return str(error)
    sums = {key: (total.billed, total.rows, total.left_out, total.known) for key, total in report.invoices.items()}
    findings = report.findings
    return report.rows, findings.counts, findings.attributes, findings.kept, sums, report.notes


@pytest.mark.parametrize("mutate", [*(mutate for mutate, _ in WRONG.values()), *VALID.values()], ids=[*WRONG, *VALID])
def test_rows_that_are_taken_together_are_judged_as_one_by_one(mutate: Mutation) -> None:
    data = mutate()
    for version in ("1.2", "1.4"):
        assert told(data, version, len(data)) == told(data, version, 300)


def test_rows_that_are_taken_together_may_be_twice_or_without_a_cost() -> None:
    rows = base_rows()[:20]
    for twice in ([*rows, rows[3]], [*rows, *rows]):
        counts = check(to_csv(twice), "1.4", piece=1_000_000).findings.counts
        assert {rule.id: count for rule, count in counts.items()}["X-DuplicateRow"] == len(twice) - len(rows)
    checker = Checker("1.2", ignored=["BilledCost-C-003-M"])
    checker.feed(to_csv([*rows, rows[0] | {"BilledCost": ""}]))
    (total,) = checker.finish().invoices.values()
    assert (total.rows, total.left_out) == (20, 1)


@given(st.lists(st.sampled_from(range(12)), min_size=20, max_size=60), st.integers(1000, 9000))
@settings(max_examples=examples(6, long=100))
def test_rows_of_any_order_are_judged_together_as_one_by_one(places: list[int], piece: int) -> None:
    rows = [
        *base_rows()[-8:],
        base_rows()[0] | {"ServiceName": "fal Billing"},
        base_rows()[1] | {"InvoiceId": "in-2"},
        base_rows()[2] | {"BilledCost": ""},
        base_rows()[3] | {"ChargePeriodEnd": "2025-10-01T03:00:00Z", "ListCost": "0.9"},
    ]
    data = to_csv([rows[place] for place in places])
    for version in ("1.2", "1.4"):
        assert told(data, version, piece) == told(data, version, 300)


HARMLESS = [
    *base_rows()[:8],
    base_rows()[0] | {"ChargeDescription": '=1, "two"', "x_Environment": "a;b"},
    base_rows()[1] | {"InvoiceId": "in-2", "ServiceName": "\u00e9\u6f22", "SkuId": '"quoted"', "SkuPriceId": '"q"'},
    base_rows()[2] | {"BillingCurrency": "EUR", "PricingCurrency": "Tokens", "InvoiceId": "", "x_Environment": "NA"},
    base_rows()[3] | {"ChargeClass": "Correction", "PricingQuantity": "", "PricingUnit": ""},
    base_rows()[4] | {"Tags": "", "SubAccountId": "", "SubAccountName": "", "SubAccountType": ""},
]
HARMFUL = [
    base_rows()[5] | {"BilledCost": "NaN"},
    base_rows()[6] | {"ListCost": "0.000001"},
    base_rows()[7] | {"SkuId": "another"},
    base_rows()[8] | {"ChargePeriodEnd": "2025-10-01T03:00:00Z"},
    base_rows()[9] | {"ServiceCategory": "Compute", "ServiceSubcategory": "Containers"},
    base_rows()[10] | {"ChargeDescription": "two\nlines"},
    base_rows()[11] | {"Tags": '{"a": 1E99}'},
    base_rows()[12] | {"BilledCost": "", "SkuPriceId": "N/A"},
    *base_rows()[-2:],
]


@given(
    st.lists(st.lists(st.sampled_from(range(len(HARMLESS))), min_size=1, max_size=12), min_size=1, max_size=4),
    st.lists(st.sampled_from([None, None, *range(len(HARMFUL))]), min_size=4, max_size=4),
    st.integers(100, 9000),
)
@settings(max_examples=examples(6, long=100))
def test_blocks_that_go_through_polars_are_judged_as_row_by_row(
    blocks: list[list[int]], harmful: list[int | None], piece: int
) -> None:
    pytest.importorskip("polars")
    rows = []
    for places, harm in zip(blocks, harmful, strict=False):
        rows += [HARMLESS[place] for place in places] + ([] if harm is None else [HARMFUL[harm]])
    data = to_csv(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "POLARS_BLOCK", 3000)
        assert told(data, "1.2", piece, polars_from=0) == told(data, "1.2", 300)
        assert told(data[:-1], "1.2", piece, polars_from=0) == told(data[:-1], "1.2", 300)


@pytest.mark.long
@pytest.mark.parametrize("mutate", [*(mutate for mutate, _ in WRONG.values()), *VALID.values()], ids=[*WRONG, *VALID])
def test_files_that_go_through_polars_are_judged_as_row_by_row(
    mutate: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr(checks, "POLARS_BLOCK", 2500)
    data = mutate()
    assert told(data, "1.2", 1000, polars_from=0) == told(data, "1.2", 300)


@pytest.mark.parametrize("place", range(len(HARMFUL)))
def test_one_row_that_breaks_something_in_a_block_is_found(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr(checks, "POLARS_BLOCK", 20_000)
    data = to_csv([*HARMLESS * 4, HARMFUL[place], *HARMLESS * 4])
    assert told(data, "1.2", 1000, polars_from=0) == told(data, "1.2", 300)


@pytest.mark.parametrize(
    "spoil",
    [
        # A field too many and a field too few, which are as many commas as there should be.
        lambda lines: [*lines[:20], lines[20] + b",", lines[21].rpartition(b",")[0], *lines[22:]],
        lambda lines: [lines[0], lines[1] + b",", *lines[2:20], lines[20].rpartition(b",")[0], *lines[21:]],
        lambda lines: [*lines[:20], b"", *lines[20:]],
        lambda lines: [*lines[:20], lines[20] + b"\r", *lines[21:]],
        lambda lines: [*lines[:20], lines[20].replace(b"fal,", b'f"al,', 1), *lines[21:]],
        lambda lines: [*lines[:20], lines[20].replace(b"fal,", b'"fal",', 1), *lines[21:]],
        lambda lines: [*lines[:20], lines[20].replace(b"fal,", b'"fal"x,', 1), *lines[21:]],
        lambda lines: [*lines[:20], lines[20].replace(b",,", b',"",', 1), *lines[21:]],
        lambda lines: [*lines[:20], lines[20].replace(b"fal,", b"f\xc4l,", 1), *lines[21:]],
        lambda lines: [*lines[:20], lines[20].replace(b"fal,", b"f\x00l,", 1), *lines[21:]],
    ],
)
def test_lines_that_are_none_are_left_to_the_careful_way(
    spoil: Callable[[list[bytes]], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr(checks, "POLARS_BLOCK", 20_000)
    data = b"\n".join(spoil(to_csv(HARMLESS * 5).split(b"\n")))
    for first in (to_csv(HARMLESS[:2]), b""):
        file = first + data.partition(b"\n")[2] if first else data
        assert told(file, "1.2", 1000, polars_from=0) == told(file, "1.2", 300)


@pytest.mark.parametrize("separator", [b",", b";"])
def test_parts_and_headers_in_between_are_taken_with_polars_as_without(
    separator: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polars")
    monkeypatch.setattr(checks, "POLARS_BLOCK", 20_000)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator.decode(), lineterminator="\n")
    writer.writerows([header(), *([row.get(name, "") for name in header()] for row in HARMLESS)])
    part = text.getvalue().encode()
    seen = []
    for polars_from in (0, math.inf):
        checker = Checker("1.2", polars_from=polars_from)
        for name in ("one", "two"):
            checker.begin_part(name)
            # Each part has its header again and again.
            data = part * 5
            for start in range(0, len(data), 3000):
                checker.feed(data[start : start + 3000])
        report = checker.finish()
        sums = {key: (total.billed, total.rows, total.left_out) for key, total in report.invoices.items()}
        seen.append((report.rows, sums, report.findings.counts))
    assert seen[0] == seen[1]
    assert (seen[0][0], seen[0][2]) == (10 * len(HARMLESS), {})


ODD = [None, "", "a, b", 'a"b', "NULL", "-1.5", "1e3", "x", "2026-02-30", "0.1234567890123", "a\nb"]


def same_as_csv(cells: list[list[str | None]], step: int) -> bool:
    """Return whether tables of so many rows, twice, are judged as their rows in CSV are."""
    polars = pytest.importorskip("polars")
    module = pytest.importorskip("exporter.focus.polars_reader")
    frame = polars.DataFrame(
        cells, schema=[(str(place), polars.String) for place in range(len(cells[0]))], orient="row"
    )
    tables = [module.Table(frame[start : start + step]) for start in range(0, frame.height, step)]
    seen = []
    for pieces in (tables, [table.csv() for table in tables]):
        checker = Checker("1.2")
        for part in ("a.parquet", "b.parquet"):
            checker.begin_part(part)
            for piece in (to_csv([]), *pieces):
                checker.feed(piece)
        report = checker.finish()
        found = [(finding.rule.id, finding.column, finding.value) for finding in report.findings.kept]
        seen.append((report.rows, report.findings.counts, found, report.invoices))
    return seen[0] == seen[1]


def cells() -> list[list[str | None]]:
    return [[row.get(name) or None for name in header()] for row in base_rows()[:12]]


@given(st.data())
@settings(max_examples=examples(5, long=200))
def test_tables_are_judged_as_their_rows_in_csv(drawn: st.DataObject) -> None:
    rows = cells()
    for _ in range(drawn.draw(st.integers(0, 2))):
        row = rows[drawn.draw(st.integers(0, len(rows) - 1))]
        row[drawn.draw(st.integers(0, len(row) - 1))] = drawn.draw(st.sampled_from(ODD))
    assert same_as_csv(rows, drawn.draw(st.sampled_from([1, 5, 100])))


def test_an_empty_text_of_a_table_is_not_null() -> None:
    rows = cells()
    rows[3][header().index("ChargeDescription")] = ""
    assert same_as_csv(rows, 100)


def test_digits_of_other_scripts_are_no_number_with_polars_either() -> None:
    pytest.importorskip("polars")
    data = to_csv([row | {"ListCost": "1\u0663\u06643.32"} for row in base_rows()[:12]] * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "POLARS_BLOCK", 3000)
        assert told(data, "1.2", 900, polars_from=0) == told(data, "1.2", 300)
    assert any(rule.startswith("ListCost-") for rule in found(data, "1.2"))


def test_most_of_a_large_file_goes_through_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = pytest.importorskip("exporter.focus.rules.polars_blocks")
    monkeypatch.setattr(checks, "POLARS_BLOCK", 10_000)
    proved: list[int] = []
    facts = blocks.PolarsBlocks.facts

    def counted(self: object, block: list[bytes]) -> object:
        found = facts(self, block)
        proved.append(0 if found is None else found.rows)
        return found

    monkeypatch.setattr(blocks.PolarsBlocks, "facts", counted)
    data = to_csv([*base_rows()[:30]] * 20)
    report = check(data, "1.2", 700, polars_from=0)
    assert (report.rows, report.is_clean) == (600, True)
    assert sum(proved) > 500
    assert 0 not in proved


@given(st.data())
def test_whatever_the_bytes_there_is_a_report_or_a_clean_error(data: st.DataObject) -> None:
    file = bytearray(to_csv(base_rows()[:12]))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(file) - 1))
        length = data.draw(st.integers(0, 3))
        file[place : place + length] = data.draw(st.binary(max_size=4))
    version = data.draw(st.sampled_from([None, "1.0", "1.2", "1.4"]))
    assert told(bytes(file), version, len(file)) == told(bytes(file), version, 300)
    try:
        report = check(bytes(file), version, piece=300)
    except FocusError:
        return
    assert sum(total.rows + total.left_out for total in report.invoices.values()) in {0, report.rows}
    for shown in (check_text, check_json, check_junit):
        assert shown("f.csv", report)


def test_a_file_of_nothing_is_an_error() -> None:
    with pytest.raises(WrongContentError, match="empty"):
        check(b"")


def test_the_base_file_is_read_by_the_standard_library_as_it_was_meant() -> None:
    read = list(csv.DictReader(io.StringIO(to_csv(base_rows()).decode())))
    assert [{name: value for name, value in row.items() if value} for row in read] == base_rows()
