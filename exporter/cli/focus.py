"""The commands about FOCUS files."""

from datetime import timedelta
from pathlib import Path

import click

from exporter.cli.commands import LEVELS, log_to_stderr, settings_from
from exporter.cli.help import SettingsCommand


@click.group()
def focus() -> None:
    """Check, summarize and write FOCUS files (FinOps Open Cost and Usage Specification)."""


_FOCUS_FILES = click.argument("paths", metavar="FILE...", nargs=-1, required=True)
_LEDGER_URL = click.option(
    "--ledger-url",
    envvar="FAL_EXPORTER_LEDGER_URL",
    metavar="URL",
    help="Ledger that is read. [default: that of serve's settings]",
)
_LOG_LEVEL = click.option("--log-level", type=LEVELS, default="warning", help="Minimum level to log.")


def _ledger_address(given: str | None) -> str:
    """Return the address of the ledger that was named, or else that of the settings."""
    if given:
        return given
    from exporter.settings import load_settings

    return load_settings({}, needs_keys=False).ledger_url.get_secret_value()


@focus.command("check")
@_FOCUS_FILES
@_LOG_LEVEL
@click.option(
    "--focus-version",
    type=click.Choice(["1.0", "1.1", "1.2", "1.3", "1.4"]),
    help="Version to check against. [default: the one that fits the file's columns best]",
)
@click.option("--format", "output_format", type=click.Choice(["text", "json", "junit"]), default="text", help="Output.")
@click.option(
    "--fail-on",
    type=click.Choice(["must", "should", "never"]),
    default="must",
    show_default=True,
    help="Level of the findings that make the exit code 1.",
)
@click.option("--ignore", "ignored", multiple=True, metavar="ID", help="Do not check this rule; can be repeated.")
@click.option(
    "--applicability",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML file that says what the provider supports, such as `REGION_SUPPORTED: unsupported`.",
)
@click.option(
    "--max-findings",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Findings to show in all; all are counted. [default: 20 of each rule]",
)
@click.option(
    "--expect",
    multiple=True,
    metavar="INVOICE_ID=AMOUNT",
    help="What is to be paid for an invoice: the sum of its BilledCost; a currency may follow. Can be repeated.",
)
@click.option(
    "--expect-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="CSV file of what is to be paid: invoice_id,amount[,currency].",
)
@click.option("--against-ledger", is_flag=True, help="Hold the file against the invoices in the ledger, too.")
@_LEDGER_URL
def focus_check(
    paths: tuple[str, ...],
    *,
    log_level: str,
    focus_version: str | None,
    output_format: str,
    fail_on: str,
    ignored: tuple[str, ...],
    applicability: Path | None,
    max_findings: int | None,
    expect: tuple[str, ...],
    expect_file: Path | None,
    against_ledger: bool,
    ledger_url: str | None,
) -> int:
    """Check a Cost and Usage file against the specification.

    FILE is a CSV or Parquet file, also in gzip, zstd or ZIP, a folder of them or a glob; - means standard input.
    Several are checked as one. The exit code is 0 without findings, 1 with findings of the level of --fail-on or a
    stricter one, and 2 if a file cannot be read.
    """
    log_to_stderr("text", log_level)
    from exporter.app.focus.files import Invoices, run_check
    from exporter.focus.rules.table import Level

    return run_check(
        paths,
        version=focus_version,
        output_format=output_format,
        fail_on=None if fail_on == "never" else Level(fail_on),
        ignored=ignored,
        applicability=applicability,
        most=max_findings,
        invoices=Invoices(expect, expect_file, _ledger_address(ledger_url) if against_ledger else None)
        if expect or expect_file or against_ledger
        else None,
    )


@focus.command("rules")
@click.option(
    "--version",
    type=click.Choice(["1.0", "1.1", "1.2", "1.3", "1.4"]),
    help="Only rules of this version. [default: of all, with the ids of the latest]",
)
def focus_rules(version: str | None) -> int:
    """Print the rules that files are checked against, and those that no file can decide."""
    from exporter.app.focus.files import run_rules

    return run_rules(version)


@focus.command("summary")
@_FOCUS_FILES
@_LOG_LEVEL
@click.option(
    "--by",
    metavar="COLUMN,...",
    help="Columns to add up by, sku, service, tag:KEY, month, ...; instead of the usual tables.",
)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only such rows; also !=; can be repeated.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv", "text"]),
    default="table",
    help="Output; text is the former name of table.",
)
def focus_summary(
    paths: tuple[str, ...], *, log_level: str, by: str | None, where: tuple[str, ...], output_format: str
) -> int:
    """Show the exact sums of Cost and Usage files.

    FILE is a CSV or Parquet file, also in gzip, zstd or ZIP, a folder of them or a glob; - means standard input.
    Several are added up as one. The exit code is 1 if rows could not be read, and 2 if a file cannot be read.
    """
    log_to_stderr("text", log_level)
    from exporter.app.focus.files import run_summary

    return run_summary(paths, output_format=output_format, by=_names(by), where=where)


@focus.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@_LOG_LEVEL
@_LEDGER_URL
@click.option(
    "--by",
    metavar="COLUMN,...",
    help="What to add up by: columns, category, service, sku, invoice, account, month, tag:KEY. "
    "[default: category,service,sku]",
)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only such rows; also !=; can be repeated.")
@click.option(
    "--cost", type=click.Choice(["billed", "list", "effective"]), default="billed", show_default=True, help="Sum."
)
@click.option(
    "--match", metavar="COLUMN,...", help="Columns that identify a charge. [default: period, account, SKU, tags, ...]"
)
@click.option(
    "--max-rows",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="NUMBER",
    help="Rows to show that explain the difference, the largest first.",
)
@click.option("--format", "output_format", type=click.Choice(["table", "json", "csv"]), default="table", help="Output.")
def focus_diff(
    a: str,
    b: str,
    *,
    log_level: str,
    ledger_url: str | None,
    by: str | None,
    where: tuple[str, ...],
    cost: str,
    match: str | None,
    max_rows: int,
    output_format: str,
) -> int:
    """Compare two data sets, or one with the ledger, exactly.

    A and B are each a file, a folder or a glob, as for summary, - for standard input, or the ledger:
    ledger:estimate:YYYY-MM, or ledger:invoice:YYYY-MM for a month of charges as it was invoiced. The exit code is 0 if
    they are equal, 1 if they differ or rows are in no sum, and 2 if one cannot be read.
    """
    log_to_stderr("text", log_level)
    from exporter.app.focus.comparison import run_diff

    return run_diff(
        a,
        b,
        ledger=lambda: _ledger_address(ledger_url),
        by=_names(by),
        where=where,
        cost=cost,
        match=_names(match),
        most=max_rows,
        output_format=output_format,
    )


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


_FILE_TO_WRITE = click.Path(dir_okay=False, path_type=Path)

_FORMER = {"--zone": "--timezone", "--granularity": "--timeframe", "--exact": "--bound-to-timeframe false"}
"""Names that options had before they got those of fal's parameters."""


def _renamed(_: click.Context, parameter: click.Parameter, given: object) -> object:
    """Warn of an option that was given by its former name."""
    if given:
        former = parameter.opts[0]
        click.echo(f"note: {former} is now {_FORMER[former]}; the former name will be removed in version 1.0", err=True)
    return given


def _report_options() -> list[click.Parameter]:
    """Return the parameters of a report as options, under fal's names."""
    return [
        click.Option(
            ["--source"],
            type=click.Choice(["invoice", "estimate", "tagged-estimate"]),
            help="Invoiced charges, estimated charges, or estimated charges with the tags of requests. "
            "[default: estimate if an option of an estimate is given, else invoice]",
        ),
        click.Option(
            ["--billing-month"],
            metavar="YYYY-MM",
            help="Month in which the invoice was issued. [default: the latest]",
        ),
        click.Option(["--charge-month"], metavar="YYYY-MM", help="Month in which the invoiced charges were made."),
        click.Option(
            ["--start"],
            metavar="TIME",
            help="Start of an estimate: date or time. [default: 24 hours before the end]",
        ),
        click.Option(["--end"], metavar="TIME", help="End of an estimate, exclusive. [default: now]"),
        click.Option(["--timezone"], metavar="NAME", help="IANA time zone of an estimate's buckets. [default: UTC]"),
        click.Option(
            ["--timeframe"],
            type=click.Choice(["minute", "hour", "day", "week", "month"]),
            help="Bucket size of an estimate. [default: by the length of the window, as fal chooses it]",
        ),
        click.Option(
            ["--bound-to-timeframe"],
            type=click.Choice(["true", "false"]),
            help="Widen an estimate's window to whole buckets. [default: true]",
        ),
        click.Option(["--zone"], hidden=True, callback=_renamed),
        click.Option(["--granularity"], hidden=True, callback=_renamed),
        click.Option(["--exact"], is_flag=True, hidden=True, callback=_renamed),
    ]


def _report_of(given: dict[str, object]) -> dict[str, str]:
    """Take the parameters of a report out of a command's arguments, under fal's names; those that were given."""
    names = ("source", "billing_month", "charge_month", "start", "end", "timezone", "timeframe", "bound_to_timeframe")
    found = {name: given.pop(name) for name in names}
    zone, granularity, exact = (given.pop(name) for name in ("zone", "granularity", "exact"))
    former = {"timezone": zone, "timeframe": granularity, "bound_to_timeframe": "false" if exact else None}
    return {
        name: str(value)
        for name in names
        if (value := found[name] if found[name] is not None else former.get(name)) is not None
    }


_FORMATS = ["csv", "csv.gz", "csv.zst", "parquet"]


@focus.command("export", cls=SettingsCommand, params=_report_options())
@click.option("--month", metavar="YYYY-MM", help="Estimate of a UTC month; short for --start and --end.")
@click.option("--focus-version", type=click.Choice(["1.2", "1.3", "1.4"]), default="1.2", help="Version to write.")
@click.option("--omit-empty-columns", is_flag=True, help="Leave out columns that no row fills.")
@click.option(
    "--for-spreadsheet",
    is_flag=True,
    help="Put an apostrophe before text that a spreadsheet would run as a formula; not for programs.",
)
@click.option("--from-account", metavar="NAME", help="Account to write. [default: all accounts in the ledger]")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write; with --partition a folder. [default: standard output]",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(_FORMATS),
    help="Format to write. [default: as the name of the output ends, else csv]",
)
@click.option("--partition", is_flag=True, help="Write a folder with a file for each billing period and a manifest.")
@click.option("--metadata", type=_FILE_TO_WRITE, metavar="FILE", help="File for the metadata. [default: none]")
def focus_export(
    *,
    month: str | None,
    focus_version: str,
    omit_empty_columns: bool,
    for_spreadsheet: bool,
    from_account: str | None,
    output: Path | None,
    output_format: str | None,
    partition: bool,
    metadata: Path | None,
    **given: object,
) -> int:
    """Write the charges in the ledger as a FOCUS Cost and Usage file.

    Reads the ledger, also while the exporter runs. Takes the flags of serve: run it where serve runs, with the same
    settings. The sum of BilledCost equals the ledger's exactly; of an invoiced month, that of the invoice.
    """
    report = _report_of(given)
    settings = settings_from(given, needs_keys=False)
    from exporter.app.focus.files import ledger_request, run_export
    from exporter.focus.outputs import Format

    return run_export(
        settings.ledger_url.get_secret_value(),
        ledger_request(report, month),
        version=focus_version,
        omit_empty_columns=omit_empty_columns,
        for_spreadsheet=for_spreadsheet,
        output=output,
        metadata_output=metadata,
        account=from_account,
        output_format=None if output_format is None else Format(output_format),
        by_period=partition,
    )


@focus.command("fetch", cls=SettingsCommand, params=_report_options())
@click.option("--month", metavar="YYYY-MM", help="Estimate of a UTC month; with --source invoice, its charges.")
@click.option("--organization", is_flag=True, help="Request all teams; needs the admin key of the root team.")
@click.option("--by-team", is_flag=True, help="Break down the report of a root account by team.")
@click.option("--team", metavar="NAME", help="Only this team, with --organization.")
@click.option("--from-account", metavar="NAME", help="Account to fetch, if several are configured.")
@click.option(
    "--piece-days", type=click.IntRange(1, 90), default=7, help="Maximum number of days of an estimate per file."
)
@click.option("--resume/--anew", default=True, help="Keep existing files, or fetch them again.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="Directory to write the files to.",
)
@click.option(
    "--format", "output_format", type=click.Choice(_FORMATS), default="csv", help="Format of the files; csv is fal's."
)
@click.option("--partition", is_flag=True, help="Write a file for each billing period, not as fal gives them.")
def focus_fetch(
    *,
    month: str | None,
    organization: bool,
    by_team: bool,
    team: str | None,
    from_account: str | None,
    piece_days: int,
    resume: bool,
    folder: Path,
    output_format: str,
    partition: bool,
    **given: object,
) -> int:
    """Download fal's own FOCUS report (enterprise accounts).

    A long estimate is split into several files, without overlap or gap. If the download is interrupted, run the same
    command again to continue with the first missing file. Prints the paths of the files, which are one data set: name
    the directory to focus summary and focus check.
    """
    report = _report_of(given)
    settings = settings_from(given)
    from exporter.app.focus.fetch import run_fetch
    from exporter.app.focus.files import fal_request
    from exporter.focus.outputs import Format

    return run_fetch(
        settings,
        fal_request(report, month, organization=organization, by_team=by_team, team=team),
        folder,
        account=from_account,
        longest=timedelta(days=piece_days),
        resume=resume,
        output_format=Format(output_format),
        by_period=partition,
    )


@focus.command("push", cls=SettingsCommand)
@click.option(
    "--month",
    "months",
    multiple=True,
    metavar="YYYY-MM",
    help="UTC month to write; can be repeated. [default: the current and the one before]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def focus_push(*, months: tuple[str, ...], dry_run: bool, as_json: bool, **given: object) -> int:
    """Write months of the ledger as FOCUS files to a folder or an object store, once.

    The destination is that of the settings (--focus-push-url); serve writes to it every --focus-push-interval. Each
    month is a file, written whole; what has not changed is not written again. Prints a line for each file.
    """
    settings = settings_from(given, needs_keys=False)
    from exporter.app.focus.delivery import run_push

    return run_push(settings, months, dry=dry_run, as_json=as_json)


@focus.command("upload", cls=SettingsCommand)
@click.argument("service", type=click.Choice(["vantage", "datadog"]))
@click.option(
    "--month",
    "months",
    multiple=True,
    metavar="YYYY-MM",
    help="UTC month to upload; can be repeated. [default: the current and the one before]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing; needs no keys.")
@click.option(
    "--integration",
    envvar="VANTAGE_INTEGRATION_TOKEN",
    metavar="TOKEN",
    help="Token of the custom provider's integration, with vantage. [default: VANTAGE_INTEGRATION_TOKEN]",
)
@click.option("--site", envvar="DD_SITE", default="datadoghq.com", metavar="HOST", help="Site, with datadog.")
@click.option("--service-url", metavar="URL", help="Base URL of the service's API. [default: the service's own]")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File that remembers what was uploaded. [default: beside the ledger]",
)
def focus_upload(
    *,
    service: str,
    months: tuple[str, ...],
    dry_run: bool,
    integration: str | None,
    site: str,
    service_url: str | None,
    state: Path | None,
    **given: object,
) -> int:
    """Upload months of the ledger to a cost service, by the day, each in place of its last upload.

    The keys come from the environment: VANTAGE_API_TOKEN, or DD_API_KEY and DD_APP_KEY. A month that has not changed
    is not uploaded again. Prints a line for each month.
    """
    settings = settings_from(given, needs_keys=False)
    from exporter.app.focus.delivery import run_upload
    from exporter.queries.focus.cost_services import service_of

    chosen = service_of(service, integration=integration, site=site, url=service_url, dry=dry_run)
    return run_upload(settings, chosen, months, state=state, dry=dry_run)
