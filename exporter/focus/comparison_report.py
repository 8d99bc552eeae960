"""Reports of a comparison as a table, JSON or CSV; amounts are exact decimal text."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal

from exporter.focus.comparison import Comparison, RowDifference, Side
from exporter.focus.reports import Total, left_out_of, problem_lines, unattributed_lines
from exporter.focus.values import number_text

_SHOWN_GROUPS = 20
_AMOUNTS = ("a", "b", "difference", "rows_a", "rows_b", "rows_not_included_a", "rows_not_included_b")


def comparison_text(found: Comparison) -> str:
    """Return a comparison for a person: the grand totals, the groups that differ, and the rows that explain them."""
    lines = [_head("A", found.a), _head("B", found.b)]
    totals = found.by_currency()
    table = [_row((currency,), pair, found) for currency, pair in totals.items()]
    lines += ["", f"{found.cost} cost in all", *_table(("",), table)] if table else []
    pairs = found.pairs()
    differing = [_row(key, pair, found) for key, pair in pairs.items() if found.difference(pair)]
    equal = len(pairs) - len(differing)
    if differing:
        names = found.names
        lines += ["", f"by {', '.join(names[1:]) or names[0]}: groups that differ"]
        lines += _table(names, differing[:_SHOWN_GROUPS])
        hidden = len(differing) - _SHOWN_GROUPS
        lines += [f"  ... and {hidden:,} more that differ"] if hidden > 0 else []
    lines += ["", f"equal: {_counted(equal, 'group')}" if differing else f"no difference in {_counted(equal, 'group')}"]
    if found.rows:
        lines += ["", "rows that explain the difference", *_explaining(found)]
    if differing:
        lines += _left(found)
    return "\n".join([*lines, *_remarks(found)])


def _head(letter: str, side: Side) -> str:
    versions = ", ".join(dict.fromkeys(part.version for part in side.parts)) or "?"
    rows = _counted(sum(part.rows for part in side.parts), "row")
    undated = f", of which undated: {side.undated:,}" if side.undated else ""
    left_out = f", and {_counted(side.left_out, 'row')} left out (INCOMPLETE)" if side.left_out else ""
    return f"{letter}: {side.name}: FOCUS {versions}, {rows}{undated}{left_out}"


def _row(key: Sequence[str], pair: tuple[Total, Total], found: Comparison) -> list[str]:
    amounts = _amounts(pair, found)
    cells = [*(part or "-" for part in key), *(amounts[name] for name in _AMOUNTS[:3])]
    return [*cells, *(f"{total.rows:,}" for total in pair), *(f"{total.left_out:,}" for total in pair)]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [*names, "A", "B", "B - A", "rows in A", "rows in B", "rows left out of A", "rows left out of B"]
    # Rows that are in no sum are rare: their columns are there only where some are.
    width = len(head) - (0 if any({*row[-2:]} != {"0"} for row in rows) else 2)
    lines = [list(line[:width]) for line in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.ljust(size) if place < len(names) else cell.rjust(size)
            for place, (cell, size) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _explaining(found: Comparison) -> list[str]:
    lines = []
    for row in found.rows:
        what = " ".join(value for value in row.identity.values() if value)
        amount = number_text(row.before or row.after or Decimal(0))
        if row.change == "changed":
            amount = f"{number_text(row.before or Decimal(0))} -> {number_text(row.after or Decimal(0))}"
        times = f" ({row.rows:,} rows)" if row.rows > 1 else ""
        lines.append(f"  {row.change}: {what}: {amount}{times}, difference {number_text(row.difference)}")
    return lines


def _left(found: Comparison) -> list[str]:
    lines = []
    if found.unshown:
        lines.append(f"  not shown: {_counted(found.unshown, 'row')} more; --max-rows shows them")
    if found.rows and not found.are_all:
        lines.append("  more rows differ than were looked at; --where narrows them")
    elif not found.rows and not found.are_all:
        lines.append("  so many rows differ that none was matched; --where narrows them")
    lines += [
        f"  difference that the rows above leave: {number_text(amount)} {currency}"
        for currency, amount in found.unexplained().items()
    ]
    return lines


def _remarks(found: Comparison) -> list[str]:
    lines = []
    for letter, side in (("A", found.a), ("B", found.b)):
        if side.left_out:
            those = "it" if side.left_out == 1 else "them"
            lines.append(f"INCOMPLETE: {left_out_of(letter, side.left_out)}; B - A is without {those}")
            lines += [f"  their readable {amount}" for amount in _readable(found, letter)]
        lines += unattributed_lines(side.groups.unattributed)
        for part in side.parts:
            lines += [f"  {part.name}: {line}" for line in problem_lines(part.problems)]
            lines += [f"note: {part.name}: {note}" for note in part.notes]
    lines += [f"note: {note}" for note in found.notes]
    return ["", *lines] if lines else []


def _readable(found: Comparison, letter: str) -> list[str]:
    """Return what can be read of the cost of the rows that are left out of A or of B, by currency."""
    place = "AB".index(letter)
    known = {currency: pair[place].known for currency, pair in found.by_currency().items()}
    return [f"cost: {number_text(amount)} {currency}".rstrip() for currency, amount in known.items() if amount]


def _amounts(pair: tuple[Total, Total], found: Comparison) -> dict[str, str]:
    costs = [found.cost_of(total) for total in pair]
    return {
        "a": number_text(costs[0]),
        "b": number_text(costs[1]),
        "difference": number_text(found.difference(pair)),
    }


def _counts(pair: tuple[Total, Total]) -> dict[str, int]:
    before, after = pair
    return dict(zip(_AMOUNTS[3:], (before.rows, after.rows, before.left_out, after.left_out), strict=True))


def comparison_json(found: Comparison) -> str:
    """Return a comparison for a program: every group, equal or not."""
    return json.dumps(
        {
            "error": None,
            "equal": found.is_equal,
            "cost": found.cost,
            "by": found.names,
            "match": found.match,
            "a": _side(found.a),
            "b": _side(found.b),
            "totals": [
                {"currency": currency, **_amounts(pair, found), **_counts(pair)}
                for currency, pair in found.by_currency().items()
            ],
            "groups": [
                {**dict(zip(found.names, key, strict=True)), **_amounts(pair, found), **_counts(pair)}
                for key, pair in found.pairs().items()
            ],
            "rows": [
                {
                    "change": row.change,
                    "group": dict(zip(found.names, row.group, strict=True)),
                    "charge": row.identity,
                    "a": None if row.before is None else number_text(row.before),
                    "b": None if row.after is None else number_text(row.after),
                    "rows": row.rows,
                    "difference": number_text(row.difference),
                }
                for row in found.rows
            ],
            "rows_not_shown": found.unshown,
            "all_rows_matched": found.are_all,
            "not_explained": {currency: number_text(amount) for currency, amount in found.unexplained().items()},
            "notes": found.notes,
        },
        indent=2,
        ensure_ascii=False,
    )


def _side(side: Side) -> dict[str, object]:
    return {
        "name": side.name,
        "focus_version": ", ".join(dict.fromkeys(part.version for part in side.parts)),
        "rows": sum(part.rows for part in side.parts),
        "undated_rows": side.undated,
        "unreadable_rows": side.left_out,
        "unattributed_rows": side.groups.unattributed,
        "problems": [
            {"file": part.name, **problem._asdict()} for part in side.parts for problem in part.problems.first
        ],
        "notes": [f"{part.name}: {note}" for part in side.parts for note in part.notes],
    }


def comparison_csv(found: Comparison) -> str:
    """Return a comparison as CSV: lines of the totals, of every group, and of the rows that explain the difference.

    The first column tells them apart: each kind adds up to the difference by itself.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    charge = [f"charge_{name}" for name in found.match]
    table.writerow(["record", *found.names, *_AMOUNTS, *charge])
    nothing = [""] * len(charge)
    for currency, pair in found.by_currency().items():
        key = [currency, *("" for _ in found.names[1:])]
        table.writerow(["total", *key, *_amounts(pair, found).values(), *_counts(pair).values(), *nothing])
    for group, pair in found.pairs().items():
        table.writerow(["group", *group, *_amounts(pair, found).values(), *_counts(pair).values(), *nothing])
    table.writerows(_charge_lines(found.rows))
    for currency, amount in found.unexplained().items() if found.rows else ():
        key = [currency, *("" for _ in found.names[1:])]
        table.writerow(["not explained", *key, "", "", number_text(amount), *("" for _ in _AMOUNTS[3:]), *nothing])
    return text.getvalue().removesuffix("\n")


def _charge_lines(rows: Iterable[RowDifference]) -> Iterable[list[str]]:
    for row in rows:
        amounts = ["" if cost is None else number_text(cost) for cost in (row.before, row.after)]
        counts = [str(0 if cost is None else row.rows) for cost in (row.before, row.after)]
        yield [row.change, *row.group, *amounts, number_text(row.difference), *counts, "", "", *row.identity.values()]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
