"""The commands about FOCUS files."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import click

from exporter.cli.commands import SettingsCommand, instant, settings_from


@click.group()
def focus() -> None:
    """Check, summarize and write FOCUS files (FinOps Open Cost and Usage Specification)."""


_FOCUS_FILE = click.argument("path", metavar="FILE")


@focus.command("check")
@_FOCUS_FILE
@click.option(
    "--focus-version",
    type=click.Choice(["1.0", "1.1", "1.2", "1.3", "1.4"]),
    help="Version to check against. [default: the one that fits the file's columns best]",
)
@click.option("--format", "output_format", type=click.Choice(["text", "json", "junit"]), default="text", help="Output.")
def focus_check(path: str, focus_version: str | None, output_format: str) -> int:
    """Check a Cost and Usage file against the specification.

    FILE is a CSV file; - means standard input. The exit code is 0 without findings, 1 with findings, and 2 if the file
    cannot be read.
    """
    from exporter.app.focus import run_check

    return run_check(path, version=focus_version, output_format=output_format)


@focus.command("summary")
@_FOCUS_FILE
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text", help="Output.")
def focus_summary(path: str, output_format: str) -> int:
    """Show the exact sums of a Cost and Usage file.

    FILE is a CSV file; - means standard input. The exit code is 1 if rows could not be read, and 2 if the file cannot
    be read.
    """
    from exporter.app.focus import run_summary

    return run_summary(path, output_format=output_format)


_FILE_TO_WRITE = click.Path(dir_okay=False, path_type=Path)


@focus.command("export", cls=SettingsCommand)
@click.option("--month", metavar="YYYY-MM", help="UTC month to write.")
@click.option("--start", callback=instant, metavar="TIME", help="Start time; UTC if it has no offset.")
@click.option("--end", callback=instant, metavar="TIME", help="End time, exclusive.")
@click.option(
    "--granularity", type=click.Choice(["hour", "day", "month"]), default="hour", help="Length of the charge periods."
)
@click.option("--focus-version", type=click.Choice(["1.2", "1.3", "1.4"]), default="1.2", help="Version to write.")
@click.option("--omit-empty-columns", is_flag=True, help="Leave out columns that no row fills.")
@click.option("--from-account", metavar="NAME", help="Account to write. [default: all accounts in the ledger]")
@click.option("--output", type=_FILE_TO_WRITE, metavar="FILE", help="File to write. [default: standard output]")
@click.option("--metadata", type=_FILE_TO_WRITE, metavar="FILE", help="File for the metadata. [default: none]")
def focus_export(
    *,
    month: str | None,
    start: datetime | None,
    end: datetime | None,
    granularity: str,
    focus_version: str,
    omit_empty_columns: bool,
    from_account: str | None,
    output: Path | None,
    metadata: Path | None,
    **given: object,
) -> int:
    """Write the charges in the ledger as a FOCUS Cost and Usage file.

    Reads the ledger, also while the exporter runs. Takes the flags of serve: run it where serve runs, with the same
    settings. The sum of BilledCost equals the ledger's exactly.
    """
    settings = settings_from(given)
    from exporter.app.focus import run_export, window_of

    return run_export(
        settings.ledger_url.get_secret_value(),
        window_of(month, start, end),
        granularity=granularity,
        version=focus_version,
        omit_empty_columns=omit_empty_columns,
        output=output,
        metadata_output=metadata,
        account=from_account,
    )


@focus.command("fetch", cls=SettingsCommand)
@click.option(
    "--source",
    type=click.Choice(["invoice", "estimate", "tagged-estimate"]),
    default="invoice",
    help="Invoiced charges, estimated charges, or estimated charges with the tags of requests.",
)
@click.option("--billing-month", metavar="YYYY-MM", help="Month in which the invoice was issued. [default: the latest]")
@click.option("--charge-month", metavar="YYYY-MM", help="Month in which the invoiced charges were made.")
@click.option("--start", callback=instant, metavar="TIME", help="Start of an estimate; UTC if it has no offset.")
@click.option("--end", callback=instant, metavar="TIME", help="End of an estimate, exclusive.")
@click.option("--zone", metavar="NAME", help="IANA time zone of an estimate's buckets. [default: UTC]")
@click.option(
    "--timeframe",
    type=click.Choice(["minute", "hour", "day", "week", "month"]),
    help="Bucket size of an estimate. [default: hour]",
)
@click.option("--exact", is_flag=True, help="Allow an estimate to begin and end within a bucket.")
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
def focus_fetch(
    *,
    source: str,
    billing_month: str | None,
    charge_month: str | None,
    start: datetime | None,
    end: datetime | None,
    zone: str | None,
    timeframe: str | None,
    exact: bool,
    organization: bool,
    by_team: bool,
    team: str | None,
    from_account: str | None,
    piece_days: int,
    resume: bool,
    folder: Path,
    **given: object,
) -> int:
    """Download fal's own FOCUS report (enterprise accounts).

    A long estimate is split into several files, without overlap or gap. If the download is interrupted, run the same
    command again to continue with the first missing file. Prints the paths of the files.
    """
    settings = settings_from(given)
    from exporter.app.focus import run_fetch
    from exporter.fal import FocusRequest, FocusRequestError

    try:
        request = FocusRequest(
            source=source,
            organization=organization,
            billing_month=billing_month or "",
            charge_month=charge_month or "",
            start=start,
            end=end,
            timezone=zone or "",
            timeframe=timeframe or "",
            bound_to_timeframe=False if exact else None,
            expand="organization" if by_team else "",
            team_username=team,
        )
    except FocusRequestError as error:
        raise FocusRequestError(_with_flags(str(error))) from None
    return run_fetch(settings, request, folder, account=from_account, longest=timedelta(days=piece_days), resume=resume)


_FLAGS = {
    "set bound_to_timeframe to false": "add --exact",
    "bound_to_timeframe": "--exact",
    "billing_month": "--billing-month",
    "charge_month": "--charge-month",
    "team_username": "--team",
    "timezone": "--zone",
    "expand": "--by-team",
}


def _with_flags(sentence: str) -> str:
    """Put the flags of the command in place of the parameters of fal that they stand for."""
    return re.sub("|".join(_FLAGS), lambda found: _FLAGS[found[0]], sentence)
