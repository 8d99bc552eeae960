"""Sums of charges by series in spans of one and eight days, and sums of any window made from them.

They are kept beside the charges: at every commit a span's totals are the sum of its charges, as whoever writes charges
writes these in the same transaction.

Each cut between two buckets is moved to the nearest edge of a span. What lies between such edges is read from the
spans' totals; the hours between a cut and its edge are read from shorter spans or one by one, and moved to the bucket
they belong to. So a day of Berlin costs an hour or two of charges, not 24, and a month a few spans.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby, pairwise
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, Connection, Insert, case, cast, delete, func, literal, select
from sqlalchemy.dialects import sqlite

from exporter.calendar import first_hour_of, month_after
from exporter.charges import NANO, NOTHING, Amounts, Window, hour_number, hour_start
from exporter.ledger.accounting.restatement import HOURS_OF_DAY, Difference, HourKind, SumsBySeries, merged
from exporter.ledger.tables import bulk
from exporter.ledger.tables.database import write_many
from exporter.ledger.tables.schema import MEASURES, charges, series, span_totals

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

SPANS = (HOURS_OF_DAY, 8 * HOURS_OF_DAY)
"""The lengths of spans in hours. The n-th span, counted from 1970, holds the hours from n times its length on."""

MACHINE_SECOND = "machine_second"
"""Unit of machine time in sums, which fal calls `second`, as it does a second of video: the two have no sum."""

summed_unit = case(
    (series.c.product.in_(("serverless", "compute")) & (series.c.unit == "second"), literal(MACHINE_SECOND)),
    else_=series.c.unit,
).label("summed_unit")
PARTS = tuple(span_totals.c[f"{name}_{part}"] for name in MEASURES for part in ("units", "nanos"))
"""The columns that make up the sums, in the order of MEASURES, units before nanos."""

_SPAN_KEY = ("scope_id", "length", "span", "series_id")
_TOTALS = bulk.Target(span_totals.name, (*_SPAN_KEY, "charges", *(part.name for part in PARTS)), _SPAN_KEY)
_series = itemgetter(1)


@cache
def _upsert(dialect: str) -> Insert:
    """Return the statement that adds rows to the totals, in the words of a database."""
    insert = sqlite.insert(span_totals) if dialect == "sqlite" else _postgresql_insert()
    added = {column.name: column + insert.excluded[column.name] for column in (span_totals.c.charges, *PARTS)}
    return insert.on_conflict_do_update(index_elements=list(span_totals.primary_key.columns), set_=added)


def _postgresql_insert() -> "postgresql.Insert":
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415  it takes memory, and most ledgers are files

    return postgresql.insert(span_totals)


def add(connection: Connection, scope: int, difference: Difference, sums: Mapping[HourKind, SumsBySeries]) -> None:
    """Add what a restatement has changed, and what its changes add up to."""
    if not difference.deltas:
        return
    for length in SPANS:
        span_of = {kind: kind.day * HOURS_OF_DAY // length for kind in sums}
        spans = merged(sums, span_of.__getitem__)
        counts = _counts(difference, length)
        rows = [
            (
                scope,
                length,
                span,
                series,
                counts[span][series],
                *(part for amount in amounts for part in divmod(amount, NANO)),
            )
            for span, by_series in sorted(spans.items())
            for series, amounts in sorted(by_series.items())
        ]
        if bulk.is_worth_it(connection, rows):
            bulk.merge(connection, _TOTALS, rows, then="add")
        else:
            write_many(connection, _upsert(connection.dialect.name), rows)
        if difference.removed:
            connection.execute(
                delete(span_totals).where(
                    span_totals.c.scope_id == scope,
                    span_totals.c.length == length,
                    span_totals.c.span.between(min(spans), max(spans)),
                    span_totals.c.charges == 0,
                )
            )


def _counts(difference: Difference, length: int) -> dict[int, Counter[int]]:
    """Return by how many charges each span and series has grown."""
    counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for span, added in groupby(difference.added, lambda row: row[0] // length):
        counts[span].update(map(_series, added))
    for span, removed in groupby(difference.removed, lambda cell: cell[0] // length):
        counts[span].subtract(map(_series, removed))
    return counts


def rebuild(connection: Connection, until: int | None = None) -> None:
    """Make the totals anew from the charges: all of them, or those of the spans up to the one that holds an hour."""
    halves = [func.sum(part) for name in MEASURES for part in (charges.c[name] // NANO, charges.c[name] % NANO)]
    for length in SPANS:
        # Written out: PostgreSQL does not see that two parameters of the same value make the same expression.
        span = charges.c.hour // literal(length, literal_execute=True)
        sums = select(charges.c.scope_id, literal(length), span, charges.c.series_id, func.count(), *halves).group_by(
            charges.c.scope_id, span, charges.c.series_id
        )
        stale = delete(span_totals).where(span_totals.c.length == length)
        if until is not None:
            stale = stale.where(span_totals.c.span <= until // length)
            sums = sums.where(charges.c.hour < (until // length + 1) * length)
        connection.execute(stale)
        connection.execute(span_totals.insert().from_select(list(span_totals.columns), sums))


Bucket = Literal["hour", "day", "month"]

_UTC = ZoneInfo("UTC")

_LENGTHS: Mapping[Bucket | None, int | None] = MappingProxyType({"hour": 1, "day": 24, "month": 28 * 24, None: None})
"""Length of buckets in hours, or a lower bound of it."""

_HALVES = tuple(half for name in MEASURES for half in (charges.c[name] // NANO, charges.c[name] % NANO))


class UsageTerms(NamedTuple):
    """Terms of a question for charges added up.

    Attributes:
        window: the hours that count.
        by: the dimensions to group by.
        every: the length of a bucket; None for one that is the whole window.
        zone: whose days and months the buckets are.
        where: the values that count, by dimension.
    """

    window: Window
    by: Sequence[str]
    every: Bucket | None = None
    zone: ZoneInfo = _UTC
    where: Mapping[str, Collection[str]] = MappingProxyType({})


class UsageSum(NamedTuple):
    """Charges of one group in one bucket of time.

    Attributes:
        at: start of the bucket, of the first one that of the window; None where the whole window is one bucket.
        group: the values of the dimensions that were asked for, in their order.
        amounts: the sums; their quantity is 0, as different units do not add up.
        quantities: nano-units by unit; time of machines is apart, as MACHINE_SECOND.
    """

    at: datetime | None
    group: tuple[str, ...]
    amounts: Amounts
    quantities: Mapping[str, int]


class SumKey(NamedTuple):
    """Key of charges that have a sum."""

    bucket: int
    group: tuple[str, ...]
    unit: str


Sums = dict[SumKey, Amounts]


class _Stretch(NamedTuple):
    """The hours in `[first, end)`, whole spans of a length.

    Attributes:
        plus: the bucket they are added to; if `apart`, that of the first span, the next being that of the next.
        minus: the bucket they are taken from.
    """

    length: int
    first: int
    end: int
    plus: int
    minus: int = -1
    apart: bool = False


def usage_sums(connection: Connection, accounts: Mapping[int, str], terms: UsageTerms) -> tuple[UsageSum, ...]:
    """Add up the charges of some scopes; a group that was charged nothing in a bucket is left out.

    Args:
        connection: in a transaction, so that all is of one instant.
        accounts: of the scopes that count.
        terms: of the question.
    """
    cuts = cuts_of(terms.window, terms.every, terms.zone)
    wanted = terms.where.get("account")
    accounts = {scope: account for scope, account in accounts.items() if wanted is None or account in wanted}
    buckets = range(len(cuts) - 1)
    sums: Sums = {}
    for stretch in _stretches(cuts, _LENGTHS[terms.every]):
        for span, group, unit, amounts in _read(connection, accounts, stretch, terms.by, terms.where):
            if stretch.plus + span in buckets:
                key = SumKey(stretch.plus + span, group, unit)
                sums[key] = sums.get(key, NOTHING).plus(amounts)
            if stretch.minus in buckets:
                key = SumKey(stretch.minus, group, unit)
                sums[key] = sums.get(key, NOTHING).plus(amounts.negated())
    return usage_sums_of(sums, cuts, terms.every)


def labelled(
    sums: Iterable[UsageSum], by: Sequence[str], kept: int, key_labels: Mapping[tuple[str, str], str]
) -> tuple[UsageSum, ...]:
    """Put the labels of API keys in place of their ids, and together what then has the same group.

    Args:
        sums: grouped by account and API key among others.
        by: the dimensions of their groups.
        kept: how many of these are wanted, the first ones.
        key_labels: by account and id.
    """
    account_at, key_at = by.index("account"), by.index("api_key")
    amounts: defaultdict[tuple[datetime | None, tuple[str, ...]], Amounts] = defaultdict(Amounts)
    quantities: defaultdict[tuple[datetime | None, tuple[str, ...]], Counter[str]] = defaultdict(Counter)
    for found in sums:
        key_id = found.group[key_at]
        label = key_labels.get((found.group[account_at], key_id), key_id)
        place = found.at, (*found.group[:key_at], label, *found.group[key_at + 1 :])[:kept]
        amounts[place] = amounts[place].plus(found.amounts)
        quantities[place].update(found.quantities)
    return tuple(
        UsageSum(at, group, amounts[at, group], dict(sorted(quantities[at, group].items())))
        for at, group in sorted(amounts, key=lambda place: (place[0] or hour_start(0), place[1]))
    )


def cuts_of(window: Window, every: Bucket | None, zone: ZoneInfo) -> list[int]:
    """Return where buckets begin, and the end of the last, as numbers of hours."""
    if every == "hour":
        return list(range(hour_number(window.start), hour_number(window.end) + 1))
    cuts = [window.start]
    if every is not None:
        day = window.start.astimezone(zone).date()
        while True:
            day = day + timedelta(days=1) if every == "day" else month_after(day)
            cut = first_hour_of(day, zone)
            if cut >= window.end:
                break
            if cut > cuts[-1]:
                cuts.append(cut)
    return [hour_number(cut) for cut in (*cuts, window.end)]


def _stretches(cuts: Sequence[int], bucket_length: int | None) -> Iterator[_Stretch]:
    """Return what to read: in spans as long as are worth it for buckets of a length, in hours, or of any length."""
    window = cuts[-1] - cuts[0]
    edges = list(cuts)
    length = 1
    for longer in SPANS:
        if longer > min(window, bucket_length or window):
            break
        for bucket, edge in enumerate(edges):
            edges[bucket] = nearest = (edge + longer // 2) // longer * longer
            if edge < nearest:
                yield _Stretch(length, edge, nearest, plus=bucket, minus=bucket - 1)
            elif nearest < edge:
                yield _Stretch(length, nearest, edge, plus=bucket - 1, minus=bucket)
        length = longer
    run = None
    for bucket, (first, end) in enumerate(pairwise(edges)):
        if run is not None and end - first == length and run.plus + (first - run.first) // length == bucket:
            run = run._replace(end=end)
            continue
        if run is not None:
            yield run
        run = _Stretch(length, first, end, plus=bucket, apart=end - first == length) if first < end else None
    if run is not None:
        yield run


def _read(
    connection: Connection,
    accounts: Mapping[int, str],
    stretch: _Stretch,
    by: Sequence[str],
    where: Mapping[str, Collection[str]],
) -> Iterator[tuple[int, tuple[str, ...], str, Amounts]]:
    """Yield span, group, unit and amounts of what the scopes were charged in a stretch; some may come more than once.

    The span is the first, 0, of all charges where they are not wanted apart.
    """
    table, halves = (charges, _HALVES) if stretch.length == 1 else (span_totals, PARTS)
    position = charges.c.hour if stretch.length == 1 else span_totals.c.span
    within = [position >= stretch.first // stretch.length, position < stretch.end // stretch.length]
    if stretch.length > 1:
        within.append(span_totals.c.length == stretch.length)
    group = [series.c[name] for name in by if name != "account"]
    span = position - stretch.first // stretch.length if stretch.apart else literal(0)
    rows = connection.execute(
        select(span, table.c.scope_id, summed_unit, *group, *(cast(func.sum(half), BigInteger) for half in halves))
        .join_from(table, series, series.c.id == table.c.series_id)
        .where(table.c.scope_id.in_(accounts), *within)
        .where(*(series.c[name].in_(values) for name, values in where.items() if name != "account"))
        # The unit by its name: PostgreSQL takes an expression with values of its own for another one.
        .group_by(table.c.scope_id, summed_unit.name, *group, *([position] if stretch.apart else []))
    )
    account_at = by.index("account") if "account" in by else None
    for span_number, scope, unit, *rest in rows.all():
        values = rest[: len(group)]
        if account_at is not None:
            values.insert(account_at, accounts[scope])
        quantity, quantity_low, gpu, gpu_low, listed, listed_low, discount, discount_low, cost, cost_low = rest[
            len(group) :
        ]
        yield (
            span_number,
            tuple(values),
            unit,
            Amounts(
                quantity * NANO + quantity_low,
                gpu * NANO + gpu_low,
                listed * NANO + listed_low,
                discount * NANO + discount_low,
                cost * NANO + cost_low,
            ),
        )


def usage_sums_of(sums: Mapping[SumKey, Amounts], cuts: Sequence[int], every: Bucket | None) -> tuple[UsageSum, ...]:
    """Put the units of each group together, in the order of buckets and groups; leave out what adds up to nothing."""
    starts: Sequence[datetime | None] = [None] if every is None else [hour_start(cut) for cut in cuts]
    charged = sorted([pair for pair in sums.items() if pair[1] != NOTHING])
    found: list[UsageSum] = []
    quantities: dict[str, int] = {}
    last = None
    # Written out, as it is done for every row of a large answer.
    for (bucket, group, unit), (quantity, gpu_seconds, list_cost, discount, cost) in charged:
        amounts = Amounts(0, gpu_seconds, list_cost, discount, cost)
        if (bucket, group) == last:
            amounts = found.pop().amounts.plus(amounts)
        else:
            last, quantities = (bucket, group), {}
        if quantity:
            quantities[unit] = quantity
        found.append(UsageSum(starts[bucket], group, amounts, quantities))
    return tuple(found)
