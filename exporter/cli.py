"""The command line: commands read what the user gave and hand it to `exporter.app`, imported when it is needed."""

import http.client
import logging
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
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
