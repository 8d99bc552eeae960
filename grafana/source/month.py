"""fal / Month: the month for a finance department, on one page that prints: A4 upright, at 50 % of its size."""

from source import palette
from source.banner import state
from source.frame import Frame, Row
from source.invoices import agreement, billed, invoice_list
from source.movers import changes, compared, moved, who_moved
from source.outlook import MONTH, budgets, course, month_ends
from source.panels import (
    DOLLARS,
    LESS,
    MORE,
    NO_FORECAST,
    NOT_LOADED,
    SHARE,
    Built,
    Query,
    coloured,
    figure,
    properties,
    words_in_markdown,
)
from source.queries import NOT_PAID, of_accounts, total, while_whole
from source.rankings import BEFORE, GROWTH, REPORTED, of_month, present

EXPORTER = ("Exporter", "http://localhost:8080", "Address of the exporter, for the links to its exports.")
"""The variable that the export links take their address from."""


def month() -> Frame:
    """Return the dashboard of the month."""
    return Frame(
        uid="fal-month",
        title="fal / Month",
        description="The month for finance: what it costs and will cost, what moved and why, budgets and invoices.",
        labels=("account",),
        asked={"exporter": EXPORTER},
        repeats={"moved": compared(), "ranked": present(REPORTED)},
        rows=(
            Row(5, ((state(), 18), (_exports(), 6))),
            Row(3, _figures()),
            Row(10, ((course(), 10), (moved(), 14))),
            Row(6, ((budgets(), 13), (invoice_list(), 11))),
            Row(7, ((agreement(), 14), (billed(), 10))),
            Row(8, ((who_moved(), 8),)),
            Row(7, ((of_month(), 8),)),
        ),
    )


def _figures() -> tuple[tuple[Built, int], ...]:
    changed, before = while_whole(f"sum({changes()})", BEFORE), total(BEFORE)
    due = of_accounts("fal_invoice_total_usd", ("account", "invoice"), NOT_PAID)
    return (
        (
            figure(
                "This month so far",
                "Spend since the start of the month in the exporter's time zone, exact and with all corrections known "
                "so far. Some minutes late.",
                [Query(total(MONTH))],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            5,
        ),
        (
            figure(
                "± last month, same day",
                "By how much the complete hours of this month cost more, or less, than as many hours of the last "
                "month, by the ledger. The running hour is not compared.",
                [
                    Query(f"({changed}) >= 0", "more", "more"),
                    Query(f"abs(({changed}) < 0)", "less", "less"),
                    Query(f"({changed})\n/ ({before} > 0)", "in percent", "share"),
                ],
                MORE,
                decimals=2,
                names=True,
                size=20,
                no_value="nothing to compare, or not all loaded",
            )
            .override_by_query("less", properties({"unit": LESS}))
            .override_by_query("share", properties({"unit": SHARE, "decimals": 1} | coloured(*GROWTH))),
            5,
        ),
        (
            figure(
                "At the end of the month",
                "What the month will have cost at its end: the median, and the band in which it ends in 8 of 10 cases.",
                month_ends(),
                DOLLARS,
                decimals=0,
                names=True,
                color=palette.FORECAST,
                no_value=NO_FORECAST,
            ),
            6,
        ),
        (
            figure(
                "Last month, all of it",
                "The ledger's spend of the whole last month in the exporter's time zone, with all corrections known so "
                "far; fal's own months are of UTC.",
                [Query(total("fal_spend_last_month_usd"))],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            4,
        ),
        (
            figure(
                "Open invoices",
                "The total of all open invoices, as fal states it. Polled every six hours.",
                [Query(f"sum({due}) or vector(0) and on () count({of_accounts('fal_invoice_total_usd')})")],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value="no invoices",
            ),
            4,
        ),
    )


def _exports() -> Built:
    focus = "${exporter}/v1/billing/focus?charge_month=${__from:date:YYYY-MM}"
    usage = "${exporter}/v1/billing/usage?start=${__from:date:YYYY-MM-DD}"
    return words_in_markdown(
        "Export",
        "Downloads from the exporter at the address above; a browser asks for the token where one is set.",
        f"CSV in FOCUS format: [by day]({focus}&timeframe=day), [by hour]({focus}&timeframe=hour). "
        f"JSON: [by product]({usage}&group_by=product), [by model]({usage}&group_by=model), "
        f"[by day and app]({usage}&group_by=app,day).",
    )
