"""Each rule that a file can break is broken by one mutation alone, and not by a valid file nearby."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from _pytest.mark import ParameterSet
from focus.rules.mutations import base, mutation, neighbour

from exporter.focus.columns import VERSIONS
from exporter.focus.rules.table import Kind, Rule, by_id, rules

IMPLIED = {
    # Subcategories have one category each, so two categories of a service are two subcategories too.
    "ServiceName-C-005-C": {"ServiceName-C-008-C"},
    # An account must not be null at all.
    "BillingAccountType-C-004-C": {"BillingAccountId-C-001-M"},
    # A status without a reservation is against two rules.
    "CapacityReservationId-C-005-C": {"CapacityReservationStatus-C-003-C"},
}
"""Rules that cannot be broken without others."""

DECIDABLE = [rule for rule in rules() if rule.kind.is_decidable]
_FEW_OF_A_KIND = 4


def _each_decidable() -> Iterator[ParameterSet]:
    """Yield every rule that a file can break: in every run the first few of each kind, of each version that ends it."""
    seen = Counter[tuple[Kind, str]]()
    for rule in DECIDABLE:
        alike = rule.kind, rule.until
        seen[alike] += 1
        is_one_more = seen[alike] > _FEW_OF_A_KIND and rule.id not in IMPLIED
        yield pytest.param(rule, id=rule.id, marks=pytest.mark.long if is_one_more else ())


def newest(rule: Rule) -> str:
    """Return the newest version that has a rule, but 1.2 for those of its model."""
    return "1.2" if rule.is_in("1.2") else rule.until


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_the_base_file_breaks_nothing(version: str) -> None:
    report = base(version).checked()
    assert {rule.id: count for rule, count in report.findings.counts.items()} == {}


@pytest.mark.parametrize("rule", [*_each_decidable()])
def test_a_rule_is_broken_by_one_mutation_alone_and_not_by_its_neighbour(rule: Rule) -> None:
    _, report = mutation(rule, newest(rule), IMPLIED.get(rule.id, set()))
    if rule.kind not in {Kind.ATTRIBUTE, Kind.SAME_AS}:
        assert report.findings.counts[rule] >= 1
    neighbour(rule, newest(rule))


def test_a_rule_without_a_pair_fails() -> None:
    unbreakable = replace(by_id()["RegionName-C-004-C"], kind=Kind.COMPOSITE)
    with pytest.raises(KeyError):
        mutation(unbreakable, "1.2")
    unheard_of = replace(by_id()["RegionName-C-004-C"], id="RegionName-C-009-C")
    with pytest.raises(ValueError, match="no mutation breaks RegionName-C-009-C alone"):
        mutation(unheard_of, "1.2")


def test_rules_that_are_the_same_name_rules_that_are_there() -> None:
    for rule in DECIDABLE:
        if rule.kind is Kind.SAME_AS:
            assert all(by_id()[name].kind.is_decidable for name in rule.values)
