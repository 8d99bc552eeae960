"""What commands share: the program's name, the settings as flags, values that are read from text."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

    from exporter.settings import Listen, Settings

PROGRAM = "fal-exporter"


class SettingsCommand(click.Command):
    """A command with a flag for every setting, made from the model when the command is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the flags of the settings and the command's own parameters."""
        from exporter.settings.flags import flags

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


def listen_address(context: click.Context, parameter: click.Parameter, text: str) -> "Listen":
    """Read an address to listen on."""
    from exporter.settings import parse_listen

    try:
        return parse_listen(text)
    except ValueError as error:
        raise click.BadParameter(f'"{text}" {error}.', context, parameter) from None


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


def fail(message: str, code: int) -> int:
    """Tell a problem on stderr, a line each, and return the exit code."""
    from exporter.logs import redact

    for line in redact(message).splitlines():
        click.echo(f"{PROGRAM}: {line}", err=True)
    return code


def settings_from(given: dict[str, object]) -> "Settings":
    """Return the settings of a command that takes their flags, and log as they say."""
    from exporter.settings import load_settings

    settings = load_settings({field: value for field, value in given.items() if value is not None})
    log_to_stderr(settings.log_format, settings.log_level, [account.key() for account in settings.accounts])
    return settings


def log_to_stderr(log_format: str, level: str, secrets: "Sequence[SecretStr]" = ()) -> None:
    """Send the logs of this process to stderr."""
    from exporter.logs import configure_logging

    configure_logging(log_format=log_format, level=level, stream=sys.stderr, secrets=secrets)
