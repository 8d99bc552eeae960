from decimal import Decimal

import pytest
from web.mcp.conftest import COST

from exporter.charges import NANO
from exporter.queries.parameters import QuestionError
from exporter.web.mcp.tool import Known
from exporter.web.mcp.tools import invoices_tool, usage_tool

YESTERDAY = {"start": "2026-11-19", "end": "2026-11-20"}


def test_amounts_are_exact_text(known: Known) -> None:
    answer = usage_tool(known).answer(YESTERDAY)
    total = answer.document["total"]
    assert isinstance(total, dict)
    assert total["spend"] == str(Decimal(24 * (COST + 3)) / NANO)
    assert total["gpu_seconds"] == "86400"
    assert total["quantities"] == {"image": "72", "second": "192", "machine_second": "12"}
    assert f"{total['spend']} in total" in answer.text


def test_the_text_has_a_row_for_every_group(known: Known) -> None:
    answer = usage_tool(known).answer({**YESTERDAY, "group_by": ["model", "app"]})
    lines = [line for line in answer.text.splitlines() if line.startswith("|")]
    assert lines[0] == "| model | app | spend | discount | gpu_seconds | quantities |"
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| fal-ai/veo3", "-"],
        ["| odd\\|name", "-"],
        ["| -", "shop"],
        ["| -", "-"],
    ]
    assert "192 second" in lines[2]
    assert answer.text.splitlines()[-2:] == [
        "Complete; data through 2026-11-20T00:00:00Z, settled through unknown.",
        "Days and months are those of UTC.",
    ]


def test_a_total_of_nothing_is_told_as_such(known: Known) -> None:
    answer = usage_tool(known).answer({**YESTERDAY, "model": "fal-ai/none"})
    assert [line for line in answer.text.splitlines() if line.startswith("|")] == ["| spend |", "| --- |", "| 0 |"]


def test_missing_hours_are_told(known: Known) -> None:
    answer = usage_tool(known).answer({"start": "2026-11-18", "end": "2026-11-20"})
    assert answer.document["complete"] is False
    assert "NOT complete" in answer.text
    assert "Note: The ledger knows every hour from 2026-11-19T00:00Z on" in answer.text


def test_a_list_may_be_written_as_text_and_null_is_nothing(known: Known) -> None:
    tool = usage_tool(known)
    as_list = tool.answer({**YESTERDAY, "group_by": ["model", "hour"], "gpu_class": ["H100"]})
    assert tool.answer({**YESTERDAY, "group_by": "model,hour", "gpu_class": "h100", "team": None}) == as_list


def test_pages_add_up_to_the_whole(known: Known) -> None:
    tool = usage_tool(known)
    question: dict[str, object] = {**YESTERDAY, "group_by": ["model", "hour"], "limit": 50}
    rows: list[object] = []
    while True:
        answer = tool.answer(question)
        page = answer.document["usage"]
        assert isinstance(page, list)
        rows += page
        cursor = answer.document["next_cursor"]
        assert (cursor is not None) == (len(page) == 50)
        if cursor is None:
            break
        assert f"cursor {cursor}" in answer.text
        question["cursor"] = cursor
    assert len(rows) == 72
    assert sum(Decimal(row["spend"]) for row in rows) == Decimal(24 * (COST + 3)) / NANO


def test_without_a_limit_an_answer_is_of_a_hundred_rows_at_most(known: Known) -> None:
    document = usage_tool(known).answer({**YESTERDAY, "group_by": ["model", "app", "team", "hour"]}).document
    rows = document["usage"]
    assert isinstance(rows, list)
    assert len(rows) == 100
    assert document["next_cursor"]


def test_invoices_come_newest_first_in_pages(known: Known) -> None:
    tool = invoices_tool(known)
    first = tool.answer({"limit": 6})
    cursor = first.document["next_cursor"]
    second = tool.answer({"limit": 6, "cursor": cursor})
    numbers = []
    for answer in (first, second):
        page = answer.document["invoices"]
        assert isinstance(page, list)
        numbers += [invoice["number"] for invoice in page]
    assert numbers == [f"F-{number:02}" for number in range(10, 0, -1)]
    assert second.document["next_cursor"] is None
    assert tool.answer({"limit": 10}).document["next_cursor"] is None
    assert f"cursor {cursor}" in first.text
    assert str(Decimal(COST) / NANO) in first.text
    with pytest.raises(QuestionError, match="belongs to another question"):
        tool.answer({"status": "paid", "cursor": cursor})


def test_invoices_can_be_filtered(known: Known) -> None:
    tool = invoices_tool(known)
    assert tool.answer({"status": ["draft"]}).text == "There are no such invoices."
    (found,) = tool.answer({"period": "2026-03"}).document["invoices"]
    assert found["number"] == "F-03"
