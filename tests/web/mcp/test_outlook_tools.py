from datetime import timedelta

from web.mcp.conftest import MONTH, NOW

from exporter.forecasting.state import AccountOutlook, Outlook
from exporter.publication import Exposition, Overview, Publication
from exporter.web.mcp.tool import Known
from exporter.web.mcp.tools import balance_tool, budgets_tool, forecast_tool


def cells(text: str, row: int = 0) -> dict[str, str]:
    """Return a row of the table in a text."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return dict(zip(lines[0], lines[2 + row], strict=True))


def test_the_balance_tells_runway_and_locks(known: Known) -> None:
    answer = balance_tool(known).answer({})
    first, second = answer.document["accounts"]
    assert (first["balance"], first["runway_seconds"], first["locked"]) == ("-5", 180_000, ["balance"])
    assert (second["balance"], second["runway_seconds"]) == (None, None)
    assert list(cells(answer.text).items()) == [
        ("account", "default"),
        ("balance", "-5"),
        ("balance_at", "2026-11-20T12:30:00Z"),
        ("runway", "2 d 2 h"),
        ("locked", "balance"),
    ]
    assert set(cells(answer.text, 1).values()) == {"unknown", "-"}


def test_a_credit_that_has_run_out_has_a_runway_of_nothing(known: Known) -> None:
    empty = Outlook((AccountOutlook("default", MONTH, 0, NOW, timedelta(0)),))
    published = Publication(1, NOW, Exposition(), Overview("1.2.3"), ready=True, outlook=empty)
    answer = balance_tool(Known(known.reader, lambda: published, known.zone, known.clock)).answer({})
    assert cells(answer.text)["runway"] == "0 s"


def test_a_budget_tells_forecast_burn_and_what_is_reached(known: Known) -> None:
    answer = budgets_tool(known).answer({"budget": "studio"})
    (budget,) = answer.document["budgets"]
    assert (budget["limit"], budget["spend"], budget["remaining"]) == ("10", "7", "3")
    assert [it["reached"] for it in budget["thresholds"]] == [True, False]
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
