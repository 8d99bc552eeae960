"""The README tells what the code does: its tables are the code's, its commands are those that are run."""

import re

import pytest
from readme_tables import README, TABLES, with_tables

TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_as_the_code_has_it(name: str) -> None:
    wrong = f"the table of {name} in README.md is out of date: run python tests/readme_tables.py"
    assert TABLES[name]() in with_tables(TEXT), "with_tables must keep every table"
    assert f"<!-- {name} -->\n{TABLES[name]()}<!-- end of {name} -->" in TEXT, wrong


def test_every_metric_and_setting_the_text_speaks_of_exists() -> None:
    prose = re.sub(r"<!-- (\w+) -->.*?<!-- end of \1 -->", "", TEXT, flags=re.DOTALL)
    tables = with_tables(TEXT)
    for name in sorted(set(re.findall(r"\bfal_[a-z_]+[a-z]\b", prose)) - {"fal_exporter_collector_process"}):
        assert f"`{name}`" in tables, f"README.md speaks of {name}, which is in no table"
    for name in sorted(set(re.findall(r"\bFAL_EXPORTER_[A-Z_]+[A-Z]\b", prose))):
        assert f"`{name}`" in tables, f"README.md speaks of {name}, which is in no table"


def test_the_two_commands_that_do_all_the_set_up_are_there() -> None:
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/fal-exporter demo" in TEXT
    assert "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest" in TEXT


def test_every_file_the_text_points_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if "://" not in target:
            assert (README.parent / target).exists(), target
