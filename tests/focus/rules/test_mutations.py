"""Each rule that a file can break is broken by one mutation alone, and not by a valid file nearby."""

import pytest
from focus.rules.mutations import base, pair_of, repaired

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


def newest(rule: Rule) -> str:
    """Return the newest version that has a rule, but 1.2 for those of its model."""
    return "1.2" if rule.is_in("1.2") else rule.until


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_the_base_file_breaks_nothing(version: str) -> None:
    report = base(version).checked()
    assert {rule.id: count for rule, count in report.findings.counts.items()} == {}


@pytest.mark.parametrize("rule", DECIDABLE, ids=lambda rule: rule.id)
def test_a_rule_is_broken_by_one_mutation_alone_and_not_by_its_neighbour(rule: Rule) -> None:
    pair = pair_of(rule, newest(rule))
    leader = by_id()[rule.values[0]] if rule.kind is Kind.SAME_AS else rule
    seen = []
    for file in pair.wrong:
        report = repaired(file, leader)
        if not report.broken[rule]:
            continue
        told = {broken.id for broken in report.findings.counts}
        seen.append(told)
        if len(told - IMPLIED.get(rule.id, set())) == 1:
            break
    else:
        pytest.fail(f"no mutation breaks {rule.id} alone: {seen}")
    others = []
    for file in pair.right:
        report = repaired(file, rule)
        if report.is_clean:
            break
        others.append({broken.id for broken in report.findings.counts})
    else:
        pytest.fail(f"no valid neighbour of {rule.id}: {others}")


def test_a_mutation_is_told_under_the_rule_itself_or_the_rule_that_it_is_part_of() -> None:
    told = {Kind.ATTRIBUTE, Kind.SAME_AS}
    for rule in DECIDABLE:
        if rule.kind in told:
            continue
        report = next(
            found for file in pair_of(rule, newest(rule)).wrong if (found := repaired(file, rule)).broken[rule]
        )
        assert report.findings.counts[rule], rule.id


def test_rules_that_are_the_same_name_rules_that_are_there() -> None:
    for rule in DECIDABLE:
        if rule.kind is Kind.SAME_AS:
            assert all(by_id()[name].kind.is_decidable for name in rule.values)
