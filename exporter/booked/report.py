"""Reports of a comparison: a table to read, JSON and CSV for programs, gauges for Prometheus."""

import csv
import io
from collections.abc import Iterator, Mapping

from exporter.booked.comparison import Comparison, Finding, Sums
from exporter.charges import decimal_of

_FINDINGS = {
    "never_booked": "Charged but never booked",
    "booked_twice": "Booked more than once",
    "never_charged": "Booked but never charged",
    "differing": "Booked at another amount than charged",
    "not_read": "Booked in hours that are not read yet (not compared)",
}

_LONGEST_TABLE = 15


def dollars(amount: int) -> str:
    """Return nano-USD as a decimal with every digit."""
    text = f"{decimal_of(amount):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def findings(comparison: Comparison) -> Mapping[str, Finding]:
    """Return what was found, by its name."""
    return {name: getattr(comparison, name) for name in _FINDINGS}


def json_document(comparison: Comparison) -> dict[str, object]:
    """Return the outcome as a tree for JSON; amounts are decimal text."""
    return {
        "start": comparison.window.start.isoformat().replace("+00:00", "Z"),
        "end": comparison.window.end.isoformat().replace("+00:00", "Z"),
        "currency": "USD",
        "total": _sums(comparison.total),
        "by_model": [{"model": name, **_sums(sums)} for name, sums in comparison.by_model.items()],
        "by_key": [{"api_key": name, **_sums(sums)} for name, sums in comparison.by_key.items()],
        "by_tag": [{"tag": key, "value": name, **_sums(sums)} for (key, name), sums in comparison.by_tag.items()],
        **{
            name: {
                "requests": found.requests,
                "amount": dollars(found.amount),
                "examples": [
                    {
                        "request_id": example.request_id,
                        "booked": dollars(example.booked),
                        "charged": dollars(example.charged),
                        "model": example.model,
                    }
                    for example in found.examples
                ],
            }
            for name, found in findings(comparison).items()
        },
        "unreadable_rows": comparison.unreadable,
        "unread_hours": comparison.unread_hours,
    }


def _sums(sums: Sums) -> dict[str, object]:
    return {
        "booked": dollars(sums.booked),
        "charged": dollars(sums.charged),
        "difference": dollars(sums.difference),
        "booked_requests": sums.booked_requests,
        "charged_requests": sums.charged_requests,
    }


def csv_text(comparison: Comparison) -> str:
    """Return sums and findings as CSV: a row each, and one for every example."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("kind", "name", "booked", "charged", "difference", "booked_requests", "charged_requests"))
    for kind, name, sums in _rows(comparison):
        amounts = (dollars(sums.booked), dollars(sums.charged), dollars(sums.difference))
        writer.writerow((kind, name, *amounts, sums.booked_requests, sums.charged_requests))
    for kind, found in findings(comparison).items():
        writer.writerow((kind, "", "", "", dollars(found.amount), found.requests, ""))
        for example in found.examples:
            difference = dollars(example.booked - example.charged)
            writer.writerow(
                (kind, example.request_id, dollars(example.booked), dollars(example.charged), difference, "", "")
            )
    return text.getvalue()


def _rows(comparison: Comparison) -> Iterator[tuple[str, str, Sums]]:
    yield "total", "", comparison.total
    yield from (("model", name, sums) for name, sums in comparison.by_model.items())
    yield from (("api_key", name, sums) for name, sums in comparison.by_key.items())
    yield from ((f"tag:{key}", name, sums) for (key, name), sums in comparison.by_tag.items())


def table_text(comparison: Comparison) -> str:
    """Return the outcome for people: the largest differences of each kind, and what was found."""
    window = comparison.window
    lines = [f"Requests from {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC, amounts in USD", ""]
    shown: list[tuple[str, ...]] = [("", "booked", "charged", "difference", "booked requests", "charged requests")]
    count: dict[str, int] = {}
    for kind, name, sums in _rows(comparison):
        count[kind] = count.get(kind, 0) + 1
        if count[kind] <= _LONGEST_TABLE:
            shown.append(
                (
                    f"{kind} {name}".strip(),
                    *(dollars(amount) for amount in (sums.booked, sums.charged, sums.difference)),
                    f"{sums.booked_requests:,}",
                    f"{sums.charged_requests:,}",
                )
            )
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    lines += [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in shown)
    ]
    lines.append("")
    for name, title in _FINDINGS.items():
        found = findings(comparison)[name]
        lines.append(f"{title}: {found.requests:,} requests, {dollars(found.amount)}")
        lines += [
            f"  {example.request_id}  booked {dollars(example.booked)}  charged {dollars(example.charged)}"
            for example in found.examples[:5]
        ]
    if comparison.unreadable:
        lines.append(f"{comparison.unreadable:,} rows have no request id or no readable amount and are left out.")
    if comparison.unread_hours:
        lines.append(
            f"{comparison.unread_hours:,} hours of the window have not been read from fal to their end, or not every "
            "row of them could be: what fal charged in them is not all known."
        )
    return "\n".join(lines) + "\n"


METRICS: Mapping[str, str] = {
    "fal_booked_usd": "US dollars that were booked for requests in the window.",
    "fal_booked_charged_usd": "US dollars that fal charged for requests in the window.",
    "fal_booked_difference_usd": "US dollars booked minus charged in the window, by model.",
    "fal_booked_finding_usd": "US dollars booked minus charged of the requests of a finding.",
    "fal_booked_finding_requests": "Requests of a finding.",
    "fal_booked_unread": "Hours of the window, of all accounts, whose requests are not all known.",
    "fal_booked_window_end_timestamp_seconds": "End of the window that was compared, in seconds since the epoch.",
}
"""Gauges of a comparison by name, with their help."""


def metrics_text(comparison: Comparison) -> str:
    """Return the outcome in Prometheus' text format, for the textfile collector of node_exporter or a Pushgateway."""
    found = findings(comparison)
    samples: dict[str, list[tuple[str, str]]] = {
        "fal_booked_usd": [("", dollars(comparison.total.booked))],
        "fal_booked_charged_usd": [("", dollars(comparison.total.charged))],
        "fal_booked_difference_usd": [
            (_label("model", name), dollars(sums.difference)) for name, sums in comparison.by_model.items()
        ],
        "fal_booked_finding_usd": [(_label("finding", name), dollars(item.amount)) for name, item in found.items()],
        "fal_booked_finding_requests": [(_label("finding", name), str(item.requests)) for name, item in found.items()],
        "fal_booked_unread": [("", str(comparison.unread_hours))],
        "fal_booked_window_end_timestamp_seconds": [("", str(int(comparison.window.end.timestamp())))],
    }
    lines = []
    for name, its in samples.items():
        lines += [f"# HELP {name} {METRICS[name]}", f"# TYPE {name} gauge"]
        lines += [f"{name}{labels} {value}" for labels, value in its]
    return "\n".join(lines) + "\n"


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{{{name}="{escaped}"}}'
