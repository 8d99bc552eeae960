from dataclasses import replace

import pytest
from web.mcp.conftest import NOW

from exporter.charges import HOUR
from exporter.queries.parameters import QuestionError
from exporter.queries.requests import NoRequestsError
from exporter.web.mcp.request_tools import compare_requests_tool, request_cost_tool, request_tools, top_requests_tool
from exporter.web.mcp.tool import Known


def test_one_request_is_told_with_every_field_that_fal_states(known: Known) -> None:
    answer = request_cost_tool(known).answer({"request_id": "id-1"})
    assert (answer.document["cost"], answer.document["tags"]) == ("0.25", {"customer": "acme"})
    assert "| cost | 0.25 |" in answer.text
    assert "| team |" not in answer.text


def test_the_dearest_come_first_and_a_cursor_leads_to_more(known: Known) -> None:
    first = top_requests_tool(known).answer({"limit": 1})
    assert [row["request_id"] for row in first.document["requests"]] == ["id-2"]  # type: ignore[attr-defined]  # a list of rows
    cursor = first.document["next_cursor"]
    assert f"repeat the call with cursor {cursor}" in first.text
    following = top_requests_tool(known).answer({"limit": 1, "cursor": cursor})
    assert [row["request_id"] for row in following.document["requests"]] == ["id-1"]  # type: ignore[attr-defined]  # as above
    none = top_requests_tool(known).answer({"tag": ["customer=nobody"]}).text
    assert none.startswith("No request from 2026-11-19T12:30:00Z to 2026-11-20T12:30:00Z matches. 24 of 25 hours of")


def test_hours_that_are_not_settled_are_not_compared(known: Known) -> None:
    answer = compare_requests_tool(known).answer({"end": NOW.isoformat(), "start": (NOW - 5 * HOUR).isoformat()})
    assert answer.text == "default: no settled hour has been compared."


def test_what_is_missing_or_wrong_is_named(known: Known) -> None:
    with pytest.raises(QuestionError, match="request_id is missing"):
        request_cost_tool(known).answer({})
    with pytest.raises(NoRequestsError, match="no request with this id"):
        request_cost_tool(known).answer({"request_id": "nobody"})
    for tool in request_tools(replace(known, requests=None)):
        with pytest.raises(NoRequestsError, match="set FAL_EXPORTER_EVENTS=true"):
            tool.answer({"request_id": "id-1"} if tool.name == "fal-get-request-cost" else {})
