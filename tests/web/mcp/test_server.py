import asyncio
import threading
from collections.abc import Callable

import jsonschema
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from queries.conftest import LONG_STATEMENTS

from exporter.metrics.catalogue import CATALOGUE
from exporter.web.mcp.server import MOST_AT_ONCE, mcp_server
from exporter.web.mcp.tool import Answer, Arguments, Known, Tool
from exporter.web.mcp.tools import tools

NAMES = [
    "fal-get-usage",
    "fal-explain-spend",
    "fal-get-idle-cost",
    "fal-get-request-cost",
    "fal-top-requests",
    "fal-compare-requests",
    "fal-list-invoices",
    "fal-get-balance",
    "fal-get-focus",
    "fal-check-focus",
    "fal-get-budgets",
    "fal-get-forecast",
]
ARGUMENTS = {
    "fal-check-focus": {"csv": "BilledCost\n1\n"},
    "fal-get-focus": {"source": "estimate"},
    "fal-get-request-cost": {"request_id": "id-1"},
}


NOT_OF_A_MONTH = {
    *("fal-check-focus", "fal-get-focus", "fal-list-invoices"),
    *("fal-get-request-cost", "fal-top-requests", "fal-compare-requests"),
}
REQUESTS = {"fal-get-request-cost", "fal-top-requests", "fal-compare-requests"}


def tool(answer: Callable[[Arguments], Answer]) -> Tool:
    return Tool("ask", "Ask", "Asks.", {"type": "object"}, {"type": "object"}, answer)


async def test_every_tool_is_told_to_read_only_and_described_in_valid_schemas(known: Known) -> None:
    async with Client(mcp_server(tools(known))) as client:
        listed = (await client.list_tools()).tools
    assert [item.name for item in listed] == NAMES
    for item in listed:
        assert item.title
        assert item.description
        hints = item.annotations
        assert hints is not None
        assert (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint) == (True, False, True)
        for schema in (item.input_schema, item.output_schema):
            assert schema is not None
            assert schema["type"] == "object"
            jsonschema.Draft202012Validator.check_schema(schema)
        assert all("description" in parameter for parameter in item.input_schema["properties"].values())


@pytest.mark.parametrize("mode", ["auto", pytest.param("legacy", marks=pytest.mark.long)])
async def test_every_tool_answers_as_its_schema_says(mode: str, known: Known) -> None:
    async with Client(mcp_server(tools(known)), mode=mode) as client:
        for listed in (await client.list_tools()).tools:
            given = ARGUMENTS.get(listed.name, {})
            # The client holds the answer against the schema, too.
            result = await client.call_tool(listed.name, given)
            assert not result.is_error, result.content
            assert listed.output_schema is not None
            jsonschema.validate(result.structured_content, listed.output_schema)
            assert result.content[0].text


async def test_before_the_first_poll_every_question_is_told_so(nothing_known: Known) -> None:
    async with Client(mcp_server(tools(nothing_known))) as client:
        for name in NAMES:
            if name not in {"fal-check-focus", *REQUESTS}:
                result = await client.call_tool(name, ARGUMENTS.get(name, {}))
                assert result.is_error
                assert result.structured_content is None
                assert (
                    "nothing has been read" in result.content[0].text or "does not exist yet" in result.content[0].text
                )


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("fal-get-usage", {"stat": "2026-11-20"}, "did you mean start?"),
        ("fal-get-usage", {"group_by": ["modell"]}, "group_by is not a comma-separated list of model, app"),
        ("fal-get-usage", {"start": "yesterday"}, "start is not a date or a time; write it like"),
        ("fal-get-usage", {"start": True}, "start is not text"),
        ("fal-get-usage", {"model": ["a", 1]}, "model is not text"),
        ("fal-get-usage", {"limit": 1001}, "limit is not a whole number from 1 to 1000"),
        ("fal-get-usage", {"account": ["other"]}, "accepted are default"),
        ("fal-get-usage", {"cursor": "x"}, "cursor is not a cursor"),
        ("fal-list-invoices", {"status": "lost"}, "status is not"),
        ("fal-get-budgets", {"budget": ["other"]}, "accepted are studio"),
        ("fal-get-forecast", {"account": ["other"]}, "accepted are default, unknown"),
        ("fal-get-focus", {"charge_month": "2026-10", "timeframe": "day"}, "charge_month belongs to source=invoice"),
        ("fal-get-focus", {"source": "estimate", "start": "2026-09-01", "end": "2026-09-02"}, "has nothing of 2026-09"),
        ("fal-get-focus", {"source": "tagged-estimate"}, "only a running exporter (fal-exporter serve) can ask fal"),
        ("fal-get-focus", {"limit": 101}, "limit is not a whole number from 1 to 100"),
        ("fal-check-focus", {}, "csv is not"),
        ("fal-check-focus", {"csv": ""}, "csv is not"),
        ("fal-check-focus", {"csv": 5}, "csv is not"),
        ("fal-check-focus", {"csv": "x" * 1_000_001}, "up to 1,000,000"),
        ("fal-check-focus", {"csv": "a", "focus_version": "9"}, "focus_version is not one of 1.0"),
        ("fal-check-focus", {"csv": "a", "more": 1}, "more is not a parameter"),
        ("fal-check-focus", {"csv": "<html>"}, "not a CSV file"),
    ],
)
async def test_a_wrong_question_is_answered_by_one_sentence(
    name: str, given: dict[str, object], told: str, known: Known
) -> None:
    async with Client(mcp_server(tools(known))) as client:
        result = await client.call_tool(name, given)
    assert result.is_error
    (content,) = result.content
    assert told in content.text
    assert "\n" not in content.text


async def test_an_unknown_tool_page_or_prompt_is_an_error_that_names_those_there_are(known: Known) -> None:
    async with Client(mcp_server(tools(known))) as client:
        with pytest.raises(MCPError, match="fal-get-usage"):
            await client.call_tool("fal-pay-invoice", {})
        with pytest.raises(MCPError, match="fal-exporter://guide"):
            await client.read_resource("fal-exporter://other")
        with pytest.raises(MCPError, match="explain-this-months-spend"):
            await client.get_prompt("other")


async def test_an_unexpected_failure_tells_nothing_of_itself() -> None:
    def fail(_: Arguments) -> Answer:
        raise RuntimeError("the password is swordfish")

    async with Client(mcp_server([tool(fail)])) as client:
        result = await client.call_tool("ask", {})
    assert result.is_error
    assert "swordfish" not in result.content[0].text
    assert "log" in result.content[0].text


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    leave = threading.Event()

    def wait(_: Arguments) -> Answer:
        leave.wait(10)
        return Answer({}, "late")

    async with Client(mcp_server([tool(wait)], longest=0.05)) as client:
        result = await client.call_tool("ask", {})
    leave.set()
    assert result.is_error
    assert "took longer than" in result.content[0].text


async def test_what_the_ledger_is_asked_for_an_answer_that_is_given_up_ends_within_the_database(known: Known) -> None:
    ended: list[BaseException] = []
    is_over = threading.Event()

    def ask(_: Arguments) -> Answer:
        try:
            with known.snapshot() as ledger:
                ledger._connection.exec_driver_sql(LONG_STATEMENTS["sqlite"]).scalar()
        except BaseException as error:
            ended.append(error)
            raise
        finally:
            is_over.set()
        return Answer({}, "late")

    async with Client(mcp_server([tool(ask)], longest=0.05)) as client:
        result = await client.call_tool("ask", {})
    assert "took longer than" in result.content[0].text
    assert await asyncio.to_thread(is_over.wait, 10)
    assert [type(error).__name__ for error in ended] == ["_LeftError"]


async def test_only_so_many_answers_are_made_at_once() -> None:
    lock, full, leave = threading.Lock(), threading.Event(), threading.Event()
    running = most = 0

    def count(_: Arguments) -> Answer:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == MOST_AT_ONCE:
                full.set()
        leave.wait(10)
        with lock:
            running -= 1
        return Answer({}, "done")

    async with Client(mcp_server([tool(count)])) as client:
        asking = [asyncio.create_task(client.call_tool("ask", {})) for _ in range(3 * MOST_AT_ONCE)]
        assert await asyncio.to_thread(full.wait, 10)
        await client.list_tools()  # which comes after all the calls
        leave.set()
        results = await asyncio.gather(*asking)
    assert {result.content[0].text for result in results} == {"done"}
    assert most == MOST_AT_ONCE


async def test_the_guide_and_the_catalogue_can_be_read(known: Known) -> None:
    async with Client(mcp_server(tools(known))) as client:
        listed = (await client.list_resources()).resources
        pages = {item.uri: (await client.read_resource(item.uri)).contents[0] for item in listed}
        assert (await client.list_resource_templates()).resource_templates == []
    assert {page.mime_type for page in pages.values()} == {"text/markdown"}
    assert all(f"`{family}`" in pages["fal-exporter://metrics"].text for family in CATALOGUE)
    guide = pages["fal-exporter://guide"].text
    assert all(name in guide for name in NAMES if name != "fal-check-focus")
    assert all(f"`{word}`" in guide for word in ("complete", "data_through", "settled_through", "available_from"))


async def test_the_prompt_leads_through_tools_that_there_are(known: Known) -> None:
    async with Client(mcp_server(tools(known))) as client:
        (listed,) = (await client.list_prompts()).prompts
        text = (await client.get_prompt(listed.name)).messages[0].content.text
        of_one = (await client.get_prompt(listed.name, {"account": "default"})).messages[0].content.text
    assert all(name in text for name in NAMES if name not in NOT_OF_A_MONTH)
    assert "'default'" in of_one
    assert "account" not in text
