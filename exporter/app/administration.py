"""Small commands on what exists: rename an account, make a token.

`fal-exporter rename-account`: gives an account of the ledger another name.

`fal-exporter token`: a new token, shown once, and the line that admits it.
"""

import click

from exporter.errors import ConfigurationError
from exporter.ledger.migrations import rename_account
from exporter.settings import Settings
from exporter.settings.credentials import new_token, token_line


def run_rename_account(settings: Settings, *, old: str, new: str) -> int:
    """Rename an account and say what happens next; return 0.

    Raises:
        ConfigurationError, LedgerError: the ledger cannot be opened or written, or does not allow it.
    """
    rename_account(settings.ledger_url.get_secret_value(), old, new)
    click.echo(
        f'The ledger now calls the account "{old}" "{new}"; its counters go on under the new name. '
        "Rename it in the configuration too before the exporter is started."
    )
    return 0


def run_token(name: str) -> int:
    """Print a new token, and after it the line for a file of tokens; return the exit code.

    Only these two are on standard output, so that a script can take them apart.

    Raises:
        ConfigurationError: the name cannot stand in a file.
    """
    token = new_token()
    try:
        line = token_line(name, token)
    except ValueError as error:
        raise ConfigurationError(f"the name of a token {error}") from None
    click.echo("The token, which is not shown again, and the line for the file of tokens:", err=True)
    click.echo(token.get_secret_value())
    click.echo(line)
    return 0
