"""`fal-exporter focus`: check, sum up and export FOCUS files."""

import json
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TypeVar

import click

from exporter import __version__
from exporter.app.focus.datasets import making_in
from exporter.charges import Clock, decimal_of, utc_now
from exporter.errors import ConfigurationError, FalExporterError
from exporter.fal import FocusRequest, FocusRequestError
from exporter.focus import check_report, reports
from exporter.focus.check_report import Report
from exporter.focus.checks import KEPT, Checker
from exporter.focus.dataset import UnreadableFileError, name_of, naming, parts, sum_up
from exporter.focus.expected import ExpectedInvoice, hold, parse_expected, read_expected, refuse_twice
from exporter.focus.outputs import Format, encoded, format_of, place_parts, require
from exporter.focus.reports import (
    Filter,
    GroupRow,
    Groups,
    PartRead,
    SummaryRow,
    Totals,
    no_column,
    parse_filter,
    refuse_names,
)
from exporter.focus.rules.table import LATEST, Level, by_id, read_applicability, rules, rules_of
from exporter.focus.values import instant_text
from exporter.focus.writer import metadata, write
from exporter.ledger.export import Statement, open_statement
from exporter.queries.focus.files import FileContents, LackingError, file_contents, ledger_dataset
from exporter.queries.focus.question import (
    CHARGE_MONTH,
    INVOICE,
    OF_REPORT,
    TAGGED_ESTIMATE,
    InvoiceRequest,
    parse_request,
)
from exporter.queries.focus.question import FocusRequest as ReportRequest
from exporter.queries.parameters import QuestionError
from exporter.unfinished import written_whole

_CHECK_FORMATS = {
    "text": (check_report.check_text, check_report.failure_text),
    "json": (check_report.check_json, check_report.failure_json),
    "junit": (check_report.check_junit, check_report.failure_junit),
}
_UNREADABLE = 2
_logger = logging.getLogger(__name__)


RowT = TypeVar("RowT", bound=tuple[object, ...])


@dataclass(frozen=True, slots=True)
class Invoices:
    """Amounts to be paid for invoices.

    Attributes:
        stated: each `INVOICE_ID=AMOUNT`.
        file: of more of them; None for none.
        ledger: its address; None where its invoices do not matter.
    """

    stated: tuple[str, ...] = ()
    file: Path | None = None
    ledger: str | None = None

    def read(self) -> list[ExpectedInvoice]:
        """Return all of them; those of the ledger that were stated as well are as they were stated.

        Raises:
            ConfigurationError: an option or the file is wrong.
            UnreadableFileError: the file cannot be read.
            LedgerError: there is no ledger, or it cannot be read.
        """
        try:
            option = "--expect"
            expected = [parse_expected(text) for text in self.stated]
            if self.file is not None:
                option = "--expect-file"
                expected += read_expected(self.file)
            refuse_twice(expected)
        except ValueError as error:
            raise ConfigurationError(f"{option}: {error}") from None
        if self.ledger is not None:
            stated = {item.invoice for item in expected}
            expected += [item for item in _in_ledger(self.ledger) if stated.isdisjoint({item.invoice, item.number})]
        return expected


def _in_ledger(address: str) -> list[ExpectedInvoice]:
    """Return the invoices of the ledger that have been issued; a file need not have all of them."""
    with open_statement(address) as statement:
        return [
            ExpectedInvoice(item.id, decimal_of(item.total), item.currency.upper(), item.number, is_required=False)
            for item in statement.invoices()
            if item.is_issued
        ]


class FaultError(FalExporterError):
    """A command came to an end that it should not; the mistake is ours."""

    exit_code = _UNREADABLE


@contextmanager
def failing(name: str, document: Callable[[str], str]) -> Iterator[None]:
    """Print a complete document of what keeps a command from its answer, whatever that is.

    Args:
        name: of what is read.
        document: returns it for a sentence; an empty one is not printed.

    Raises:
        FaultError: the mistake is ours.
    """
    try:
        yield
    except Exception as error:
        sentence = str(error)
        if not isinstance(error, FalExporterError):
            sentence = (
                f"{name}: the command failed with {type(error).__name__}; this is a fault of fal-exporter; run it "
                "again with --log-level debug to see where"
            )
            _logger.debug("the command failed", exc_info=True)
        if text := document(sentence):
            click.echo(text)
        if isinstance(error, FalExporterError):
            raise
        raise FaultError(sentence) from error


def run_check(
    paths: Sequence[str],
    *,
    version: str | None,
    output_format: str,
    fail_on: Level | None = Level.MUST,
    ignored: Collection[str] = (),
    applicability: Path | None = None,
    most: int | None = None,
    invoices: Invoices | None = None,
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
        invoices: what is to be paid for invoices; None where the file is held against none.

    Raises:
        ConfigurationError: an option is wrong.
        FocusError, UnreadableFileError, FaultError: the file cannot be checked, exit code 2.
    """
    keep = KEPT if most is None else max(KEPT, most)
    shown, failed = _CHECK_FORMATS[output_format]
    with failing(name_of(paths), lambda sentence: failed(name_of(paths), sentence)):
        unknown = next((name for name in ignored if name not in by_id()), None)
        if unknown is not None:
            raise ConfigurationError(f"--ignore: there is no rule {unknown!r}; `fal-exporter focus rules` lists all")
        supported = None if applicability is None else read_applicability(applicability)
        expected = None if invoices is None else invoices.read()
        checker = Checker(version, applicability=supported, ignored=ignored, keep=keep, most=most)
        found = _checked(checker, paths)
        if expected is not None:
            hold(found, expected)
    click.echo(shown(name_of(paths), found))
    return 1 if fail_on is not None and found.fails(fail_on) else 0


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
        for piece in part.tables():
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
    totals: Totals | Groups
    failed = {"file": name_of(paths)}
    with failing(name_of(paths), lambda sentence: error_json(failed, sentence) if output_format == "json" else ""):
        filters = filters_of(by, where)
        if by or filters:
            totals = groups = Groups(by, filters)
            read = _summed(paths, GroupRow, groups.add, groups.leave_out, groups.columns)
        else:
            totals = usual = Totals()
            read = _summed(paths, SummaryRow, usual.add, usual.leave_out)
    if output_format == "csv":
        click.echo(reports.summary_csv(totals))
    else:
        shown = reports.summary_json if output_format == "json" else reports.summary_text
        click.echo(shown(name_of(paths), read, totals))
    return 1 if any(part.problems.rows for part in read) else 0


def filters_of(by: Sequence[str], where: Sequence[str]) -> list[Filter]:
    """Return the conditions of a command line.

    Args:
        by: what it adds up by.
        where: each `COLUMN=VALUE` or `COLUMN!=VALUE`.

    Raises:
        ConfigurationError: one of them cannot be read.
    """
    try:
        filters = [parse_filter(text) for text in where]
        refuse_names([*by, *(condition.column for condition in filters)])
    except ValueError as error:
        raise ConfigurationError(f"--by or --where: {error}") from None
    return filters


def error_json(names: Mapping[str, str], sentence: str) -> str:
    """Return the document of a command that cannot give its answer."""
    return json.dumps({**names, "error": sentence}, indent=2, ensure_ascii=False)


def _summed(
    paths: Sequence[str],
    shape: type[RowT],
    add: Callable[[list[RowT]], None],
    leave_out: Callable[[Mapping[str, object]], None],
    columns: Sequence[str] = (),
) -> list[PartRead]:
    """Add up all files of a data set."""
    read, names = sum_up(paths, shape, add, leave_out, columns)
    lacking = {*columns} - names
    if lacking:
        raise ConfigurationError(no_column("--by or --where", min(lacking), names))
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
    output_format: Format | None = None,
    by_period: bool = False,
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
        output_format: of the file; None for what the name of the output says.
        by_period: whether the output is a folder that gets a file for each billing period, and a manifest.
        clock: returns the instant at which it is written.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
        LackingError: the ledger does not have what is asked for.
        ConfigurationError: the ledger does not count the account, or both outputs are one.
        UnreadableFileError: a file cannot be written.
    """
    if output is not None and metadata_output is not None and output.resolve() == metadata_output.resolve():
        raise ConfigurationError(f"--output and --metadata are the same file, {output}; name two different files")
    if by_period:
        _require_folder(output, metadata_output, omit_empty_columns=omit_empty_columns)
    chosen = output_format or format_of("" if output is None or by_period else output.name)
    require(chosen)
    created = clock()
    with open_statement(address, account) as statement:
        contents = _wanted_contents(statement, request, account, created)
        if by_period and output is not None:
            with _writing(output, "--output"), making_in(output) as place:
                made = ledger_dataset(
                    statement,
                    contents,
                    place,
                    output_format=chosen,
                    version=version,
                    created=created,
                    for_spreadsheet=for_spreadsheet,
                )
                place_parts(output, made.parts, made.manifest)
            _tell(contents, sum(part.sums.rows for part in made.parts))
            return 0
        with _output(output, "--output", chosen) as file:
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
                with _output(metadata_output, "--metadata", format_of(metadata_output.name)) as described:
                    described.write(f"{text}\n".encode())
    _tell(contents, written.rows)
    return 0


def _wanted_contents(
    statement: Statement, request: ReportRequest, account: str | None, created: datetime
) -> FileContents:
    """Return what the ledger has; what it lacks is said in the names of the command's flags."""
    if not statement.accounts:
        wanted = f"the account {account!r}" if account else "any account yet"
        raise ConfigurationError(f"--from-account: the ledger does not contain {wanted}")
    try:
        return file_contents(statement, request, account, created)
    except LackingError as error:
        raise LackingError(_with_flags(str(error)), error.status) from None


def _require_folder(output: Path | None, metadata_output: Path | None, *, omit_empty_columns: bool) -> None:
    """Refuse what does not go with files by billing period."""
    if output is None:
        raise ConfigurationError("--partition writes several files; name a folder with --output")
    if output.exists() and not output.is_dir():
        raise ConfigurationError(f"--partition writes a folder, and --output {output} is a file; name another")
    for unwanted, flag in ((metadata_output, "--metadata"), (omit_empty_columns, "--omit-empty-columns")):
        if unwanted:
            raise ConfigurationError(f"--partition does not go with {flag}; leave one of them out")


def _tell(contents: FileContents, rows: int) -> None:
    """Print what a file from the ledger lacks."""
    if contents.note:
        click.echo(f"note: {contents.note}", err=True)
    if not rows:
        click.echo("note: the ledger has no charges in this window; only a header was written", err=True)
    if contents.missing:
        click.echo(
            f"note: {contents.missing:,} hours of this window are not complete yet; export it again later",
            err=True,
        )


def ledger_request(given: Mapping[str, str], month: str | None, *, clock: Clock = utc_now) -> ReportRequest:
    """Return what is asked of the ledger.

    Args:
        given: parameters of a report, under fal's names.
        month: a UTC month in place of a window; None for none.
        clock: returns the present, which defaults refer to.

    Raises:
        ConfigurationError: a parameter cannot be read, does not go with another, or is not the ledger's.
    """
    request = _request(_of_month(given, month), clock)
    if not isinstance(request, InvoiceRequest):
        if request.source == TAGGED_ESTIMATE:
            raise ConfigurationError("--source tagged-estimate is available only from fal; use focus fetch")
        if request.timeframe == "minute" and not request.is_detected:
            raise ConfigurationError(
                "--timeframe minute is finer than the ledger, which has hours; choose hour, or use focus fetch"
            )
    return request


def _of_month(given: Mapping[str, str], month: str | None) -> Mapping[str, str]:
    """Put a month's window in place of the option; of invoices, the month of their charges."""
    if month is None:
        return given
    beside = [name for name in ("billing_month", "charge_month", "start", "end") if name in given]
    if beside:
        raise ConfigurationError(f"--month is given together with {_flag(beside[0])}; keep only one of them")
    try:
        window = CHARGE_MONTH.read(month)
    except ValueError as error:
        raise ConfigurationError(f"--month {error}") from None
    if given.get("source") == INVOICE:
        return {**given, "charge_month": month}
    return {**given, "start": instant_text(window.start), "end": instant_text(window.end)}


def fal_request(
    given: Mapping[str, str],
    month: str | None = None,
    *,
    organization: bool,
    by_team: bool,
    team: str | None,
    clock: Clock = utc_now,
) -> FocusRequest:
    """Return what is asked of fal.

    Args:
        given: parameters of a report, under fal's names.
        month: a UTC month in place of a window; None for none.
        organization: whether all teams are asked for.
        by_team: whether a root account's teams are reported.
        team: the only team; None for all.
        clock: returns the present, which defaults refer to.

    Raises:
        ConfigurationError: a parameter cannot be read, or does not go with another.
    """
    request = _request(_of_month(given, month), clock)
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
    names = "|".join([*(parameter.name for parameter in OF_REPORT), "team_username", "expand"])
    return re.sub(rf"(?<![-\w/])(?:{names})\b", lambda found: _flag(found[0]), sentence)


@contextmanager
def _output(path: Path | None, flag: str, output_format: Format) -> Iterator[IO[bytes]]:
    if path is None:
        try:
            with encoded(output_format, sys.stdout.buffer) as contents:
                yield contents
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnreadableFileError(f"standard output cannot be written: {error.strerror}") from None
        return
    with _writing(path, flag), written_whole(path) as file, encoded(output_format, file) as contents:
        yield contents


@contextmanager
def _writing(path: Path, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFileError(f"{flag}: {path} cannot be written: {error.strerror}") from None
