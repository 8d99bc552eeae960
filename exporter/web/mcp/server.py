"""The MCP server: tools, resources and the prompt, whatever carries the messages."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from threading import Event
from types import MappingProxyType

import anyio
import anyio.to_thread
import structlog
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from mcp_types import Tool as ListedTool

from exporter import __version__
from exporter.errors import FalExporterError, LedgerError
from exporter.interruption import wanted_until
from exporter.metrics.catalogue import markdown_table
from exporter.queries.parameters import UNREADABLE
from exporter.web.mcp.tool import Answer, Tool

Context = ServerRequestContext[dict[str, object], object]

LONGEST_ANSWER = 20.0
"""Seconds a call may take, waiting for its turn included."""

MOST_AT_ONCE = 2
"""Calls that are answered at once; more wait for their turn, so that scrapes are not kept from the processor."""

_log = structlog.get_logger(__name__)
_READS_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_PROMPT = Prompt(
    name="explain-this-months-spend",
    title="Explain this month's spend",
    description="What has been spent this month, on what, what has changed, and what the month will cost.",
    arguments=[PromptArgument(name="account", description="Only this account. Default: all.", required=False)],
)


TITLE = "fal-exporter: spend at fal"

INSTRUCTIONS = """\
Answers questions about what an organization spends at fal (fal.ai): spend and GPU time by model, app and hour, \
invoices, credit balance and runway, budgets, forecasts. All tools are read-only and cost nothing at fal. Amounts are \
exact US dollars as decimal text: do not round before adding. The newest hours are provisional: if `complete` is \
false, say so and say how far the data reaches. Read fal-exporter://guide before comparing figures."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page to read, in Markdown.

    Attributes:
        text: returns it.
    """

    name: str
    title: str
    description: str
    text: Callable[[], str]


def _guide() -> str:
    return files("exporter.web.mcp").joinpath("guide.md").read_text(encoding="utf-8")


def _metrics() -> str:
    return (
        "# The metrics that fal-exporter publishes\n\nPrometheus families; *charge labels* are account, team, product, "
        f"model, app and gpu_class unless the exporter is configured otherwise.\n\n{markdown_table()}"
    )


RESOURCES: Mapping[str, Page] = MappingProxyType(
    {
        "fal-exporter://guide": Page(
            "guide",
            "What the numbers mean",
            "How charges arrive late and are corrected, what complete, data_through and settled_through mean, and "
            "which figure answers which question.",
            _guide,
        ),
        "fal-exporter://metrics": Page(
            "metrics",
            "Metric catalogue",
            "Every Prometheus family that the exporter publishes: kind, labels, meaning. For writing PromQL.",
            _metrics,
        ),
    }
)
"""Resources by URI."""


def explain_month(account: str) -> str:
    """Return the prompt that has a month's spend explained: of one account, or of all for the empty string."""
    whose = f" of the account {account!r}" if account else ""
    only = f' Pass account ["{account}"] to every call that takes it.' if account else ""
    return f"""\
Explain this month's spend at fal{whose}.{only}

1. fal-get-forecast: what the month has cost so far and will have cost at its end.
2. fal-get-usage from the start of the month until now, grouped by product, then by model, app and gpu_class: name \
what costs most, each with its share of the total.
3. fal-explain-spend: say how much of the difference to the same part of the month before is price, volume, mix, new \
and vanished models, discount and surge, in dollars, and which items moved most.
4. fal-get-usage of this month grouped by day: name days that stand out, and what they were spent on.
5. fal-get-idle-cost: if apps of one's own have runners, say how much of their cost was idle, which app has most of \
it, and which of its settings decides about that.
6. fal-get-budgets and fal-get-balance: say whether a budget or the credit runs out before the month does.

Begin with the answer in two sentences. Give amounts in US dollars to the cent. Say which hours are still provisional \
(`data_through`, `settled_through`), and do not guess at causes that the figures do not show."""


class Answering:
    """Answers whatever is asked of a server.

    Args:
        tools: what can be called.
        longest: seconds a call may take.
    """

    def __init__(self, tools: Sequence[Tool], longest: float = LONGEST_ANSWER) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._longest = longest
        self._turns = anyio.CapacityLimiter(MOST_AT_ONCE)

    async def list_tools(self, _: Context, __: PaginatedRequestParams | None) -> ListToolsResult:
        """Return the tools."""
        return ListToolsResult(
            tools=[
                ListedTool(
                    name=tool.name,
                    title=tool.title,
                    description=tool.description,
                    input_schema=dict(tool.input_schema),
                    output_schema=dict(tool.output_schema),
                    annotations=_READS_ONLY,
                )
                for tool in self._tools.values()
            ]
        )

    async def call_tool(self, _: Context, call: CallToolRequestParams) -> CallToolResult:
        """Answer a call; what has no answer is a result that says so in one sentence, for the model to read.

        Raises:
            MCPError: there is no such tool.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"there is no such tool; the tools are {', '.join(self._tools)}")
        try:
            answer = await self._answer(tool, call.arguments or {})
        except LedgerError as error:
            _log.warning("a request could not be answered", tool=tool.name, problem=str(error))
            return _failure(UNREADABLE)
        except FalExporterError as error:
            return _failure(str(error))
        except TimeoutError:
            return _failure(f"the answer took longer than {self._longest:.0f} s; ask for less at a time")
        except Exception as error:  # noqa: BLE001  the last resort: a caller is told that it failed, the log why
            _log.error("a request failed", tool=tool.name, error=type(error).__name__)
            _log.debug("traceback of the unexpected error", exc_info=error)
            return _failure("the exporter failed to answer; see its log")
        return CallToolResult(
            content=[TextContent(text=answer.text)], structured_content=dict(answer.document), is_error=False
        )

    async def list_resources(self, _: Context, __: PaginatedRequestParams | None) -> ListResourcesResult:
        """Return the resources."""
        return ListResourcesResult(
            resources=[
                Resource(
                    uri=uri,
                    name=page.name,
                    title=page.title,
                    description=page.description,
                    mime_type="text/markdown",
                )
                for uri, page in RESOURCES.items()
            ]
        )

    async def list_resource_templates(
        self, _: Context, __: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """Return no templates; some clients ask for them."""
        return ListResourceTemplatesResult(resource_templates=[])

    async def read_resource(self, _: Context, asked: ReadResourceRequestParams) -> ReadResourceResult:
        """Return a page.

        Raises:
            MCPError: there is no such page.
        """
        page = RESOURCES.get(str(asked.uri))
        if page is None:
            raise MCPError(INVALID_PARAMS, f"there is no such resource; the resources are {', '.join(RESOURCES)}")
        text = TextResourceContents(uri=str(asked.uri), mime_type="text/markdown", text=page.text())
        return ReadResourceResult(contents=[text])

    async def list_prompts(self, _: Context, __: PaginatedRequestParams | None) -> ListPromptsResult:
        """Return the prompts."""
        return ListPromptsResult(prompts=[_PROMPT])

    async def get_prompt(self, _: Context, asked: GetPromptRequestParams) -> GetPromptResult:
        """Return the prompt.

        Raises:
            MCPError: there is no such prompt.
        """
        if asked.name != _PROMPT.name:
            raise MCPError(INVALID_PARAMS, f"there is no such prompt; the only one is {_PROMPT.name}")
        text = explain_month((asked.arguments or {}).get("account", ""))
        return GetPromptResult(
            description=_PROMPT.description, messages=[PromptMessage(role="user", content=TextContent(text=text))]
        )

    async def _answer(self, tool: Tool, arguments: Mapping[str, object]) -> Answer:
        is_left = Event()
        try:
            async with asyncio.timeout(self._longest):
                return await anyio.to_thread.run_sync(
                    partial(_answered, tool, arguments, is_left), abandon_on_cancel=True, limiter=self._turns
                )
        finally:
            is_left.set()


class _LeftError(Exception):
    """Nobody waits for the answer any more."""


def _answered(tool: Tool, arguments: Mapping[str, object], is_left: Event) -> Answer:
    def check() -> None:
        if is_left.is_set():
            raise _LeftError

    with wanted_until(check):
        return tool.answer(arguments)


def mcp_server(tools: Sequence[Tool], *, longest: float = LONGEST_ANSWER) -> Server[dict[str, object]]:
    """Return a server that answers with these tools; it holds no state of any client."""
    answering = Answering(tools, longest)
    unchanging = CacheHint(ttl_ms=3_600_000)
    return Server(
        "fal-exporter",
        version=__version__,
        title=TITLE,
        instructions=INSTRUCTIONS,
        cache_hints={
            "tools/list": unchanging,
            "resources/list": unchanging,
            "resources/read": unchanging,
            "prompts/list": unchanging,
        },
        on_list_tools=answering.list_tools,
        on_call_tool=answering.call_tool,
        on_list_resources=answering.list_resources,
        on_list_resource_templates=answering.list_resource_templates,
        on_read_resource=answering.read_resource,
        on_list_prompts=answering.list_prompts,
        on_get_prompt=answering.get_prompt,
    )


def _failure(sentence: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=sentence)], is_error=True)
