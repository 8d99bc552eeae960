"""The table of rules and its conditions."""

import pytest

from exporter.focus.columns import COLUMNS, VERSIONS
from exporter.focus.rules.conditions import ABSENT, FILLED, WRONG, Condition, Token, parse_condition
from exporter.focus.rules.table import REASONS, Kind, Level, by_id, parts, rules, rules_of
from exporter.focus.rules.wording import says


def test_every_rule_has_an_id_of_its_own_and_says_something() -> None:
    assert len({rule.id for rule in rules()}) == len(rules())
    assert all(says(rule).strip() for rule in rules())


def test_rules_name_columns_and_versions_that_there_are() -> None:
    for rule in rules():
        if rule.kind is not Kind.COMPOSITE:
            assert set(rule.columns) <= set(COLUMNS), rule.id
        assert rule.since in VERSIONS
        assert rule.until in VERSIONS
        assert rule.since <= rule.until


def test_what_no_file_decides_has_a_reason_and_a_subject() -> None:
    for rule in rules():
        if rule.kind is Kind.UNDECIDABLE:
            assert rule.value in REASONS
            assert rule.note


def test_composites_consist_of_rules_that_there_are() -> None:
    for rule in rules():
        if rule.kind is Kind.COMPOSITE:
            assert all(part.kind is not Kind.COMPOSITE for part in parts(rule))
    assert {part.id for part in parts(by_id()["InvoiceId-C-000-O"])} == {
        *("InvoiceId-C-001-M", "InvoiceId-C-002-M", "InvoiceId-C-004-C", "InvoiceId-C-005-C"),
        *("InvoiceId-C-006-O", "InvoiceId-C-007-C"),
    }


def test_ids_have_the_data_set_before_them_from_1_3_on() -> None:
    cost, attribute, own = by_id()["BilledCost-C-003-M"], by_id()["NullHandling-A-001-C"], by_id()["X-NoRows"]
    assert [rule.name("1.2") for rule in (cost, attribute, own)] == [cost.id, attribute.id, own.id]
    assert [rule.name("1.3") for rule in (cost, attribute, own)] == [f"CAU-{cost.id}", attribute.id, own.id]
    assert by_id()["CAU-BilledCost-C-003-M"] is cost
    assert {rule.id for rule in rules_of("1.2")}.isdisjoint(rule.id for rule in rules() if rule.id.startswith("CAU-"))


def test_levels_are_those_of_the_ids() -> None:
    # The last letter says whether a rule is mandatory, conditional or optional; only optional ones are never MUST.
    assert not [
        rule.id for rule in rules() if rule.id.endswith("-O") and rule.level is Level.MUST and "-C-000" not in rule.id
    ]


ROW: dict[str, Token] = {
    "ChargeCategory": "Usage",
    "ChargeClass": None,
    "SkuId": FILLED,
    "PricingCurrency": WRONG,
    "ProviderName": "a",
    "InvoiceIssuerName": "b",
    "RegionId": ABSENT,
    "CommitmentDiscountStatus": ABSENT,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("ChargeCategory = Usage", True),
        ("ChargeCategory != Usage", False),
        ("ChargeCategory in Tax|Usage", True),
        ("ChargeClass != Correction", True),
        ("ChargeClass = Correction", False),
        ("ChargeClass is null", True),
        ("SkuId is null", False),
        ("SkuId is not null", True),
        ("ChargeCategory = Tax or SkuId is not null", True),
        ("ChargeCategory = Usage and ChargeClass is not null", False),
        ("ChargeCategory = Tax and ChargeClass is null or SkuId is not null", True),
        ("ProviderName != @InvoiceIssuerName", True),
        ("ProviderName = @InvoiceIssuerName", False),
        ("ProviderName != @ChargeClass", False),
        *((f"PricingCurrency {rest}", False) for rest in ("is null", "is not null", "= USD", "!= USD")),
        *((f"RegionId {rest}", False) for rest in ("is null", "is not null", "= eu")),
        ("CommitmentDiscountStatus != Unused", True),
        ("RegionId != @ProviderName", False),
    ],
)
def test_a_condition_holds(text: str, *, holds: bool) -> None:
    assert parse_condition(text).holds(ROW.__getitem__) is holds


def test_a_condition_is_said_in_words() -> None:
    text = "ChargeCategory in Tax|Credit and ChargeClass != Correction or SkuId is not null or ProviderName = @SkuId"
    assert str(parse_condition(text)) == (
        "ChargeCategory is Tax or Credit and ChargeClass is not Correction, or SkuId is not null, "
        "or ProviderName is SkuId"
    )
    assert str(Condition()) == ""


def test_what_is_no_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="'SkuId' is no condition"):
        parse_condition("SkuId")
