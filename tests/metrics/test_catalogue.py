import re
from pathlib import Path

import pytest

from exporter.metrics.catalogue import CATALOGUE, DEFAULT_CHARGE_LABELS, RENAMED, markdown_table

CONTRACT = (Path(__file__).parent / "golden" / "names.txt").read_text().splitlines()


def test_every_name_that_rules_and_dashboards_rely_on_is_there() -> None:
    assert set(CONTRACT) <= set(CATALOGUE)


def test_only_counters_are_called_total() -> None:
    for family in CATALOGUE.values():
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name


def test_names_keep_clear_of_those_fal_itself_exposes() -> None:
    for family in CATALOGUE.values():
        assert re.fullmatch(r"fal_[a-z][a-z_]*", family.name), family.name
        # One name among fal's own, as users were promised it; fal exposes none that ends in a unit of money.
        is_promised = family.name == "fal_app_burn_ceiling_usd_per_hour"
        assert is_promised or not family.name.startswith(("fal_app_", "fal_requests_total")), family.name


def test_help_is_a_sentence_that_names_the_unit() -> None:
    for family in CATALOGUE.values():
        assert family.help.endswith("."), family.name
        assert "\n" not in family.help, family.name
        words = {"usd": "US dollars", "seconds": "second", "ratio": " 1", "": ""}
        assert words[family.unit] in family.help, family.name


def test_money_is_scaled_from_nano_dollars() -> None:
    for family in CATALOGUE.values():
        is_money = "usd" in family.name.split("_")
        is_gpu_time = "gpu" in family.name.split("_") and family.unit == "seconds"
        assert (family.scale == 10**9) == (is_money or is_gpu_time or family.charge_labels), family.name


def test_charge_labels_come_before_a_familys_own() -> None:
    quantity = CATALOGUE["fal_usage_quantity_total"]
    assert quantity.labels_with(("account", "model")) == ("account", "model", "unit")
    assert CATALOGUE["fal_unit_price_usd"].labels_with(("account",)) == (
        *(label for label in DEFAULT_CHARGE_LABELS if label != "team"),
        "unit",
    )


def test_the_readme_table_has_a_row_for_every_family() -> None:
    rows = markdown_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(CATALOGUE)
    assert rows[3].startswith("| `fal_usage_quantity_total` | counter | *charge labels*, `unit` | Units billed")


@pytest.mark.parametrize(("former", "present"), RENAMED.items())
def test_a_former_name_says_what_to_use_instead(former: str, present: str) -> None:
    family = CATALOGUE[former]
    assert family.help == (
        f"Deprecated: renamed to {present}; this name will be removed in the next version. {CATALOGUE[present].help}"
    )
    assert (family.kind, family.labels_with(("account",))) == (
        CATALOGUE[present].kind,
        CATALOGUE[present].labels_with(("account",)),
    )
