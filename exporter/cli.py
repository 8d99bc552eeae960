"""The command line: commands read what the user gave and hand it to `exporter.app`, imported when it is needed."""

import http.client
import logging
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter import __version__
from exporter.errors import FalExporterError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from exporter.settings import Listen, Settings

_PROGRAM = "fal-exporter"
_INTERRUPTED = 130
"""Exit code of a program that was stopped by Ctrl-C, by the shells' convention."""

_LONGEST_HEALTH_CHECK = 3.0
"""Seconds to wait for an answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code; whatever goes wrong is told in plain sentences on stderr."""
    try:
        code: object = commands.main(arguments, prog_name=_PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        from exporter.logs import redact_loosely  # noqa: PLC0415  needed here alone

        path = error.ctx.command_path if error.ctx else _PROGRAM
        return _fail(f"{redact_loosely(error.format_message())} ({path} --help tells more)", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except FalExporterError as error:
        return _fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last resort: a user is never shown a traceback unasked
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    from exporter.logs import redact  # noqa: PLC0415  needed here alone

    for line in redact(message).splitlines():
        click.echo(f"{_PROGRAM}: {line}", err=True)
    return code


def _unexpected(error: Exception) -> int:
    from exporter.logs import redact  # noqa: PLC0415  needed here alone

    if logging.getLogger().isEnabledFor(logging.DEBUG):
        click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)
        hint = "the traceback above says where"
    else:
        hint = "run it again with --log-level debug to see where"
    text = " ".join(str(error).split())
    return _fail(
        f"an unexpected error, {type(error).__name__}{f' ({text})' if text else ''}, ended the command; {hint}", 1
    )


class SettingsCommand(click.Command):
    """A command with a flag for every setting, made from the model when the command is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the flags of the settings and the command's own parameters."""
        from exporter.settings.flags import flags  # noqa: PLC0415  the list of commands does not wait for pydantic

        options: list[click.Parameter] = [
            click.Option(
                [f"{flag.name}/--no-{flag.name[2:]}" if flag.placeholder is None else flag.name, flag.field],
                default=None,
                metavar=flag.placeholder,
                help=flag.description,
            )
            for flag in flags()
        ]
        return [*options, *super().get_params(ctx)]


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
)
@click.version_option(__version__, prog_name=_PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Publish what is spent at fal to Prometheus, from an exact ledger.

    Try "fal-exporter demo" first: it needs no key and no network.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)


@commands.command(cls=SettingsCommand)
def serve(**given: object) -> int:
    """Poll fal and serve /metrics until stopped.

    Every setting is a flag, an environment variable and a key of the configuration file; a flag goes before the
    environment, the environment before the file. Keys have no flag, because a command line is visible to others: set
    FAL_KEY, FAL_KEY_FILE or accounts in the file.
    """
    settings = _settings(given)
    from exporter import app  # noqa: PLC0415  after the settings, which may be wrong

    return app.run_serve(settings)


@commands.command(cls=SettingsCommand)
def check(**given: object) -> int:
    """Try each account's key once and tell what works.

    Prints, for each account and source: reachable, key accepted, scope, what will be polled, what is missing and what
    to do. Takes the flags of serve. The exit code is 0, 1 when something does not work, or 2 when a setting is wrong.
    """
    settings = _settings(given)
    from exporter import app  # noqa: PLC0415  after the settings, which may be wrong

    return app.run_check(settings)


def _listen(context: click.Context, parameter: click.Parameter, text: str) -> "Listen":
    from exporter.settings import parse_listen  # noqa: PLC0415  the list of commands does not wait for pydantic

    try:
        return parse_listen(text)
    except ValueError as error:
        raise click.BadParameter(f'"{text}" {error}.', context, parameter) from None


def _instant(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f'"{text}" is not a date or a time; write it like 2026-11-01 or 2026-11-01T06:00Z.', context, parameter
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


@commands.command(cls=SettingsCommand)
@click.option("--start", callback=_instant, metavar="TIME", help="First instant; UTC without an offset. [default: all]")
@click.option("--end", callback=_instant, metavar="TIME", help="End, itself left out. [default: the counters' birth]")
@click.option(
    "--resolution",
    type=click.Choice(["1m", "5m", "15m", "1h"]),
    default="5m",
    help="Time between samples; Prometheus looks back 5m for one.",
)
@click.option("--job", default="fal", metavar="TEXT", help="Value of the label job in your scrape configuration.")
@click.option("--instance", metavar="TEXT", help="Value of the label instance. [default: localhost:PORT of --listen]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write. [default: standard output]",
)
def backfill(
    *,
    start: datetime | None,
    end: datetime | None,
    resolution: str,
    job: str,
    instance: str | None,
    output: Path | None,
    **given: object,
) -> int:
    """Write the history from before the counters began, for a new Prometheus.

    Reads the ledger, beside a running exporter too, and writes OpenMetrics with timestamps for "promtool tsdb
    create-blocks-from openmetrics". Takes the flags of serve: run it where serve runs, with the same settings.
    """
    if start and end and start >= end:
        raise click.BadParameter("is not before --end.", param_hint="'--start'")
    settings = _settings(given)
    from exporter import app  # noqa: PLC0415  after the settings, which may be wrong
    from exporter.settings.quantities import parse_duration  # noqa: PLC0415  --help does not wait for pydantic

    return app.run_backfill(
        settings,
        start=start,
        end=end,
        resolution=parse_duration(resolution),
        job=job,
        instance=instance,
        output=output,
    )


@commands.command("rename-account", cls=SettingsCommand)
@click.argument("old")
@click.argument("new")
def rename_account(*, old: str, new: str, **given: object) -> int:
    """Rename an account in the ledger, so that its counters go on.

    Stop the exporter, rename the account here and in the configuration, and start it again. Takes the flags of serve.
    """
    settings = _settings(given)
    from exporter import app  # noqa: PLC0415  after the settings, which may be wrong

    return app.run_rename_account(settings, old=old, new=new)


_LEVELS = click.Choice(["debug", "info", "warning", "error"])


@commands.command()
@click.option("--listen", callback=_listen, default="127.0.0.1:8080", metavar="HOST:PORT", help="Address to listen on.")
@click.option("--seed", type=int, default=1, help="World to simulate: the same seed, the same world.")
@click.option("--days", type=click.IntRange(1, 90), default=30, help="Days of history to load at the start.")
@click.option("--log-level", type=_LEVELS, default="warning", help="Least level to log.")
def demo(listen: "Listen", seed: int, days: int, log_level: str) -> int:
    """Show everything at work, without key or network.

    Starts a simulated fal and the exporter against it in this process, with a month of history, and prints where to
    look. Ctrl-C stops it.
    """
    _log_to_stderr("text", log_level)
    from exporter import app  # noqa: PLC0415  --help does not wait for it

    return app.run_demo(listen=listen, seed=seed, days=days)


@commands.command()
@click.option("--listen", callback=_listen, default="127.0.0.1:9025", metavar="HOST:PORT", help="Address to listen on.")
@click.option("--seed", type=int, default=1, help="World to simulate: the same seed, the same world.")
@click.option("--log-level", type=_LEVELS, default="info", help="Least level to log.")
def simulate(listen: "Listen", seed: int, log_level: str) -> int:
    """Run the simulated fal alone, without an account."""
    _log_to_stderr("text", log_level)
    from exporter import app  # noqa: PLC0415  --help does not wait for it

    return app.run_simulate(host=listen.host, port=listen.port, seed=seed)


@commands.group()
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
    from exporter import app  # noqa: PLC0415  --help does not wait for it

    return app.run_focus_check(path, version=focus_version, output_format=output_format)


@focus.command("summary")
@_FOCUS_FILE
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text", help="Output.")
def focus_summary(path: str, output_format: str) -> int:
    """Show what a Cost and Usage file adds up to, exactly.

    FILE is CSV, - is standard input. The exit code is 1 when rows could not be read, 2 for a file that cannot be.
    """
    from exporter import app  # noqa: PLC0415  --help does not wait for it

    return app.run_focus_summary(path, output_format=output_format)


_FILE_TO_WRITE = click.Path(dir_okay=False, path_type=Path)


@focus.command("export", cls=SettingsCommand)
@click.option("--month", metavar="YYYY-MM", help="UTC month to write.")
@click.option("--start", callback=_instant, metavar="TIME", help="First hour to write; UTC without an offset.")
@click.option("--end", callback=_instant, metavar="TIME", help="End, itself left out.")
@click.option("--granularity", type=click.Choice(["hour", "day", "month"]), default="hour", help="Of charge periods.")
@click.option("--focus-version", type=click.Choice(["1.2", "1.3", "1.4"]), default="1.2", help="Version to write.")
@click.option("--omit-empty-columns", is_flag=True, help="Leave out columns that no row fills.")
@click.option("--account", metavar="NAME", help="Account to write. [default: all that the ledger counts]")
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
    account: str | None,
    output: Path | None,
    metadata: Path | None,
    **given: object,
) -> int:
    """Write what was charged as a FOCUS Cost and Usage file.

    Reads the ledger, beside a running exporter too. Takes the flags of serve: run it where serve runs, with the same
    settings. The sum of BilledCost is the ledger's, to the last digit.
    """
    settings = _settings(given)
    from exporter import app  # noqa: PLC0415  after the settings, which may be wrong

    return app.run_focus_export(
        settings,
        month=month,
        start=start,
        end=end,
        granularity=granularity,
        version=focus_version,
        omit_empty_columns=omit_empty_columns,
        output=output,
        metadata_output=metadata,
        account=account,
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
@click.option("--start", callback=_instant, metavar="TIME", help="Start of an estimate; UTC without an offset.")
@click.option("--end", callback=_instant, metavar="TIME", help="End of an estimate, itself left out.")
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
    settings = _settings(given)
    from exporter import app  # noqa: PLC0415  after the settings, which may be wrong
    from exporter.fal import FocusRequest  # noqa: PLC0415  --help does not wait for it

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
    return app.run_focus_fetch(
        settings, request, folder, account=from_account, longest=timedelta(days=piece_days), resume=resume
    )


@commands.command(hidden=True)
def healthcheck() -> int:
    """Ask the server on this machine whether it lives; for containers. Reads the settings that serve reads."""
    from exporter.settings import listening_address  # noqa: PLC0415  --help does not wait for pydantic

    try:
        address = listening_address().reachable
    except FalExporterError as error:
        return _fail(str(error), 1)  # to a container engine, 2 is no answer
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_LONGEST_HEALTH_CHECK)
    try:
        connection.request("GET", "/-/healthy")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return _fail(f"{address} does not answer: {error}", 1)
    finally:
        connection.close()
    return 0 if status == http.HTTPStatus.OK else _fail(f"{address} answers {status}", 1)


def _settings(given: dict[str, object]) -> "Settings":
    from exporter.settings import load_settings  # noqa: PLC0415  --help does not wait for pydantic

    settings = load_settings({field: value for field, value in given.items() if value is not None})
    _log_to_stderr(settings.log_format, settings.log_level, [account.key() for account in settings.accounts])
    return settings


def _log_to_stderr(log_format: str, level: str, secrets: "Sequence[SecretStr]" = ()) -> None:
    from exporter.logs import configure_logging  # noqa: PLC0415  --help does not wait for structlog

    configure_logging(log_format=log_format, level=level, stream=sys.stderr, secrets=secrets)
