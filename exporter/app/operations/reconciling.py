"""Reconciliation of bookings with charged requests, as a command."""

from collections.abc import Collection
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from exporter.atomic_file import written_whole
from exporter.booked.comparison import Comparison, compare, default_window
from exporter.booked.report import csv_text, json_document, metrics_text, table_text
from exporter.booked.sources import BookingsError, Columns
from exporter.charges import HOUR, Window, hour_of
from exporter.events.store import open_reader
from exporter.queries.exact_json import exact_json


def run_reconcile(
    source: str,
    *,
    events_url: str,
    accounts: Collection[str],
    edges: tuple[datetime | None, datetime | None],
    now: datetime,
    columns: Columns,
    tags: Collection[str],
    form: str,
    output: Path | None,
) -> int:
    """Compare bookings with requests and print the outcome; return 1 if anything differs.

    Raises:
        BookingsError: the bookings cannot be read, the output not written, or the window is empty.
        ConfigurationError: a library is missing, or the address of the store cannot be used.
        EventsError: the store cannot be read.
    """
    window = _window(edges, now)
    with closing(open_reader(events_url)) as reader:
        found = compare(source, reader, window, columns=columns, accounts=accounts, tags=tags)
    match form:
        case "json":
            text = exact_json(json_document(found)) + "\n"
        case "csv":
            text = csv_text(found)
        case "metrics":
            text = metrics_text(found)
        case _:
            text = table_text(found)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            with written_whole(output) as file:
                file.write(text.encode())
        except OSError as error:
            raise BookingsError(f"{output} cannot be written: {error.strerror}") from None
    return int(has_differences(found))


def has_differences(found: Comparison) -> bool:
    """Return whether a comparison has found anything that is not as it should be."""
    kinds = (found.never_booked, found.booked_twice, found.never_charged, found.differing)
    return any(kind.requests for kind in kinds)


def _window(edges: tuple[datetime | None, datetime | None], now: datetime) -> Window:
    usual = default_window(now)
    start = usual.start if edges[0] is None else hour_of(edges[0])
    # An hour that is named is meant whole.
    end = usual.end if edges[1] is None else hour_of(edges[1].astimezone(UTC) + HOUR - timedelta(microseconds=1))
    if start >= end:
        raise BookingsError("the window is empty: --start is not before --end, which defaults to now")
    return Window(start, end)
