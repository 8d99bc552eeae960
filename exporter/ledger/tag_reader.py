"""Sums of usage by tags, beside the exporter that writes them: the ledger's sums, divided as fal allocates them."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from exporter.calendar import bucket_start
from exporter.charges import NOTHING, Amounts, Window, hour_number, hour_start
from exporter.ledger.accounting.tags import untagged
from exporter.ledger.tables import tags as tables
from exporter.ledger.tables.span_totals import Bucket, UsageSum, usage_sums
from exporter.tags import TAG, UNTAGGED, TagValues, tag_values

_Cell = tuple[datetime | None, str, str]
"""Start of a bucket, account and model."""


def tagged_sums(  # noqa: PLR0917  the terms of one question
    connection: Connection,
    accounts: Mapping[int, str],
    window: Window,
    by: Sequence[str],
    every: Bucket | None,
    zone: ZoneInfo,
    where: Mapping[str, Collection[str]],
    keys: TagValues,
    known_from: Mapping[str, datetime],
) -> tuple[UsageSum, ...]:
    """Add up charges by tags; what no tag explains has the value `untagged`, and is below zero where fal tags more.

    Args:
        connection: in a transaction, so that all is of one instant.
        accounts: of the scopes that count.
        window: the hours that count.
        by: account, model, and keys of tags behind `tag:`.
        every: the length of a bucket; None for one that is the whole window.
        zone: whose days and months the buckets are.
        where: the values that count, by the same names.
        keys: those of the tags that the ledger reads.
        known_from: the first hour from which on the ledger has what tags divide, by account; of earlier ones nothing
            is told by tags, as it would be taken from what the ledger does not have.
    """
    charged = {name: values for name, values in where.items() if not name.startswith(TAG)}
    wanted = {name: values for name, values in where.items() if name.startswith(TAG)}
    sums: defaultdict[tuple[datetime | None, tuple[str, ...]], Amounts] = defaultdict(Amounts)
    quantities: defaultdict[tuple[datetime | None, tuple[str, ...]], Counter[str]] = defaultdict(Counter)
    for (at, account, model), values, amounts, units in _rows(
        connection, accounts, window, every, zone, charged, keys, known_from
    ):
        named = {"account": account, "model": model} | {
            f"{TAG}{key}": value for key, value in zip(keys, values, strict=True)
        }
        if all(named[name] in found for name, found in wanted.items()):
            place = at, tuple(named[name] for name in by)
            sums[place] = sums[place].plus(amounts)
            quantities[place].update(units)
    return tuple(
        UsageSum(at, group, sums[at, group], {unit: amount for unit, amount in sorted(units.items()) if amount})
        for (at, group), units in sorted(quantities.items(), key=lambda item: (item[0][0] or hour_start(0), item[0][1]))
        if sums[at, group] != NOTHING or any(units.values())
    )


def _rows(  # noqa: PLR0917  as above
    connection: Connection,
    accounts: Mapping[int, str],
    window: Window,
    every: Bucket | None,
    zone: ZoneInfo,
    where: Mapping[str, Collection[str]],
    keys: TagValues,
    known_from: Mapping[str, datetime],
) -> Iterator[tuple[_Cell, TagValues, Amounts, Mapping[str, int]]]:
    """Yield what is tagged, and then what is left of each model."""
    rest: dict[_Cell, Amounts] = {}
    rest_units: defaultdict[_Cell, Counter[str]] = defaultdict(Counter)
    for found in usage_sums(connection, accounts, window, ("account", "model"), every, zone, where):
        cell = found.at, found.group[0], found.group[1]
        rest[cell] = found.amounts
        rest_units[cell].update(found.quantities)
    names = {account for account in accounts.values() if account in where.get("account", {account})}
    end = hour_number(window.end)
    found_by_tags = (
        row
        for account in sorted(names & known_from.keys())
        for row in tables.sums(
            connection,
            {account},
            hour_number(max(window.start, known_from[account])),
            end,
            by_hour=every is not None,
        )
    )
    for hour, account, model, unit, text, amounts in found_by_tags:
        values = tag_values(json.loads(text), keys)
        if model not in where.get("model", {model}) or all(value == UNTAGGED for value in values):
            continue
        start = None if every is None else max(bucket_start(hour_start(hour), every, zone), window.start)
        cell = start, account, model
        plain = amounts._replace(quantity=0)
        yield cell, values, plain, {unit: amounts.quantity}
        rest[cell] = rest.get(cell, NOTHING).plus(plain.negated())
        rest_units[cell].subtract({unit: amounts.quantity})
    for cell, amounts in rest.items():
        yield cell, untagged(len(keys)), amounts, rest_units[cell]


def hours_read(connection: Connection, account: str, window: Window) -> int:
    """Return how many hours of a window have been read by tags for good."""
    hours = tables.read_hours(connection, account, hour_number(window.start), hour_number(window.end))
    return sum(state.complete for state in hours.values())
