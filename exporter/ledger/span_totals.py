"""What the charges sum up to by series in spans of one and of eight days of UTC, so that months are read at once.

They are kept beside the charges: at every commit a span's totals are the sum of its charges, as whoever writes charges
writes these in the same transaction.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType

from sqlalchemy import Connection, Insert, delete, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from exporter.charges import NANO
from exporter.ledger.database import write_many
from exporter.ledger.restatement import Difference
from exporter.ledger.schema import MEASURES, charges, span_totals
from exporter.ledger.sums import HOURS_OF_DAY, HourKind, SumsBySeries, merged

SPANS = (HOURS_OF_DAY, 8 * HOURS_OF_DAY)
"""The lengths of spans in hours. The n-th span, counted from 1970, holds the hours from n times its length on."""

PARTS = tuple(span_totals.c[f"{name}_{part}"] for name in MEASURES for part in ("units", "nanos"))
"""The columns that make up the sums, in the order of MEASURES, units before nanos."""

_series = itemgetter(1)


def _upsert(insert: sqlite.Insert | postgresql.Insert) -> Insert:
    added = {column.name: column + insert.excluded[column.name] for column in (span_totals.c.charges, *PARTS)}
    return insert.on_conflict_do_update(index_elements=list(span_totals.primary_key.columns), set_=added)


_UPSERTS = MappingProxyType(
    {"sqlite": _upsert(sqlite.insert(span_totals)), "postgresql": _upsert(postgresql.insert(span_totals))}
)


def add(connection: Connection, scope: int, difference: Difference, sums: Mapping[HourKind, SumsBySeries]) -> None:
    """Add what a restatement has changed, and what its changes add up to."""
    if not difference.deltas:
        return
    for length in SPANS:
        span_of = {kind: kind.day * HOURS_OF_DAY // length for kind in sums}
        spans = merged(sums, span_of.__getitem__)
        counts = _counts(difference, length)
        rows = [
            (scope, length, span, series, counts[span][series], *(part for it in amounts for part in divmod(it, NANO)))
            for span, by_series in sorted(spans.items())
            for series, amounts in sorted(by_series.items())
        ]
        write_many(connection, _UPSERTS[connection.dialect.name], rows)
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
