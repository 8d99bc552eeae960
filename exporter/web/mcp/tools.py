"""The tools, in the order in which they are listed."""

from exporter.web.mcp.focus_tool import focus_tool
from exporter.web.mcp.outlook_tools import balance_tool, budgets_tool, forecast_tool
from exporter.web.mcp.spend_tools import invoices_tool, usage_tool
from exporter.web.mcp.tool import Known, Tool


def tools(known: Known) -> tuple[Tool, ...]:
    """Return all tools."""
    return (*ledger_tools(known), budgets_tool(known), forecast_tool(known))


def ledger_tools(known: Known) -> tuple[Tool, ...]:
    """Return the tools that need no running exporter."""
    return (usage_tool(known), invoices_tool(known), balance_tool(known), focus_tool())
