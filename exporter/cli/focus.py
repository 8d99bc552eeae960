"""The commands about FOCUS files."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import click

from exporter.cli.commands import SettingsCommand, instant, settings_from


@click.group()
def focus() -> None:
    """Check, sum up and write FOCUS files (FinOps Open Cost and Usage Specification)."""


_FOCUS_FILE = click.argument("path", metavar="FILE")


@focus.command("check")
@_FOCUS_FILE
@click.option(
    "--focus-version",
    type=click.Choice(["1.0", "1.1", "1.2", "1.3", "1.4"]),
    help="Version to check against. [default: the one whose columns the file fits best]",
)
@click.option("--format", "output_format", type=click.Choice(["text", "json", "junit"]), default="text", help="Output.")
def focus_check(path: str, focus_version: str | None, output_format: str) -> int:
    """Tell where a Cost and Usage file breaks the specification.

    FILE is CSV, - is standard input. The exit code is 0 without findings, 1 with findings, 2 for a file that cannot be
    read.
    """
    from exporter.app.focus import run_check

    return run_check(path, version=focus_version, output_format=output_format)


@focus.command("summary")
@_FOCUS_FILE
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text", help="Output.")
def focus_summary(path: str, output_format: str) -> int:
    """Show what a Cost and Usage file adds up to, exactly.

    FILE is CSV, - is standard input. The exit code is 1 when rows could not be read, 2 for a file that cannot be.
    """
    from exporter.app.focus import run_summary

    return run_summary(path, output_format=output_format)


_FILE_TO_WRITE = click.Path(dir_okay=False, path_type=Path)


@focus.command("export", cls=SettingsCommand)
@click.option("--month", metavar="YYYY-MM", help="UTC month to write.")
@click.option("--start", callback=instant, metavar="TIME", help="First hour to write; UTC without an offset.")
@click.option("--end", callback=instant, metavar="TIME", help="End, itself left out.")
@click.option("--granularity", type=click.Choice(["hour", "day", "month"]), default="hour", help="Of charge periods.")
@click.option("--focus-version", type=click.Choice(["1.2", "1.3", "1.4"]), default="1.2", help="Version to write.")
@click.option("--omit-empty-columns", is_flag=True, help="Leave out columns that no row fills.")
@click.option("--from-account", metavar="NAME", help="Account to write. [default: all that the ledger counts]")
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
    """Write what was charged as a FOCUS Cost and Usage file.

    Reads the ledger, beside a running exporter too. Takes the flags of serve: run it where serve runs, with the same
    settings. The sum of BilledCost is the ledger's, to the last digit.
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
    help="Finalized figures, running ones, or running ones with the tags of requests.",
)
@click.option("--billing-month", metavar="YYYY-MM", help="Month in which the invoice was issued. [default: the latest]")
@click.option("--charge-month", metavar="YYYY-MM", help="Month in which the invoiced charges were made.")
@click.option("--start", callback=instant, metavar="TIME", help="Start of an estimate; UTC without an offset.")
@click.option("--end", callback=instant, metavar="TIME", help="End of an estimate, itself left out.")
@click.option("--zone", metavar="NAME", help="IANA time zone of an estimate's buckets. [default: UTC]")
@click.option(
    "--timeframe",
    type=click.Choice(["minute", "hour", "day", "week", "month"]),
    help="Buckets of an estimate. [default: hour]",
)
@click.option("--exact", is_flag=True, help="Let an estimate begin and end within a bucket.")
@click.option("--organization", is_flag=True, help="Ask for all teams, with the admin key of the root team.")
@click.option("--by-team", is_flag=True, help="Have the report of a root account tell its teams apart.")
@click.option("--team", metavar="NAME", help="The only team to tell of, with --organization.")
@click.option("--from-account", metavar="NAME", help="Account, where several are configured.")
@click.option("--piece-days", type=click.IntRange(1, 90), default=7, help="Days of an estimate in one file, at most.")
@click.option("--resume/--anew", default=True, help="Keep the files that are there already, or fetch them again.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="Where the files are made.",
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
    """Download fal's own FOCUS report, which enterprise accounts have.

    A long estimate comes in files of some days each, without overlap or gap. If it breaks off, the same command goes on
    with the first file that is missing. Prints the paths of the files.
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
