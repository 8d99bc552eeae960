import json

import pytest

from exporter.focus.columns import columns_of
from exporter.focus.findings import FocusError
from exporter.web.mcp import tools
from exporter.web.mcp.tools import check


def test_a_file_is_checked_against_the_version_that_is_named() -> None:
    header = ",".join(f'"{column.name}"' for column in columns_of("1.2"))
    answer = check({"csv": f"{header}\n", "focus_version": "1.2"})
    assert answer.document["focus_version"] == "1.2"
    assert answer.document["counts"] == {"no-rows": 1}
    assert answer.document["clean"] is False
    assert "no-rows" in answer.text


def test_findings_are_counted_in_full_and_told_in_part() -> None:
    answer = check({"csv": "BilledCost,BillingCurrency\n" + "x,USD\n" * 50})
    counts, findings = answer.document["counts"], answer.document["findings"]
    assert isinstance(counts, dict)
    assert isinstance(findings, list)
    (rule,) = {name for name in counts if counts[name] >= 50}
    assert sum(finding["rule"] == rule for finding in findings) == 5
    assert json.dumps(answer.document)


def test_a_check_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "LONGEST_CHECK", 0.01)
    with pytest.raises(FocusError, match="takes longer than"):
        check({"csv": "BilledCost\n1\n"})


def test_text_that_no_file_can_hold_is_found_out() -> None:
    counts = check({"csv": "BilledCost,ServiceName\n1,\ud800\n"}).document["counts"]
    assert isinstance(counts, dict)
    assert counts["encoding"] == 1
