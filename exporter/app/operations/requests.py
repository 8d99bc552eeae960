"""Single requests in a terminal: one by its id, the dearest, a file of them, what differs, and what was booked."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from exporter.booked.comparison import Comparison, compare, default_window
from exporter.booked.report import csv_text, json_document, metrics_text, table_text
from exporter.booked.sources import BookingsError, Columns
from exporter.charges import HOUR, Window, decimal_of, hour_of
from exporter.errors import ConfigurationError
from exporter.events.store import EventReader, open_reader
from exporter.ledger.reader import LedgerReader, LedgerSnapshot
from exporter.queries.exact_json import decimal_text, exact_json
from exporter.queries.requests import (
    NOT_READ,
    RequestRow,
    answer_differences,
    answer_request,
    answer_requests,
    missing_requests,
    of_polled,
    parse_requests_question,
)
from exporter.settings import Settings
from exporter.unfinished import written_whole


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[EventReader, LedgerSnapshot]]:
    if not settings.requests_url:
        raise ConfigurationError(NOT_READ)
    ledger = LedgerReader(settings.ledger_url.get_secret_value())
    store = open_reader(settings.requests_url)
    try:
        with ledger.snapshot() as snapshot:
            yield store, snapshot
    finally:
        store.close()
        ledger.close()


def _amount(nanos: int) -> str:
    return decimal_text(decimal_of(nanos))


def run_requests_get(settings: Settings, request_id: str) -> int:
    """Print one request; return the exit code.

    Raises:
        ConfigurationError: requests are not read.
        NoRequestsError: no request has this id.
        EventsError, LedgerError: the store or the ledger cannot be read.
    """
    with _opened(settings) as (store, ledger):
        row = answer_request(store, request_id, ledger.key_labels)
    request = row.request
    for name, value in (
        ("request_id", request.request_id),
        ("time", request.at.isoformat()),
        ("account", row.account),
        ("model", request.model),
        ("team", request.team),
        ("api_key", row.api_key),
        ("member", request.member),
        ("tags", request.tags),
        ("quantity", "" if request.quantity is None else _amount(request.quantity)),
        ("unit_price", "" if request.unit_price is None else _amount(request.unit_price)),
        ("list_cost", _amount(request.list_cost)),
        ("discount", _amount(request.discount)),
        ("cost", _amount(request.cost)),
    ):
        if value:
            click.echo(f"{name:<12} {value}")
    return 0


def run_requests_top(settings: Settings, texts: Mapping[str, str]) -> int:
    """Print the requests that a question asks for; return the exit code.

    Raises:
        ConfigurationError: requests are not read.
        QuestionError: a parameter cannot be read.
        EventsError, LedgerError: the store or the ledger cannot be read.
    """
    with _opened(settings) as (store, ledger):
        now, labels = datetime.now(UTC), ledger.key_labels
        question = parse_requests_question(texts, now=now, zone=settings.timezone, key_labels=labels)
        answer = answer_requests(store, question, ledger, now=now)
    for row in answer.requests:
        click.echo(_line(row))
    if not answer.requests:
        click.echo("No such request has been read; serve reads requests once it has loaded the history", err=True)
    for note in answer.notes:
        click.echo(note, err=True)
    if answer.next_cursor:
        click.echo(f"There are more: raise --limit, or repeat with --cursor {answer.next_cursor}", err=True)
    return 0


def _line(row: RequestRow) -> str:
    request = row.request
    return f"{_amount(request.cost):>14}  {request.at:%Y-%m-%dT%H:%M:%SZ}  {request.request_id}  {request.model}"


def run_requests_export(settings: Settings, texts: Mapping[str, str], file: Path) -> int:
    """Write the requests that a question asks for as a Parquet file; return the exit code.

    Raises:
        ConfigurationError: requests are not read.
        QuestionError: a parameter cannot be read.
        EventsError, LedgerError: the store or the ledger cannot be read.
    """
    with _opened(settings) as (store, ledger):
        now = datetime.now(UTC)
        question = parse_requests_question(texts, now=now, zone=settings.timezone, key_labels=ledger.key_labels)
        notes = missing_requests(store, question, ledger, now=now)
        count = store.export(of_polled(store, question, ledger), file)
    for note in notes:
        click.echo(note, err=True)
    click.echo(f"{count} requests written to {file}", err=True)
    return 0


def run_requests_differences(settings: Settings, texts: Mapping[str, str]) -> int:
    """Print the settled hours and models whose requests differ from the ledger.

    Return 1 if there are some, or if nothing could be compared, else 0.

    Raises:
        ConfigurationError: requests are not read.
        QuestionError: a parameter cannot be read.
        EventsError, LedgerError: the store or the ledger cannot be read.
    """
    with _opened(settings) as (store, ledger):
        answer = answer_differences(store, ledger, texts, now=datetime.now(UTC))
    differs = not answer.accounts
    for account in answer.accounts:
        not_read = f", {account.not_read} settled hours not read" if account.not_read else ""
        click.echo(
            f"{account.account}: {account.hours} settled hours compared{not_read}; requests {_amount(account.events)}, "
            f"ledger {_amount(account.ledger)}, {len(account.differences)} hours and models differ"
        )
        differs = differs or not account.hours
        for one in account.differences:
            differs = True
            click.echo(
                f"{one.hour:%Y-%m-%dT%H:%MZ}  {one.model}  requests {_amount(one.events)}  ledger "
                f"{_amount(one.ledger)}  difference {_amount(one.amount)}"
            )
    return int(differs)


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
