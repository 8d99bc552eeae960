"""Resources for agents: instructions, guide to the numbers, catalogue of metrics, the prompt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from exporter.metrics.catalogue import markdown_table

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
