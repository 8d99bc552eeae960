"""fal / Invoices and reconciliation: does the ledger agree with what fal bills?"""

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.models.common import VisibilityMode

from source import palette
from source.frame import Frame, Row, whenever
from source.panels import (
    DOLLARS,
    DOLLARS_SHORT,
    FINE,
    NOT_LOADED,
    RECORDED_SINCE,
    SIGNED,
    Built,
    Query,
    at_least,
    bars,
    figure,
    fixed,
    lines,
)
from source.queries import NOT_PAID, TO, of_accounts, selected, whole
from source.tables import WRAPPED, Column, coloured_text, rows, words

_PERIODS = {"current_month": ("this month", palette.NEUTRAL), "last_month": ("last month", palette.NEUTRAL)}
_AGAINST = {
    "invoice": ("invoice", palette.NEUTRAL),
    "focus_invoice": ("FOCUS, invoiced", palette.NEUTRAL),
    "focus_estimate": ("FOCUS, estimated", palette.NEUTRAL),
}
_INVOICE = ("account", "invoice", "status")
_COMPARED = ("account", "against", "period")
_SOURCE = ("account", "source")


def invoices() -> Frame:
    """Return the dashboard of invoices."""
    return Frame(
        uid="fal-invoices",
        title="fal / Invoices and reconciliation",
        description="Invoices, the ledger held against them and against FOCUS, and what fal changed afterwards.",
        labels=("account",),
        annotations=(
            whenever(
                "Restatements",
                palette.FORECAST,
                "sum by (account, direction) (max by (account, source, direction) "
                '(increase(fal_restated_usd_total{account=~"$account"}[1h]))) > 100',
                title="fal restated complete hours",
                text="{{account}}: more than $100 {{direction}} within an hour",
            ),
        ),
        rows=(
            Row(4, _figures()),
            Row(10, ((invoice_list(60), 10), (agreement(), 14))),
            Row(8, ((billed(), 12), (_drift(), 12)), "What explains a difference"),
            Row(9, ((_restatements(), 12), (_settled(), 12)), "What fal changed afterwards"),
        ),
    )


def _figures() -> tuple[tuple[Built, int], ...]:
    open_ones = of_accounts("fal_invoice_total_usd", _INVOICE, NOT_PAID)
    overdue = f"({open_ones} > 0)\nand ({of_accounts('fal_invoice_due_timestamp_seconds', _INVOICE)} < time())"
    there_are_invoices = f"and on () count({of_accounts('fal_invoice_total_usd', _INVOICE)})"
    return (
        (
            figure(
                "Last month",
                "The ledger's spend of the whole previous month in the exporter's time zone, with all corrections "
                "known so far. Settled some days into the month; fal's own months are months of UTC.",
                [Query(whole("fal_spend_last_month_usd"))],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            6,
        ),
        (
            figure(
                "Largest difference, last month",
                "Of the comparisons of the last UTC month, the one that is furthest off: the ledger less what fal "
                "bills as usage. Above 0 fal bills less than it has reported, below 0 more. Compared every six hours.",
                [
                    Query(
                        "topk(1, abs("
                        + of_accounts("fal_reconciliation_difference_usd", _COMPARED, 'period="last_month"')
                        + "))"
                    )
                ],
                DOLLARS,
                decimals=2,
                thresholds=at_least((1, palette.WARNING), (100, palette.BAD), base=palette.GOOD),
                no_value="not compared yet",
            ),
            6,
        ),
        (
            figure(
                "To be paid",
                "The total of all open invoices, as fal states it. Polled every six hours.",
                [Query(f"sum({open_ones}) or vector(0) {there_are_invoices}")],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value="no invoices yet",
            ),
            4,
        ),
        (
            figure(
                "Overdue",
                "The total of the open invoices whose due date has passed.",
                [Query(f"sum({overdue}) or vector(0) {there_are_invoices}")],
                DOLLARS,
                decimals=2,
                thresholds=at_least((0.01, palette.BAD), base=palette.GOOD),
                no_value="no invoices yet",
            ),
            4,
        ),
        (
            figure(
                "Counters ahead",
                "By how much fal_spend_usd_total is ahead of the truth, after fal took money back; the counters stand "
                "still until new charges have caught up. The gauges are right all the time.",
                [Query(whole("fal_spend_pending_usd"))],
                DOLLARS_SHORT,
                decimals=2,
                thresholds=at_least((1, palette.WARNING), base=palette.GOOD),
            ),
            4,
        ),
    )


def invoice_list(most: int = 12) -> Built:
    """Return the table of the newest invoices with their state in words."""
    due = of_accounts("fal_invoice_due_timestamp_seconds", _INVOICE, NOT_PAID)
    totals = of_accounts("fal_invoice_total_usd", _INVOICE)
    labels = "max by (account, invoice)"
    dated = f"{labels} (fal_invoice_due_timestamp_seconds{selected(('account',))})"
    # Those to be paid come before any date.
    to_be_paid = of_accounts("fal_invoice_total_usd", _INVOICE, NOT_PAID)
    first = f"1e12 + 0 * {labels} ({to_be_paid})"
    others = f"{dated}\nor on (account, invoice) 0 * {labels} ({totals})"
    newest = f"topk({most}, {first}\nor on (account, invoice) {others})"
    states = "\nor ".join(
        (
            f"1000 * {labels} ({due})",
            *(
                f"0 * {labels} (fal_invoice_total_usd{selected(('account',), states)}) + {code}"
                for states, (code, _, _) in _STATES.items()
            ),
        )
    )
    panel = rows(
        "Invoices",
        "Those that are to be paid, and the newest others, with their total as fal states it and their state: a draft "
        "is the running month's and grows, an open one says when it is due, an overdue one for how long. Polled every "
        "six hours.",
        [
            Query(f"{labels} ({totals})\nand on (account, invoice) {newest}", ref="total"),
            Query(f"({states})\nand on (account, invoice) {newest}", ref="state"),
            Query(
                f"{labels} (time() - {due} > 0 and {to_be_paid} > 0)\nand on (account, invoice) {newest}", ref="overdue"
            ),
        ],
        {
            "invoice": Column("Invoice", properties={"custom.minWidth": 110}),
            "account": Column("Account", width=150, properties=WRAPPED),
            "Value #total": Column("Total", DOLLARS, 104, 2),
            "Value #state": Column(
                "State",
                "time:[due] D MMM",
                86,
                properties=words({str(code): (text, color) for code, text, color in _STATES.values()}),
            ),
            "Value #overdue": Column("Overdue", "s", 70, 0, coloured_text((0, palette.BAD))),
        },
        no_value="no invoices yet",
    )
    by = (common.TableSortByFieldState().display_name(column).desc(desc=True) for column in ("State", "Invoice"))
    return panel.sort_by(list(by))


_STATES = {
    'status="void"': (1, "void", palette.NEUTRAL),
    'status="paid"': (2, "paid", palette.GOOD),
    'status="draft"': (3, "draft", palette.NEUTRAL),
    NOT_PAID: (4, "open", palette.WARNING),
}
"""By status as fal states it: a number that is no date, and what it says; an open one with a due date has the date.

What somebody has to do something about has the largest, by which the table is sorted.
"""


def agreement() -> Built:
    """Return the table of what was compared with fal's bills, the result in words."""
    difference = of_accounts("fal_reconciliation_difference_usd", _COMPARED)
    reads_machines = f"count by (account) (fal_source_up{selected(('account',), _READS_MACHINES)})"
    missing = f"(abs({difference} <= -{_CENT}))"
    sentences = (
        (f"0 * (abs({difference}) < {_CENT})", "equal"),
        (f"{missing} unless on (account) {reads_machines}", "of compute machines are not read by this key"),
        (f"{missing} and on (account) {reads_machines}", "are billed and not in the ledger"),
        (f"{difference} >= {_CENT}", "are in the ledger and not billed"),
    )
    said = "\nor ".join(f'label_replace({found}, "says", "{words}", "", "")' for found, words in sentences)
    return rows(
        "Ledger against invoice",
        "The ledger's UTC month beside what fal bills as usage of the same hours, before credits and taxes: equal to "
        "the cent, or by how much they differ and what the difference is. By what it was compared with; never add them "
        "up. Compared every six hours.",
        [Query(f"topk(24, {said})")],
        {
            "account": Column("Account", width=150, properties=WRAPPED),
            "period": Column("Month", width=84, properties=words(_PERIODS)),
            "against": Column("Compared with", width=134, properties=words(_AGAINST)),
            "Value": Column(
                "Difference",
                DOLLARS,
                96,
                2,
                coloured_text((_CENT, palette.WARNING), (100, palette.BAD), base=palette.GOOD),
            ),
            "says": Column("In words", properties={"custom.minWidth": 120}),
        },
        sort="Month",
        no_value="not compared yet",
    )


_CENT = 0.01
_READS_MACHINES = 'source=~"compute|organization|reporting|focus"'
"""The sources that read the charges of compute machines."""


def billed() -> Built:
    """Return the table of what fal bills by charge category."""
    labels = ("account", "charge_category", "period")

    def month(period: str) -> str:
        return of_accounts("fal_focus_billed_usd", labels[:2], f'period="{period}"') + " != 0"

    return rows(
        "What fal bills, by category (FOCUS)",
        "fal's FOCUS report by charge category, of the invoice where there is one, else of the estimate. Usage is "
        "what the ledger is held against; purchases, credits, taxes, adjustments and corrections are what an invoice "
        "has besides. The sum of them is what is to be paid. Enterprise accounts only.",
        [Query(month("last_month"), ref="last"), Query(month("current_month"), ref="current")],
        {
            "account": Column("Account", width=160, properties=WRAPPED),
            "charge_category": Column("Category", properties={"custom.minWidth": 90}),
            "Value #last": Column("Last month, $", SIGNED, 110, 2),
            "Value #current": Column("This month, $", SIGNED, 110, 2),
        },
        no_value="no FOCUS report",
    )


_FURTHEST = 10


def _drift() -> Built:
    difference = of_accounts("fal_reconciliation_difference_usd", _COMPARED)
    now = of_accounts("fal_reconciliation_difference_usd", _COMPARED, at=f"@ {TO}")
    shown = f"{difference}\nand on (account, against, period)\ntopk({_FURTHEST}, abs({now}))\n"
    for label, texts in (("period", _PERIODS), ("against", _AGAINST)):
        for name, (text, _) in texts.items():
            shown = f'label_replace({shown}, "{label}", "{text}", "{label}", "{name}")'
    panel = lines(
        "Difference over time",
        f"The ledger less what fal bills, as of each comparison; of many, the {_FURTHEST} that are furthest off now. A "
        "line that leaves 0 and comes back was late data; one that stays away is a difference to "
        "ask fal about.",
        [
            Query(
                shown,
                "{{account}}: {{period}}, {{against}}",
            )
        ],
        DOLLARS_SHORT,
        fill=0,
    )
    # Around 0, which most differences are, an axis of itself would show tenths of cents.
    panel.axis_soft_min(-1).axis_soft_max(1)
    return panel.show_points(VisibilityMode.AUTO).max_data_points(FINE).no_value(RECORDED_SINCE)


def _restatements() -> Built:
    def restated(direction: str) -> str:
        series = f'fal_restated_usd_total{{account=~"$account",direction="{direction}"}}'
        return f"sum by (account) (max by (account, source) (increase({series}[$__interval])))"

    panel = bars(
        "Restated by fal",
        "US dollars by which fal changed hours that had been published as complete, when the exporter learnt of it: "
        "added above the line, taken back below it. Late charges of the last hours are most of it and are normal.",
        [
            Query(f"sum({restated('up')})", "added", "up", interval="5m"),
            Query(f"-sum({restated('down')})", "taken back", "down", interval="5m"),
        ],
        DOLLARS_SHORT,
        overrides={"added": fixed(palette.WARNING), "taken back": fixed(palette.GOOD)},
        legend=(),
        at_right=False,
    )
    return panel.no_value("nothing changed, or not recorded yet")


def _settled() -> Built:
    return rows(
        "How far the data reach",
        "By source: the end of the last hour that is known, and of the last hour that was read again two days after "
        "it ended, before which no change is expected. What lies between is provisional. Hours changed counts how "
        "often fal changed a complete hour, since the ledger began.",
        [
            Query(f"1000 * {of_accounts('fal_data_through_timestamp_seconds', _SOURCE)}", ref="through"),
            Query(f"1000 * {of_accounts('fal_settled_through_timestamp_seconds', _SOURCE)}", ref="settled"),
            Query(of_accounts("fal_restatements_total", _SOURCE), ref="hours"),
        ],
        {
            "account": Column("Account", properties=WRAPPED),
            "source": Column("Source", width=96),
            "Value #through": Column("Data through", "dateTimeFromNow", 124),
            "Value #settled": Column("Settled through", "dateTimeFromNow", 124),
            "Value #hours": Column("Hours changed", "locale", 112, 0),
        },
    )
