"""What the charges sum up to by series in spans of one and of eight days of UTC, so that months are read at once.

They are kept beside the charges: at every commit a span's totals are the sum of its charges, as whoever writes charges
writes these in the same transaction.
"""

from collections import Counter

from sqlalchemy import Connection, delete, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from exporter.charges import NANO
from exporter.ledger.database import write_many
from exporter.ledger.restatement import Difference, summed
from exporter.ledger.schema import MEASURES, charges, span_totals

SPANS = (24, 8 * 24)
"""The lengths of spans in hours. The n-th span, counted from 1970, holds the hours from n times its length on."""

PARTS = tuple(span_totals.c[f"{name}_{part}"] for name in MEASURES for part in ("units", "nanos"))
"""The columns that make up the sums, in the order of MEASURES, units before nanos."""


def add(connection: Connection, scope: int, difference: Difference) -> None:
    """Add what a restatement has changed."""
    if not difference.deltas:
        return
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(span_totals)
    upsert = insert.on_conflict_do_update(
        index_elements=list(span_totals.primary_key.columns),
        set_={column.name: column + insert.excluded[column.name] for column in (span_totals.c.charges, *PARTS)},
    )
    hours = {row[0] for row in difference.deltas}
    for length in SPANS:
        span_of = {hour: hour // length for hour in hours}
        counts = Counter((span_of[row[0]], row[1]) for row in difference.added)
        counts.subtract((span_of[hour], series) for hour, series in difference.removed)
        rows = [
            (scope, length, span, series, counts[span, series], *(part for it in sums for part in divmod(it, NANO)))
            for span, by_series in sorted(summed(difference.deltas, span_of).items())
            for series, sums in sorted(by_series.items())
        ]
        write_many(connection, upsert, rows)
        if difference.removed:
            connection.execute(
                delete(span_totals).where(
                    span_totals.c.scope_id == scope,
                    span_totals.c.length == length,
                    span_totals.c.span.between(min(hours) // length, max(hours) // length),
                    span_totals.c.charges == 0,
                )
            )


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
