"""The program: commands that belong to no group, shared options, and the way from a command line to an exit code."""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click

from exporter import __version__
from exporter.cli.help import ExplainedSettingsCommand, Program, SettingsCommand
from exporter.errors import ConfigurationError, FalExporterError
from exporter.failure import INTERRUPTED, PROGRAM, fail, fail_unexpectedly

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from pydantic import SecretStr

    from exporter.logs import Secret
    from exporter.settings import Listen, Settings

_MCP_TOKEN = "FAL_MCP_TOKEN"  # noqa: S105  a variable's name
_REST_TOKEN = "FAL_REST_TOKEN"  # noqa: S105  likewise


def listen_address(context: click.Context, parameter: click.Parameter, text: str) -> "Listen":
    """Read an address to listen on."""
    from exporter.settings import parse_listen

    try:
        return parse_listen(text)
    except ValueError as error:
        given = context.get_parameter_source(str(parameter.name))
        hint = f"'{parameter.envvar}'" if given is click.core.ParameterSource.ENVIRONMENT else None
        raise click.BadParameter(f'"{text}" {error}.', context, parameter, hint) from None


def instant(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """Read an instant; without an offset it is of UTC."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f'"{text}" is not a date or a time; write it like 2026-11-01 or 2026-11-01T06:00Z.', context, parameter
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def settings_from(given: dict[str, object], *, needs_keys: bool = True) -> "Settings":
    """Return the settings of a command that takes their flags, and log as they say.

    Args:
        given: the flags by field; None where a flag was not given.
        needs_keys: whether the command calls fal, so that every account's key has to be there.

    Raises:
        ConfigurationError: they cannot be used.
    """
    from exporter.settings import load_settings

    settings = load_settings(
        {field: value for field, value in given.items() if value is not None}, needs_keys=needs_keys
    )
    keys = []
    for account in settings.accounts:
        try:
            keys.append(account.key())
        except ConfigurationError:
            if needs_keys:
                raise
    log_to_stderr(settings.log_format, settings.log_level, keys)
    return settings


def log_to_stderr(log_format: str, level: str, secrets: "Sequence[Secret]" = ()) -> None:
    """Send the logs of this process to stderr."""
    from exporter.logs import configure_logging

    configure_logging(log_format=log_format, level=level, stream=sys.stderr, secrets=secrets)


def token_from(file: Path | None, variable: str) -> "SecretStr | None":
    """Return the token in a file or, without one, in an environment variable; None where there is none."""
    from pydantic import SecretStr

    try:
        text = os.environ.get(variable, "") if file is None else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise click.BadParameter(f"{file} cannot be read: {reason}.", param_hint="'--token-file'") from None
    return SecretStr(text.strip()) if text.strip() else None


_LONGEST_HEALTH_CHECK = 3.0
"""Seconds to wait for an answer."""


class _FalExporter(Program):
    headings: ClassVar[Mapping[str, Sequence[str]]] = {
        "Try it": ("demo", "simulate"),
        "Run it": ("init", "check", "serve", "status", "token"),
        "Keep the ledger": ("ledger", "backfill"),
        "Use the figures": ("focus", "requests", "reconcile", "mcp"),
    }


@click.group(
    cls=_FalExporter,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Export fal spend to Prometheus, from an exact ledger.

    Try "fal-exporter demo" first: it needs no key and no network.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)


@commands.command(cls=ExplainedSettingsCommand)
def serve(**given: object) -> int:
    """Poll fal and serve /metrics until stopped.

    Every setting can be given as a flag, an environment variable or a key of the configuration file. Flags take
    precedence over the environment, and the environment over the file. Keys have no flag, because other users can see
    a command line: set FAL_KEY or FAL_KEY_FILE, or list accounts in the file.
    """
    from exporter.app.handover import serve_by

    return serve_by(lambda: settings_from(given))


@commands.command(cls=SettingsCommand)
def check(**given: object) -> int:
    """Check that serve will work: ledger, addresses, clock, and the key of each account.

    Opens the ledger for reading, tries the addresses to listen on, and compares the clock with fal's. Calls every fal
    API once for each account and prints a table: reachable, key accepted, scope, what will be polled, what is missing
    and how to fix it; reads the last day as serve does. Changes nothing. Takes the flags of serve. The exit code is 0
    if everything works, 1 if something does not, and 2 if a setting is invalid.
    """
    settings = settings_from(given)
    from exporter.app.operations.check import run_check

    return run_check(settings)


@commands.command(cls=SettingsCommand)
@click.option(
    "--start", callback=instant, metavar="TIME", help="Start time; UTC if it has no offset. [default: all history]"
)
@click.option(
    "--end", callback=instant, metavar="TIME", help="End time, exclusive. [default: when the counters started]"
)
@click.option(
    "--resolution",
    type=click.Choice(["1m", "5m", "15m", "1h"]),
    default="5m",
    help="Interval between samples; Prometheus looks back 5m by default.",
)
@click.option("--job", default="fal", metavar="TEXT", help="Value of the job label in your scrape configuration.")
@click.option("--instance", metavar="TEXT", help="Value of the instance label. [default: localhost:PORT of --listen]")
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
    """Write the history from before the counters started, for import into Prometheus.

    Reads the ledger, also while the exporter runs, and writes OpenMetrics with timestamps for "promtool tsdb
    create-blocks-from openmetrics". Takes the flags of serve: run it where serve runs, with the same settings.
    """
    if start and end and start >= end:
        raise click.BadParameter("is not before --end.", param_hint="'--start'")
    settings = settings_from(given, needs_keys=False)
    from exporter.app.operations.backfill import run_backfill
    from exporter.settings.parsing import parse_duration

    return run_backfill(
        settings,
        start=start,
        end=end,
        resolution=parse_duration(resolution),
        job=job,
        instance=instance,
        output=output,
    )


@commands.command()
@click.argument("name")
def token(*, name: str) -> int:
    """Create a token for REST, MCP or /metrics.

    NAME says who the token is for. Prints the token and the line to add to the file that REST_TOKENS_FILE,
    MCP_TOKENS_FILE or METRICS_TOKENS_FILE names. The file contains only hashes, so the token cannot be shown again.
    """
    from exporter.app.operations.administration import run_token

    return run_token(name)


LEVELS = click.Choice(["debug", "info", "warning", "error"])


@commands.command()
@click.option(
    "--listen",
    callback=listen_address,
    default="127.0.0.1:8080",
    envvar="FAL_EXPORTER_LISTEN",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Address to listen on.",
)
@click.option("--seed", type=int, default=1, help="Seed of the simulated world; the same seed gives the same world.")
@click.option(
    "--days",
    type=click.IntRange(1, 90),
    default=None,
    help="Days of history to load at startup, instead of the current and the previous month.",
)
@click.option(
    "--with-prometheus",
    is_flag=True,
    help="Also start Prometheus and Alertmanager from the PATH, with the shipped rules and the history.",
)
@click.option("--log-level", type=LEVELS, default="warning", help="Minimum level to log.")
@click.pass_context
def demo(
    context: click.Context, *, listen: "Listen", seed: int, days: int | None, with_prometheus: bool, log_level: str
) -> int:
    """Run a demo that needs no key and no network.

    Starts a simulated fal and an exporter that polls it in this process, loads the current and the previous month, and
    prints the addresses to open. Ctrl-C stops it.
    """
    log_to_stderr("text", log_level)
    from exporter.app.demo import run_demo

    told = context.get_parameter_source("listen") is click.core.ParameterSource.ENVIRONMENT
    return run_demo(
        listen=listen,
        seed=seed,
        days=days,
        with_prometheus=with_prometheus,
        listen_setting="FAL_EXPORTER_LISTEN" if told else "--listen",
    )


@commands.command()
@click.option(
    "--listen", callback=listen_address, default="127.0.0.1:9025", metavar="HOST:PORT", help="Address to listen on."
)
@click.option("--seed", type=int, default=1, help="Seed of the simulated world; the same seed gives the same world.")
@click.option("--log-level", type=LEVELS, default="info", help="Minimum level to log.")
def simulate(listen: "Listen", seed: int, log_level: str) -> int:
    """Run only the simulated fal."""
    log_to_stderr("text", log_level)
    from exporter.app.demo import run_simulate

    return run_simulate(host=listen.host, port=listen.port, seed=seed)


@commands.command(hidden=True)
def healthcheck() -> int:
    """Check that the server on this machine is healthy; for containers. Reads the settings that serve reads."""
    from exporter.settings import listening_address

    try:
        address = listening_address().reachable
    except FalExporterError as error:
        return fail(str(error), 1)  # to a container engine, 2 is no answer
    try:
        try:
            status = _health(http.client.HTTPConnection(address.host, address.port, timeout=_LONGEST_HEALTH_CHECK))
        except (ConnectionError, http.client.HTTPException):
            # Where nobody answers in plain text, a web configuration may ask for TLS.
            status = _health_by_tls(address.host, address.port)
    except (OSError, http.client.HTTPException) as error:
        return fail(f"{address} does not answer: {error}", 1)
    return 0 if status == http.HTTPStatus.OK else fail(f"{address} answers {status}", 1)


def _health(connection: http.client.HTTPConnection) -> int:
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status
    finally:
        connection.close()


def _health_by_tls(host: str, port: int) -> int:
    import ssl

    context = ssl.create_default_context()
    # The server is asked by its address on this machine, which no certificate names.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=_LONGEST_HEALTH_CHECK, context=context)
    connection.connect()
    try:
        return _health(connection)
    except (ConnectionError, ssl.SSLError):
        # It has shaken hands, so it lives, and has then missed a certificate that only its clients have.
        return http.HTTPStatus.OK


@commands.command()
@click.argument("url", default="http://localhost:8080")
@click.option("--watch", is_flag=True, help="Follow until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(1, 3600), default=5.0, metavar="SECONDS", help="Time between looks of --watch."
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"File that contains a token for REST. [default: the variable {_REST_TOKEN}, if set]",
)
def status(*, url: str, watch: bool, interval: float, token_file: Path | None) -> int:
    """Show the figures of a running exporter's page.

    URL is the address of the page, http://localhost:8080 if it is left out. What needs attention comes first.
    """
    from exporter.app.operations.status import run_status

    return run_status(url, watch=interval if watch else None, token=token_from(token_file, _REST_TOKEN))


@commands.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("fal-exporter.yaml"),
    metavar="FILE",
    help="File to write.",
)
@click.option("--account", metavar="NAME", help="Name of the account: the value of the label account.")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="File with the key.")
@click.option("--key-env", metavar="NAME", help="Environment variable with the key, instead of a file.")
@click.option("--budget", metavar="USD", help="Monthly budget in US dollars; 0 for none.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--no-check", is_flag=True, help="Do not try the key afterwards.")
def init(
    *,
    output: Path,
    account: str | None,
    key_file: Path | None,
    key_env: str | None,
    budget: str | None,
    force: bool,
    no_check: bool,
) -> int:
    """Write a commented configuration file and try it.

    Asks for what no option says: the account's name, where its key is, and a monthly budget. The key itself is not
    written. Then runs "fal-exporter check" with the new file.
    """
    if key_file is not None and key_env is not None:
        raise click.UsageError("--key-file and --key-env are both given; keep one of them.")
    if output.exists() and not force:
        sentence = f"{output} exists; choose another name or replace it with --force."
        raise click.BadParameter(sentence, param_hint="'--output'")
    from exporter.app.operations.init import Answers, run_init

    name = account if account is not None else click.prompt("Name of the fal account", default="default")
    if key_file is None and key_env is None:
        place = click.prompt("Key: name of an environment variable, or path of a file", default="FAL_KEY")
        key_file, key_env = (Path(place), None) if _is_path(place) else (None, place)
    amount = budget if budget is not None else click.prompt("Monthly budget in US dollars, 0 for none", default="0")
    return run_init(Answers(output, name, key_file, key_env, amount), check=not no_check)


def _is_path(text: str) -> bool:
    return "/" in text or "." in text or Path(text).is_file()


def _ledger_url(_: click.Context, __: click.Parameter, text: str) -> str:
    from exporter.settings.parsing import check_ledger_url

    try:
        return check_ledger_url(text)
    except ValueError as error:
        raise ConfigurationError(f"--ledger-url {error}") from None


def _zone(context: click.Context, parameter: click.Parameter, text: str) -> "ZoneInfo":
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.BadParameter(f'"{text}" is not an IANA time zone.', context, parameter) from None


@commands.command()
@click.option("--url", metavar="URL", help="MCP endpoint of a running exporter, such as http://localhost:9090/mcp.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"File that contains the token for --url. [default: the variable {_MCP_TOKEN}, if set]",
)
@click.option(
    "--ledger-url",
    envvar="FAL_EXPORTER_LEDGER_URL",
    callback=_ledger_url,
    default="sqlite:///fal-exporter.sqlite",
    metavar="TEXT",
    help="Ledger to read if --url is not given. [FAL_EXPORTER_LEDGER_URL]",
)
@click.option(
    "--timezone",
    envvar="FAL_EXPORTER_TIMEZONE",
    callback=_zone,
    default="UTC",
    metavar="NAME",
    help="IANA time zone of days and months if --url is not given. [FAL_EXPORTER_TIMEZONE]",
)
def mcp(*, url: str | None, token_file: Path | None, ledger_url: str, timezone: "ZoneInfo") -> int:
    """Serve MCP over standard input and output, for an assistant.

    Desktop assistants start this command themselves. With --url, a running exporter answers. Otherwise the ledger is
    read, also while the exporter runs, but runway, budgets and forecasts are not available. Needs no key; read-only.
    """
    log_to_stderr("text", "warning")
    from exporter.app.mcp_stdio import run_over_http, run_over_ledger

    if url is None:
        return run_over_ledger(ledger_url, timezone)
    return run_over_http(url, token_from(token_file, _MCP_TOKEN))


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code; whatever goes wrong is told in plain sentences on stderr."""
    try:
        code: object = commands.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        return _misused(error)
    except click.ClickException as error:
        return fail(error.format_message(), error.exit_code)
    except FalExporterError as error:
        return fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last resort: a user is never shown a traceback unasked
        return fail_unexpectedly(error)
    return code if isinstance(code, int) else 0


def _misused(error: click.UsageError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    from exporter.logs import redact_loosely

    path = error.ctx.command_path if error.ctx else PROGRAM
    return fail(f"{redact_loosely(error.format_message())} (see {path} --help)", error.exit_code)
