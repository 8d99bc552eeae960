"""`fal-exporter focus`: checks and sums up FOCUS files, and writes one from the ledger."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click

from exporter import __version__
from exporter.charges import Clock, Window, utc_now
from exporter.errors import ConfigurationError, FalExporterError, LedgerError
from exporter.focus import report
from exporter.focus.charge import Granularity, Price, focus_charges, next_month
from exporter.focus.checks import Checker
from exporter.focus.dialect import PIECE
from exporter.focus.metadata import metadata
from exporter.focus.reader import Reader
from exporter.focus.totals import SummaryRow, Totals
from exporter.focus.writer import write
from exporter.ledger.statement import Coverage, open_statement

_CHECK_FORMATS = {"text": report.check_text, "json": report.check_json, "junit": report.check_junit}
_STDIN = "-"
_UNREADABLE = 2


class UnreadableFileError(FalExporterError):
    """A file cannot be opened, read or written."""

    exit_code = _UNREADABLE


def run_check(path: str, *, version: str | None, output_format: str) -> int:
    """Check a file and print what was found; return 0 for nothing, 1 for findings.

    Raises:
        FocusError, UnreadableFileError: the file cannot be read, exit code 2.
    """
    checker = Checker(version)
    for piece in _pieces(path):
        checker.feed(piece)
    found = checker.finish()
    click.echo(_CHECK_FORMATS[output_format](_name(path), found))
    return 0 if found.is_clean else 1


def run_summary(path: str, *, output_format: str) -> int:
    """Print what a file adds up to; return 0, or 1 where rows could not be read.

    Raises:
        FocusError, UnreadableFileError: the file cannot be read, exit code 2.
    """
    reader, totals = Reader(SummaryRow), Totals()
    for piece in _pieces(path):
        totals.add(reader.feed(piece))
    totals.add(reader.finish())
    shown = report.summary_json if output_format == "json" else report.summary_text
    click.echo(shown(_name(path), reader, totals))
    return 1 if reader.problems.rows else 0


def run_export(
    address: str,
    window: Window,
    *,
    granularity: str,
    version: str,
    omit_empty_columns: bool,
    output: Path | None,
    metadata_output: Path | None,
    account: str | None,
    clock: Clock = utc_now,
) -> int:
    """Write a Cost and Usage file from the ledger; a file appears whole or not at all.

    What the file may lack is told on stderr.

    Args:
        address: of the ledger.
        window: the charges that are wanted.
        granularity: of the charge periods: hour, day or month.
        version: of FOCUS.
        omit_empty_columns: see `exporter.focus.writer.write`.
        output: where to; None for standard output.
        metadata_output: where to write the metadata; None for nowhere.
        account: the one account wanted; None for all that the ledger counts.
        clock: tells when it is written.

    Raises:
        LedgerError: there is no ledger, it cannot be read, or it does not keep all of the window.
        ConfigurationError: the ledger does not count the account.
        UnreadableFileError: a file cannot be written.
    """
    periods = Granularity(granularity)
    with open_statement(address, account) as statement:
        if not statement.accounts:
            wanted = f"the account {account!r}" if account else "any account yet"
            raise ConfigurationError(f"--account: the ledger does not count {wanted}")
        coverage = statement.coverage(window)
        _refuse_forgotten(coverage, window)
        prices = {it[:6]: Price(it.price, it.discount) for it in statement.prices().values()}
        charges = focus_charges(statement.charges(window), window, periods, prices)
        with _output(output) as file:
            written = write(charges, file, version=version, omit_empty_columns=omit_empty_columns)
    if metadata_output is not None:
        text = metadata(
            written,
            version=version,
            generator_version=__version__,
            created=clock(),
            window=window,
            granularity=granularity,
            complete=not coverage.missing,
        )
        try:
            metadata_output.write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            raise UnreadableFileError(f"--metadata: {metadata_output} cannot be written: {error.strerror}") from None
    if coverage.missing:
        click.echo(
            f"note: {coverage.missing:,} hours of this window have not been read from fal to their end; "
            "export it again when they are",
            err=True,
        )
    return 0


def window_of(month: str | None, start: datetime | None, end: datetime | None) -> Window:
    """Return the window that a user means: a UTC month, or from a start to an end, both aware.

    Raises:
        ConfigurationError: it is neither, or not on whole hours.
    """
    if month is not None and start is None and end is None:
        try:
            first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
        except ValueError:
            raise ConfigurationError(f"--month: {month!r} is no month; write it like 2026-10") from None
        return Window(first, next_month(first))
    if month is not None or start is None or end is None:
        raise ConfigurationError("say of when: either --month, or both --start and --end")
    try:
        return Window(start.astimezone(UTC), end.astimezone(UTC))
    except ValueError as error:
        raise ConfigurationError(f"--start, --end: {error}") from None


def _refuse_forgotten(coverage: Coverage, window: Window) -> None:
    kept = coverage.kept_from
    if kept is not None and window.start < kept:
        raise LedgerError(
            f"the ledger keeps single hours since {kept:%Y-%m-%dT%H:%MZ} only, the export begins before; "
            "begin it later, or let the ledger keep more (FAL_EXPORTER_RETENTION)"
        )


@contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes]]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}.", delete=False) as file:
            unfinished = Path(file.name)
            try:
                yield file
            except BaseException:
                unfinished.unlink()
                raise
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)
    except OSError as error:
        raise UnreadableFileError(f"--output: {path} cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _name(path: str) -> str:
    return "standard input" if path == _STDIN else path


def _pieces(path: str) -> Iterator[bytes]:
    try:
        with sys.stdin.buffer if path == _STDIN else Path(path).open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror}") from None
