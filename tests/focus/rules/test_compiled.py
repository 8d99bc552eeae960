"""Rules compiled for a header: what they are applied to, and what is remembered."""

import pytest
from focus.conftest import base_rows, header, to_csv

from exporter.focus import csv_parser
from exporter.focus.check_report import Outcome
from exporter.focus.checks import Checker
from exporter.focus.rules import compiled
from exporter.focus.rules.compiled import Broken, Compiled
from exporter.focus.rules.conditions import FILLED
from exporter.focus.rules.table import Applicability, by_id, rules_of


def fields(**changes: str) -> list[bytes]:
    row = base_rows()[0] | changes
    return [row.get(name, "").encode() for name in header()]


def test_what_differs_in_every_row_needs_no_plan_of_its_own() -> None:
    rules = Compiled(header(), "1.2", Applicability())
    _, plan = rules.plan(fields(ResourceId="a", Tags="{}", BilledCost="1.5", ServiceName="b"))
    _, other = rules.plan(fields(ResourceId="c", Tags='{"d":1}', BilledCost="2.5", ServiceName="d"))
    assert plan is other
    _, of_tax = rules.plan(fields(ResourceId="a", ChargeCategory="Tax"))
    assert of_tax is not plan


def test_tokens_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_parser, "MOST_FIELDS", 3)
    tokens = Compiled(["BilledCost", "ServiceName"], "1.2", Applicability()).columns[0]
    for text in (b"1.5", b"-2.5", b"x", b"9" * 501):
        assert tokens[text] is not None
    assert set(tokens) == {b"1.5", b"-2.5", b"x"}
    assert tokens[b"x"] is tokens[b"x"]
    assert isinstance(tokens[b"x"], Broken)
    assert tokens[b"3.5"] is FILLED
    assert set(tokens) == {b"3.5"}


def test_plans_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_MOST_PLANS", 2)
    rules = Compiled(header(), "1.2", Applicability())
    first = rules.plan(fields())[1]
    assert rules.plan(fields())[1] is first
    for category in ("Tax", "Credit"):
        rules.plan(fields(ChargeCategory=category))
    assert rules.plan(fields())[1] is not first


def outcome(name: str, names: list[str], **stated: bool) -> tuple[Outcome, str]:
    checker = Checker("1.2", applicability=Applicability(stated))
    checker.feed(to_csv(base_rows(), names))
    return checker.finish().outcomes()[by_id()[name]]


def test_a_rule_that_does_not_apply_says_why() -> None:
    without = [name for name in header() if name not in {"RegionId", "ChargeClass"}]
    assert outcome("RegionId-C-001-M", without) == (Outcome.NOT_APPLICABLE, "the file has no column RegionId")
    assert outcome("RegionName-C-004-C", without) == (Outcome.NOT_APPLICABLE, "the file has no column RegionId")
    # Whether a row is a correction cannot be told.
    assert outcome("SkuId-C-005-C", without) == (Outcome.NOT_APPLICABLE, "the file has no column ChargeClass")
    lacking = "REGION_SUPPORTED is stated as unsupported"
    assert outcome("RegionId-C-001-M", header(), REGION_SUPPORTED=False) == (Outcome.NOT_APPLICABLE, lacking)
    unsaid = "it is not said whether REGION_SUPPORTED; see --applicability"
    assert outcome("CostAndUsage-D-063-C", without) == (Outcome.NOT_APPLICABLE, unsaid)
    assert outcome("CostAndUsage-D-063-C", without, REGION_SUPPORTED=True) == (Outcome.BROKEN, "")
    assert outcome("CostAndUsage-D-063-C", header(), REGION_SUPPORTED=True) == (Outcome.HOLDS, "")
    unsaid = "it is not said whether ACCOUNT_NAMING_SUPPORTED; see --applicability"
    assert outcome("BillingAccountName-C-003-C", header()) == (Outcome.NOT_APPLICABLE, unsaid)
    assert outcome("BilledCost-C-007-M", header()) == (Outcome.NOT_DECIDABLE, "needs the invoice")
    assert outcome("Tags-C-002-O", header())[0] is Outcome.PERMISSION


def test_every_rule_of_the_version_has_an_outcome() -> None:
    for version in ("1.0", "1.2", "1.4"):
        checker = Checker(version)
        checker.feed(to_csv(base_rows()))
        report = checker.finish()
        assert {*report.outcomes(), *report.composites()} == set(rules_of(version))


def test_a_composite_is_broken_where_a_part_is() -> None:
    checker = Checker("1.2")
    checker.feed(to_csv([base_rows()[0] | {"SkuId": ""}]))
    composites = {rule.id: outcome for rule, outcome in checker.finish().composites().items()}
    assert composites["SkuId-C-003-M"] is composites["CostAndUsage-D-000-M"] is Outcome.BROKEN
    assert composites["BilledCost-C-000-M"] is Outcome.HOLDS
    assert composites["CommitmentDiscountId-C-003-C"] is Outcome.NOT_DECIDABLE
