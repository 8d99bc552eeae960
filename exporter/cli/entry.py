"""From a command line to an exit code; whatever goes wrong on the way is one sentence."""

import logging
import traceback
from collections.abc import Sequence

import click

from exporter.cli.commands import commands
from exporter.cli.options import PROGRAM, fail
from exporter.errors import FalExporterError

_INTERRUPTED = 130
"""Exit code of a program that was stopped by Ctrl-C, by the shells' convention."""


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
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last resort: a user is never shown a traceback unasked
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _misused(error: click.UsageError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    from exporter.logs import redact_loosely

    path = error.ctx.command_path if error.ctx else PROGRAM
    return fail(f"{redact_loosely(error.format_message())} ({path} --help tells more)", error.exit_code)


def _unexpected(error: Exception) -> int:
    from exporter.logs import redact

    if logging.getLogger().isEnabledFor(logging.DEBUG):
        click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)
        hint = "the traceback above says where"
    else:
        hint = "run it again with --log-level debug to see where"
    text = " ".join(str(error).split())
    return fail(
        f"an unexpected error, {type(error).__name__}{f' ({text})' if text else ''}, ended the command; {hint}", 1
    )
