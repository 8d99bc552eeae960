"""`fal-exporter focus`: check, sum up, export and fetch FOCUS files."""

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, TypeVar

import click

from exporter import __version__
from exporter.app.wiring import client_of
from exporter.atomic_file import written_whole
from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError, FalExporterError
from exporter.fal import FocusRequest, FocusRequestError, Progress, Silent, fetch
from exporter.focus import check_report, reports
from exporter.focus.checks import KEPT, Checker, Report
from exporter.focus.csv_parser import COMMA
from exporter.focus.dataset import MANIFEST, UnreadableFileError, name_of, naming, packed, parts
from exporter.focus.reader import Reader
from exporter.focus.reports import SUMMARY_COLUMNS, GroupRow, Groups, PartRead, SummaryRow, Totals, parse_filter
from exporter.focus.rules.applicability import read_applicability
from exporter.focus.rules.table import LATEST, Level, by_id, rules, rules_of
from exporter.focus.values import instant_text
from exporter.focus.writer import metadata, write
from exporter.ledger.export import open_statement
from exporter.queries.focus_file import LackingError, file_contents
from exporter.queries.focus_rules import (
    CHARGE_MONTH,
    INVOICE,
    PARAMETERS,
    TAGGED_ESTIMATE,
    InvoiceRequest,
    parse_request,
)
from exporter.queries.focus_rules import FocusRequest as ReportRequest
from exporter.queries.parameters import QuestionError
from exporter.settings import Account, Settings

_CHECK_FORMATS = {
    "text": (check_report.check_text, check_report.failure_text),
    "json": (check_report.check_json, check_report.failure_json),
    "junit": (check_report.check_junit, check_report.failure_junit),
}
_UNREADABLE = 2


RowT = TypeVar("RowT", bound=tuple[object, ...])


class CheckFaultError(FalExporterError):
    """A check came to an end that it should not; the mistake is ours."""

    exit_code = _UNREADABLE


def run_check(
    paths: Sequence[str],
    *,
    version: str | None,
    output_format: str,
    fail_on: Level | None = Level.MUST,
    ignored: Collection[str] = (),
    applicability: Path | None = None,
    most: int | None = None,
) -> int:
    """Check a data set and print what was found; return 0 where nothing is broken that matters, else 1.

    In every case the output is a complete document of its format.

    Args:
        paths: files, folders and globs; `-` for standard input.
        version: of FOCUS; None for the one that fits the columns best.
        output_format: `text`, `json` or `junit`.
        fail_on: the least level of findings that make the exit code 1; None for none.
        ignored: ids of rules that are not wanted.
        applicability: a file that says what the provider supports; None where nothing is said.
        most: how many findings are shown; None for those of every rule, up to `KEPT` each.

    Raises:
        ConfigurationError: an option is wrong.
        FocusError, UnreadableFileError, CheckFaultError: the file cannot be checked, exit code 2.
    """
    unknown = next((name for name in ignored if name not in by_id()), None)
    if unknown is not None:
        raise ConfigurationError(f"--ignore: there is no rule {unknown!r}; `fal-exporter focus rules` lists all")
    supported = None if applicability is None else read_applicability(applicability)
    keep = KEPT if most is None else max(KEPT, most)
    shown, failed = _CHECK_FORMATS[output_format]
    try:
        checker = Checker(version, applicability=supported, ignored=ignored, keep=keep, most=most)
        found = _checked(checker, paths)
    except FalExporterError as error:
        _print_failure(failed(name_of(paths), str(error)))
        raise
    except Exception as error:
        sentence = f"{name_of(paths)}: the check failed with {type(error).__name__}; this is a fault of fal-exporter"
        _print_failure(failed(name_of(paths), sentence))
        raise CheckFaultError(sentence) from error
    click.echo(shown(name_of(paths), found))
    return 1 if fail_on is not None and found.fails(fail_on) else 0


def _print_failure(document: str) -> None:
    if document:
        click.echo(document)


def run_rules(version: str | None) -> int:
    """Print the table of rules, of one version or of all."""
    click.echo(check_report.rules_text(version or LATEST, rules() if version is None else rules_of(version)))
    return 0


def _checked(checker: Checker, paths: Sequence[str]) -> Report:
    """Check all files of a data set as one."""
    last = ""
    notes: list[str] = []
    for part in parts(paths):
        if len(paths) > 1 or part.name != name_of(paths):
            with naming(last):
                checker.begin_part(part.name)
        last = part.name
        for piece in part.pieces():
            with naming(last):
                checker.feed(piece)
        notes += [f"{part.name}: {note}" for note in part.notes]
    with naming(last):
        report = checker.finish()
    report.notes += notes
    return report


def run_summary(paths: Sequence[str], *, output_format: str, by: Sequence[str] = (), where: Sequence[str] = ()) -> int:
    """Print what a data set adds up to; return 0, or 1 where rows could not be read.

    Args:
        paths: files, folders and globs; `-` for standard input.
        output_format: `table`, `json` or `csv`.
        by: columns to add up by; none for the usual tables.
        where: conditions on rows, each `COLUMN=VALUE` or `COLUMN!=VALUE`.

    Raises:
        ConfigurationError: a condition cannot be read, or a column of it is in no file.
        FocusError: a file cannot be read, exit code 2.
    """
    try:
        filters = [parse_filter(text) for text in where]
    except ValueError as error:
        raise ConfigurationError(f"--where: {error}") from None
    totals: Totals | Groups
    try:
        if by or filters:
            totals = groups = Groups(by, filters)
            read = _summed(paths, GroupRow, groups.add, groups.leave_out, groups.columns)
        else:
            totals = usual = Totals()
            read = _summed(paths, SummaryRow, usual.add, usual.leave_out)
    except FalExporterError as error:
        if output_format == "json":
            click.echo(json.dumps({"file": name_of(paths), "error": str(error)}, indent=2, ensure_ascii=False))
        raise
    if output_format == "csv":
        click.echo(reports.summary_csv(totals))
    else:
        shown = reports.summary_json if output_format == "json" else reports.summary_text
        click.echo(shown(name_of(paths), read, totals))
    return 1 if any(part.problems.rows for part in read) else 0


def _summed(
    paths: Sequence[str],
    shape: type[RowT],
    add: Callable[[list[RowT]], None],
    leave_out: Callable[[Mapping[str, object]], None],
    columns: Sequence[str] = (),
) -> list[PartRead]:
    """Add up all files of a data set."""
    read: list[PartRead] = []
    lacking = {*columns}
    for part in parts(paths):
        reader = Reader(shape, texts=columns, unreadable=leave_out)
        # Parquet is read column by column: those that nobody asks for cost nothing.
        for piece in part.pieces({*SUMMARY_COLUMNS, *columns}):
            with naming(part.name):
                add(reader.feed(piece))
        with naming(part.name):
            add(reader.finish())
        header = reader.header
        notes = list(part.notes)
        if header is not None:
            lacking -= {*header.names}
            if header.separator != COMMA:
                notes.append(f"fields are separated by {header.separator.decode()!r}")
        version = "" if header is None else header.version
        read.append(PartRead(part.name, version, reader.rows, reader.naive_dates, reader.problems, notes))
    if lacking:
        raise ConfigurationError(f"--by or --where: no file has a column {min(lacking)}")
    return read


def run_export(
    address: str,
    request: ReportRequest,
    *,
    version: str,
    omit_empty_columns: bool,
    for_spreadsheet: bool = False,
    output: Path | None,
    metadata_output: Path | None,
    account: str | None,
    clock: Clock = utc_now,
) -> int:
    """Write a Cost and Usage file from the ledger; a file appears whole or not at all.

    What the file may lack is told on stderr.

    Args:
        address: of the ledger.
        request: the charges that are wanted; see `ledger_request`.
        version: of FOCUS.
        omit_empty_columns: see `exporter.focus.writer.write`.
        for_spreadsheet: see there, too.
        output: where to; None for standard output.
        metadata_output: where to write the metadata; None for nowhere.
        account: the one account wanted; None for all that the ledger counts.
        clock: tells when it is written.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
        LackingError: the ledger does not have what is asked for.
        ConfigurationError: the ledger does not count the account, or both outputs are one.
        UnreadableFileError: a file cannot be written.
    """
    if output is not None and metadata_output is not None and output.resolve() == metadata_output.resolve():
        raise ConfigurationError(f"--output and --metadata are the same file, {output}; name two different files")
    created = clock()
    with open_statement(address, account) as statement:
        if not statement.accounts:
            wanted = f"the account {account!r}" if account else "any account yet"
            raise ConfigurationError(f"--from-account: the ledger does not contain {wanted}")
        try:
            contents = file_contents(statement, request, account, created)
        except LackingError as error:
            raise LackingError(_with_flags(str(error)), error.status) from None
        with _output(output, "--output") as file:
            written = write(
                contents.charges,
                file,
                version=version,
                omit_empty_columns=omit_empty_columns,
                for_spreadsheet=for_spreadsheet,
            )
            if metadata_output is not None:
                text = metadata(
                    written,
                    version=version,
                    generator_version=__version__,
                    created=created,
                    window=contents.window,
                    granularity=contents.granularity.value,
                    complete=not contents.missing,
                )
                with _output(metadata_output, "--metadata") as described:
                    described.write(f"{text}\n".encode())
    if contents.note:
        click.echo(f"note: {contents.note}", err=True)
    if not written.rows:
        click.echo("note: the ledger has no charges in this window; only a header was written", err=True)
    if contents.missing:
        click.echo(
            f"note: {contents.missing:,} hours of this window are not complete yet; export it again later",
            err=True,
        )
    return 0


def ledger_request(given: Mapping[str, str], month: str | None, *, clock: Clock = utc_now) -> ReportRequest:
    """Return what is asked of the ledger.

    Args:
        given: parameters of a report, under fal's names.
        month: a UTC month in place of a window; None for none.
        clock: tells the present, which defaults refer to.

    Raises:
        ConfigurationError: a parameter cannot be read, does not go with another, or is not the ledger's.
    """
    if month is not None:
        beside = [name for name in ("billing_month", "charge_month", "start", "end") if name in given]
        if beside:
            raise ConfigurationError(f"--month is given together with {_flag(beside[0])}; keep only one of them")
        try:
            window = CHARGE_MONTH.read(month)
        except ValueError as error:
            raise ConfigurationError(f"--month {error}") from None
        given = {**given, "start": instant_text(window.start), "end": instant_text(window.end)}
    request = _request(given, clock)
    if not isinstance(request, InvoiceRequest):
        if request.source == TAGGED_ESTIMATE:
            raise ConfigurationError("--source tagged-estimate is available only from fal; use focus fetch")
        if request.timeframe == "minute" and not request.is_detected:
            raise ConfigurationError(
                "--timeframe minute is finer than the ledger, which has hours; choose hour, or use focus fetch"
            )
    return request


def fal_request(
    given: Mapping[str, str], *, organization: bool, by_team: bool, team: str | None, clock: Clock = utc_now
) -> FocusRequest:
    """Return what is asked of fal.

    Args:
        given: parameters of a report, under fal's names.
        organization: whether all teams are asked for.
        by_team: whether a root account's teams are reported.
        team: the only team; None for all.
        clock: tells the present, which defaults refer to.

    Raises:
        ConfigurationError: a parameter cannot be read, or does not go with another.
    """
    request = _request(given, clock)
    expand = "organization" if by_team else ""
    try:
        if isinstance(request, InvoiceRequest):
            months = request.texts
            return FocusRequest(
                source=INVOICE,
                billing_month=months.get("billing_month", ""),
                charge_month=months.get("charge_month", ""),
                organization=organization,
                expand=expand,
                team_username=team,
            )
        return FocusRequest(
            source=request.source,
            start=request.start,
            end=request.end,
            timezone=request.zone.key,
            timeframe=request.timeframe,
            # It has been widened already, where it was to be.
            bound_to_timeframe=False,
            organization=organization,
            expand=expand,
            team_username=team,
        )
    except FocusRequestError as error:
        raise FocusRequestError(_with_flags(str(error))) from None


def _request(given: Mapping[str, str], clock: Clock) -> ReportRequest:
    try:
        # Any length: a long estimate is fetched in pieces, and the ledger has no limit.
        return parse_request(given, now=clock(), longest=None)
    except QuestionError as error:
        raise ConfigurationError(_with_flags(str(error))) from None


_FLAGS = {"team_username": "--team", "expand": "--by-team", "account": "--from-account"}


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _with_flags(sentence: str) -> str:
    """Put the options of the command in place of the parameters that they stand for."""
    sentence = re.sub(r"\b(source|account)=", lambda found: f"{_flag(found[1])} ", sentence)
    names = "|".join([*(parameter.name for parameter in PARAMETERS), "team_username", "expand"])
    return re.sub(rf"(?<![-\w/])(?:{names})\b", lambda found: _flag(found[0]), sentence)


@contextmanager
def _output(path: Path | None, flag: str) -> Iterator[IO[bytes]]:
    if path is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnreadableFileError(f"standard output cannot be written: {error.strerror}") from None
        return
    try:
        with written_whole(path) as file, packed(path.name, file) as contents:
            yield contents
    except OSError as error:
        raise UnreadableFileError(f"{flag}: {path} cannot be written: {error.strerror}") from None


_MEBIBYTE = 2**20
_SHOWN_EVERY = _MEBIBYTE


class UnwritableFolderError(FalExporterError):
    """The report cannot be written to where it was to go."""

    exit_code = 2


def run_fetch(
    settings: Settings,
    request: FocusRequest,
    folder: Path,
    *,
    account: str | None,
    longest: timedelta,
    resume: bool,
) -> int:
    """Download a report into files of a folder, print their paths, and return the exit code.

    Args:
        settings: those of `serve`.
        request: what to ask fal for.
        folder: where the files are made.
        account: whose report; None for the only one that is configured.
        longest: how long a piece of an estimate is, at most.
        resume: whether pieces that are in the folder already are kept.

    Raises:
        ConfigurationError: there is no such account, or several to choose from.
        ApiError: fal did not answer as its interface promises; finished pieces are kept.
        UnwritableFolderError: a file cannot be written.
    """
    chosen = _chosen(settings.accounts, account)
    meter = Meter(shown=sys.stderr.isatty())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = asyncio.run(_fetched(settings, chosen, request, folder, longest=longest, resume=resume, meter=meter))
        _write_manifest(folder, paths)
    except OSError as error:
        raise UnwritableFolderError(f"{folder} cannot be written: {error.strerror}; name another --folder") from None
    finally:
        meter.end()
    for path in paths:
        click.echo(path)
    return 0


def _write_manifest(folder: Path, paths: Sequence[Path]) -> None:
    """List the files of a report, so that the folder can be read as one data set whatever else is in it."""
    files = []
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append({"path": path.name, "bytes": path.stat().st_size, "sha256": digest})
    with written_whole(folder / MANIFEST) as manifest:
        manifest.write(f"{json.dumps({'files': files}, indent=2)}\n".encode())


async def _fetched(
    settings: Settings,
    account: Account,
    request: FocusRequest,
    folder: Path,
    *,
    longest: timedelta,
    resume: bool,
    meter: "Meter",
) -> tuple[Path, ...]:
    client = client_of(account, settings, Silent())
    try:
        return await fetch(client, request, folder, longest=longest, resume=resume, told=meter)
    finally:
        await client.aclose()


def _chosen(accounts: tuple[Account, ...], name: str | None) -> Account:
    names = ", ".join(account.name for account in accounts)
    if name is None and len(accounts) > 1:
        raise ConfigurationError(f"several accounts are configured; choose one with --from-account: {names}")
    for account in accounts:
        if name in {None, account.name}:
            return account
    raise ConfigurationError(f"there is no account {name!r}; configured accounts are: {names}")


class Meter:
    """Shows how far a download has come, in one line that changes, to a person who watches."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._next = 0
        self._open = False

    def __call__(self, progress: Progress) -> None:
        """Show what has come in, not more often than once a mebibyte."""
        if not self._shown or (not progress.done and progress.size < self._next):
            return
        self._next = 0 if progress.done else progress.size + _SHOWN_EVERY
        size = progress.size / _MEBIBYTE
        text = f"file {progress.number} of {progress.pieces}: {progress.path.name}, {size:,.1f} MiB"
        click.echo(f"\r\033[K{text}", nl=False, err=True)
        self._open = True

    def end(self) -> None:
        """Leave the line, if there is one."""
        if self._open:
            click.echo(err=True)
            self._open = False
