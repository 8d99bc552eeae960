"""`fal-exporter focus diff`: two data sets, or one and the ledger, compared."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from exporter.app.focus.files import error_json, failing, filters_of, ledger_request
from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError
from exporter.focus.comparison import Source, compare
from exporter.focus.comparison_report import comparison_csv, comparison_json, comparison_text
from exporter.focus.dataset import STANDARD_INPUT
from exporter.focus.findings import FocusError
from exporter.focus.writer import write
from exporter.ledger.export import open_statement
from exporter.queries.focus.files import LackingError, file_contents
from exporter.unfinished import ScratchFolder

LEDGER = "ledger:"
_LEDGER = re.compile(r"ledger:(?:(?P<source>estimate|invoice):)?(?P<month>\d{4}-\d\d)")
_SHOWN = {"table": comparison_text, "json": comparison_json, "csv": comparison_csv}


def run_diff(
    a: str,
    b: str,
    *,
    ledger: Callable[[], str],
    output_format: str,
    by: Sequence[str] = (),
    where: Sequence[str] = (),
    cost: str = "billed",
    match: Sequence[str] = (),
    most: int = 20,
    clock: Clock = utc_now,
) -> int:
    """Print how two data sets differ; return 0 if they do not, else 1.

    Args:
        a: a file, a folder or a glob, `-` for standard input, or what `LEDGER` begins.
        b: another.
        ledger: returns the address of the ledger, where it is compared.
        output_format: `table`, `json` or `csv`.
        by: what to add up by; none for the usual.
        where: conditions on rows, each `COLUMN=VALUE` or `COLUMN!=VALUE`.
        cost: `billed`, `list` or `effective`.
        match: columns that identify a charge; none for the usual.
        most: rows to show that explain the difference.
        clock: returns the present.

    Raises:
        ConfigurationError: an argument is wrong.
        FocusError, LedgerError, LackingError: one of them cannot be read, exit code 2.
    """
    failed = {"a": a, "b": b}
    with failing(f"{a} and {b}", lambda sentence: error_json(failed, sentence) if output_format == "json" else ""):
        filters = filters_of(by, where)
        if a == b == STANDARD_INPUT:
            raise ConfigurationError(
                "A and B are both standard input, which can be read once; name a file for one of them"
            )
        with ScratchFolder() as folder, _named_as_given(folder):
            sources = [_source(name, folder / letter, ledger, clock) for letter, name in (("A", a), ("B", b))]
            found = compare(*sources, by=by, where=filters, cost=cost, match=match, most=most)
            # A copy of ours is of no interest to anybody.
            text = _SHOWN[output_format](found).replace(f"{folder}/A/", "").replace(f"{folder}/B/", "")
    click.echo(text)
    return 0 if found.is_equal else 1


@contextmanager
def _named_as_given(folder: Path) -> Iterator[None]:
    """Take the folder of our own copies out of what is wrong with them."""
    try:
        yield
    except FocusError as error:
        raise type(error)(str(error).replace(f"{folder}/A/", "").replace(f"{folder}/B/", "")) from None


def _source(given: str, folder: Path, ledger: Callable[[], str], clock: Clock) -> Source:
    """Return what an argument means; what cannot be read twice is copied into a folder."""
    if given == STANDARD_INPUT:
        folder.mkdir()
        copy = folder / "standard input"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return Source(copy.name, [str(copy)])
    if given.startswith(LEDGER):
        folder.mkdir()
        copy = folder / given
        _export(given, copy, ledger, clock)
        return Source(given, [str(copy)])
    return Source(given, [given])


def _export(given: str, path: Path, ledger: Callable[[], str], clock: Clock) -> None:
    """Write what the ledger has of a month to a file, by the hour."""
    asked = _LEDGER.fullmatch(given)
    if asked is None:
        raise ConfigurationError(
            f"{given!r} is no part of the ledger; write ledger:estimate:YYYY-MM for a month of charges so far, or "
            "ledger:invoice:YYYY-MM for one as it was invoiced"
        )
    if asked["source"] == "invoice":
        request = ledger_request({"source": "invoice", "charge_month": asked["month"]}, None, clock=clock)
    else:
        request = ledger_request({"source": "estimate", "timeframe": "hour"}, asked["month"], clock=clock)
    with open_statement(ledger()) as statement:
        if not statement.accounts:
            raise ConfigurationError(f"{given}: the ledger does not contain any account yet")
        try:
            contents = file_contents(statement, request, None, clock())
        except LackingError as error:
            raise LackingError(f"{given}: {error}", error.status) from None
        with path.open("wb") as file:
            write(contents.charges, file, version="1.2")
    if contents.missing:
        click.echo(f"note: {given}: {contents.missing:,} hours of it are not complete yet", err=True)
