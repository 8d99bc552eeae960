"""Judged by an independent program, focus-data-toolkit: it finds nothing in 1.4 but what we find.

Judged are the mutations of all rules of 1.4 and their neighbours. What differs is listed with its reason.
"""

from collections.abc import Mapping
from functools import cache

import programs
import pytest
from focus.rules.mutations import File, base, mutation, neighbour
from focus.rules.test_mutations import IMPLIED

from exporter.focus.rules.table import Kind, Rule, rules

programs.required_module("focus_data_toolkit", "pip:focus-data-toolkit>=0.14")
pytestmark = pytest.mark.long

VIRTUAL = ("PricingCurrency", "bad_currency")
"""The toolkit takes only national currencies; FOCUS lets prices be in virtual ones."""

STRICTER: Mapping[str, str] = {
    "ChargeCategory-C-003-M": "a category that is none is not Usage to the toolkit; to us it is one mistake",
    "ServiceCategory-C-002-M": "a subcategory does not belong to null; to us it is one mistake",
    "ServiceCategory-C-003-M": "a subcategory does not belong to a category that is none; to us it is one mistake",
    "ChargeClass-C-005-C": "a class that is none is no correction to the toolkit; to us it is one mistake",
    "BillingAccountId-C-001-M": "BillingAccountType has to be null then, and must not be: FOCUS contradicts itself",
    "ConsumedQuantity-C-004-C": "FOCUS lets the unit go with its quantity, which is one mistake",
}
"""Mutations of which the toolkit says more than we do."""

WITHDRAWN: Mapping[str, str] = {
    "CurrencyFormat-A-001-C": "HRK was a currency until 2022",
    "BillingCurrency-C-006-M": "HRK was a currency until 2022",
}
"""Neighbours that the toolkit refuses."""

OF_1_4 = [rule for rule in rules() if rule.kind.is_decidable and rule.is_in("1.4")]


def judged(file: File) -> set[tuple[str, str]]:
    """Return the columns in which the toolkit finds something, and what."""
    from focus_data_toolkit.model.validator import (  # noqa: PLC0415  optional
        COND_MULTIPLE_PRICING_CATEGORIES,
        COND_UNIT_PRICING,
        lint_focus_1_4_structure,
    )

    lines = [{name: row.get(name, "") for name in file.names} for row in file.rows]
    conditions = [COND_UNIT_PRICING, COND_MULTIPLE_PRICING_CATEGORIES]
    report = lint_focus_1_4_structure("Cost and Usage", lines, supported_conditions=conditions)
    return {(found.column or "", found.rule) for found in report.violations} - {VIRTUAL}


@cache
def alone_in_1_4(rule: Rule) -> File | None:
    """Return the mutation of a rule; None for one that 1.4 says twice, so that it cannot be broken alone there."""
    try:
        return mutation(rule, "1.4", IMPLIED.get(rule.id, set()))[0]
    except ValueError:
        assert rule.is_in("1.2")
        return None


def test_the_base_file_is_right() -> None:
    assert judged(base("1.4")) == set()


@pytest.mark.parametrize("rule", OF_1_4, ids=lambda rule: rule.id)
def test_it_finds_nothing_that_we_do_not(rule: Rule) -> None:
    file = alone_in_1_4(rule)
    if file is None or file.raw:
        return
    ours = {finding.column for finding in file.checked().findings.kept}
    more = {found for found in judged(file) if found[0] not in ours}
    # The toolkit takes a column that is missing for one of nulls.
    assert not more or rule.kind is Kind.PRESENCE or rule.id in STRICTER, more


@pytest.mark.parametrize("rule", OF_1_4, ids=lambda rule: rule.id)
def test_what_is_right_to_us_is_right_to_it(rule: Rule) -> None:
    file = neighbour(rule, "1.4")
    if not file.raw:
        assert not judged(file) or rule.id in WITHDRAWN


def test_what_is_listed_differs() -> None:
    known = {rule.id: rule for rule in OF_1_4}
    for name in STRICTER:
        file = alone_in_1_4(known[name])
        assert file is not None
        assert {column for column, _ in judged(file)} - {item.column for item in file.checked().findings.kept}
    assert all(judged(neighbour(known[name], "1.4")) for name in WITHDRAWN)


def test_it_finds_most_of_what_it_looks_for() -> None:
    # So that the tests above do not pass because nothing is ever found.
    files = [file for rule in OF_1_4 if (file := alone_in_1_4(rule)) is not None and not file.raw]
    assert sum(bool(judged(file)) for file in files) > len(files) / 2
