"""The command that desktop assistants start."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.cli.commands import log_to_stderr, token_from
from exporter.errors import ConfigurationError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_TOKEN = "FAL_MCP_TOKEN"  # noqa: S105  a variable's name


def _ledger(_: click.Context, __: click.Parameter, text: str) -> str:
    from exporter.settings.fields import check_ledger_url

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


@click.command()
@click.option("--url", metavar="URL", help="MCP endpoint of a running exporter, such as http://localhost:9090/mcp.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"File that contains the token for --url. [default: the variable {_TOKEN}, if set]",
)
@click.option(
    "--ledger-url",
    envvar="FAL_EXPORTER_LEDGER_URL",
    callback=_ledger,
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
    return run_over_http(url, token_from(token_file, _TOKEN))
