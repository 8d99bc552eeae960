from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from web.mcp.conftest import COST, MONTH, NOW

from exporter.charges import NANO
from exporter.forecasting.state import AccountOutlook, Outlook
from exporter.overview import AccountOverview, Overview, SourceOverview
from exporter.publication import Exposition, Publication
from exporter.queries.parameters import QuestionError
from exporter.queries.usage import parse_usage_question
from exporter.web.mcp.tool import Known, as_texts
from exporter.web.mcp.tools import balance_tool, budgets_tool, drivers_tool, forecast_tool, invoices_tool, usage_tool


def cells(text: str, row: int = 0) -> dict[str, str]:
    """Return a row of the table in a text."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return dict(zip(lines[0], lines[2 + row], strict=True))


def test_the_balance_tells_runway_and_locks(known: Known) -> None:
    answer = balance_tool(known).answer({})
    first, second = answer.document["accounts"]
    assert (first["balance"], first["runway_seconds"], first["locked"]) == ("-5", 180_000, ["exhausted_balance"])
    assert (first["credit_floor"], second["credit_floor"]) == ("-20", None)
    assert first["locks"] == [
        {"reason": "exhausted_balance", "advice": "the balance is exhausted; top up the balance."}
    ]
    assert "fal has locked default (exhausted_balance): the balance is exhausted; top up the balance." in answer.text
    assert (second["balance"], second["runway_seconds"]) == (None, None)
    assert list(cells(answer.text).items()) == [
        ("account", "default"),
        ("balance", "-5"),
        ("balance_at", "2026-11-20T12:30:00Z"),
        ("credit_floor", "-20"),
        ("runway", "2 days 2 hours"),
        ("locked", "exhausted_balance"),
    ]
    assert set(cells(answer.text, 1).values()) == {"unknown", "-"}


def test_a_credit_that_has_run_out_has_a_runway_of_nothing(known: Known) -> None:
    empty = Outlook((AccountOutlook("default", MONTH, 0, NOW, timedelta(0)),))
    published = Publication(1, NOW, Exposition(), Overview("1.2.3"), ready=True, outlook=empty)
    answer = balance_tool(Known(known.reader, lambda: published, known.zone, known.clock)).answer({})
    assert cells(answer.text)["runway"] == "0 seconds"


def test_a_budget_tells_forecast_burn_and_what_is_reached(known: Known) -> None:
    answer = budgets_tool(known).answer({"budget": "studio"})
    (budget,) = answer.document["budgets"]
    assert (budget["limit"], budget["spend"], budget["remaining"]) == ("10", "7", "3")
    assert [item["reached"] for item in budget["thresholds"]] == [True, False]
    shown = cells(answer.text)
    assert shown["reached"] == "50%"
    assert shown["forecast"] == "12 expected, 10 low, 15 high"
    assert shown["burn"] == "1.25 1h"


def test_that_no_budget_is_configured_is_told(known: Known) -> None:
    published = Publication(1, NOW, Exposition(), Overview("1.2.3"), ready=True)
    answer = budgets_tool(Known(known.reader, lambda: published, known.zone, known.clock)).answer({})
    assert answer.document["budgets"] == []
    assert answer.text.startswith("No budget is configured")


def test_the_forecast_is_of_the_month_of_each_account(known: Known) -> None:
    answer = forecast_tool(known).answer({"account": ["default"]})
    (account,) = answer.document["accounts"]
    assert (account["start"], account["end"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert account["spend"] == "7"
    assert account["forecast"] == {"expected": "0.000000012", "low": "10", "high": "0.000000015"}
    assert "0.000000012 expected" in cells(answer.text)["forecast"]


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
    assert "Note: The ledger has every hour from 2026-11-19T00:00Z on" in answer.text


def test_what_no_figure_has_is_said_with_every_figure(known: Known) -> None:
    published = known.latest()
    assert published is not None
    words = "The charges of compute machines are not in these figures: this key cannot read compute."
    account = AccountOverview("default", (SourceOverview("models", "", "up", NOW, NOW),), lacks=(words,))
    lacking = replace(known, latest=lambda: replace(published, overview=Overview("1", (account,))))
    for tool in (usage_tool, drivers_tool, forecast_tool, budgets_tool):
        answer = tool(lacking).answer({})
        notes = answer.document["notes"]
        assert isinstance(notes, list)
        assert f"default: {words}" in notes
        assert f"default: {words}" in answer.text
        assert words not in tool(known).answer({}).text


def test_a_list_may_be_written_as_text_and_null_is_nothing(known: Known) -> None:
    tool = usage_tool(known)
    as_list = tool.answer({**YESTERDAY, "group_by": ["model", "hour"], "gpu_class": ["H100"]})
    assert tool.answer({**YESTERDAY, "group_by": "model,hour", "gpu_class": "h100", "team": None}) == as_list


@pytest.mark.parametrize(
    "given",
    [["Bob, laptop", "ci"], [r"Bob\, laptop", "ci"], r"Bob\, laptop,ci"],
    ids=["list", "list as written", "text"],
)
def test_a_value_with_a_comma_is_one_value(known: Known, given: object) -> None:
    texts = as_texts({**YESTERDAY, "api_key": given})
    assert parse_usage_question(texts, now=NOW, zone=known.zone).where["api_key"] == {"Bob, laptop", "ci"}


def test_a_value_that_ends_with_a_backslash_is_not_joined_with_the_next(known: Known) -> None:
    with pytest.raises(QuestionError, match="api_key has a value that ends with a backslash; give it last"):
        as_texts({**YESTERDAY, "api_key": ["C:\\", "ci"]})
    texts = as_texts({**YESTERDAY, "api_key": ["ci", "C:\\"]})
    assert parse_usage_question(texts, now=NOW, zone=known.zone).where["api_key"] == {"ci", "C:\\"}


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
    assert tool.answer({"status": ["draft"]}).text == "No invoices match."
    (found,) = tool.answer({"period": "2026-03"}).document["invoices"]
    assert found["number"] == "F-03"
