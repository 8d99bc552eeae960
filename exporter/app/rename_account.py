"""`fal-exporter rename-account`: gives an account of the ledger another name."""

import click

from exporter.ledger.renaming import rename_account
from exporter.settings import Settings


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
