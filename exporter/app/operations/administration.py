"""Commands on what exists: the ledger's backup, restoration and verification, its accounts' names, tokens."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from exporter.errors import ConfigurationError
from exporter.ledger.maintenance.backup import back_up, restore, verify_ledger
from exporter.ledger.maintenance.moving import Progress, move_ledger
from exporter.ledger.maintenance.renaming import rename_account
from exporter.ledger.maintenance.verification import Verified
from exporter.ledger.tables.database import ledger_url, shown
from exporter.settings import Settings
from exporter.settings.credentials import new_token, token_line


def run_rename_account(settings: Settings, *, old: str, new: str) -> int:
    """Rename an account and say what happens next; return 0.

    Raises:
        ConfigurationError, LedgerError: the ledger cannot be opened or written, or does not allow it.
    """
    renaming = rename_account(
        settings.ledger_url.get_secret_value(), old, new, now=datetime.now(UTC), max_series=settings.max_series
    )
    click.echo(f'The ledger now calls the account "{old}" "{new}"; its counters continue under the new name.')
    if renaming.joined_since is not None:
        click.echo(
            f'What was polled under "{new}" since {renaming.joined_since:%Y-%m-%d %H:%M} UTC was merged with it, and '
            f"nothing is counted twice. {renaming.shared:,} counters that had been published under both names "
            f'continue from their value under "{new}", so that increase() over both gives what was charged.'
        )
    if new not in {account.name for account in settings.accounts}:
        click.echo("Rename it in the configuration too before starting the exporter.")
    return 0


def run_ledger_backup(settings: Settings, *, file: Path) -> int:
    """Copy the ledger to a new file, beside a running exporter too; return 0.

    Raises:
        ConfigurationError, LedgerError: there is no SQLite ledger, or the copy cannot be made or is not sound.
    """
    verified = back_up(settings.ledger_url.get_secret_value(), file)
    click.echo(f"{file} is a complete, intact copy of the ledger: {_contents(verified)}")
    _tell(verified)
    return 0


def run_ledger_restore(settings: Settings, *, file: Path) -> int:
    """Put a backup in the ledger's place; return 0.

    Raises:
        ConfigurationError, LedgerError: the backup is not sound, an exporter is running, or the file cannot be written.
    """
    restored = restore(settings.ledger_url.get_secret_value(), file, now=datetime.now(UTC))
    click.echo(f"The ledger was restored from {file}: {_contents(restored.verified)}")
    if restored.kept is not None:
        click.echo(f"The previous ledger is kept as {restored.kept}.")
    if restored.raised:
        click.echo(
            f"{restored.raised:,} counters continue from the value that was last scraped, and rise again once what is "
            "read from fal has caught up with it."
        )
    if not restored.is_seen_by_scrapes:
        click.echo(
            "The values that were last scraped are not known: counters may fall to the values of the backup, which "
            "increase() treats as a reset to 0."
        )
    _tell(restored.verified)
    return 0


def run_ledger_migrate(settings: Settings, *, source: str, target: str | None) -> int:
    """Move a ledger to another database and say what happens next; return 0.

    Raises:
        ConfigurationError, LedgerError: either database cannot be used, or the target has a ledger already.
    """
    place = settings.ledger_url.get_secret_value() if target is None else target
    # A bar where a person watches; a log gets the summary.
    with click.progressbar(length=1, label="Moving the ledger", file=sys.stderr) as bar:

        def show(progress: Progress) -> None:
            bar.length = progress.of
            bar.update(progress.rows - bar.pos)

        moved = move_ledger(source, place, on_progress=show)
    if moved.continued:
        click.echo(f"Continued an interrupted move, which had copied {moved.continued:,} of {moved.rows:,} rows.")
    name = shown(ledger_url(place))
    click.echo(f"The ledger is in {name} now, complete and intact: {_contents(moved.verified)}")
    _tell(moved.verified)
    if place != settings.ledger_url.get_secret_value():
        click.echo(f"Set FAL_EXPORTER_LEDGER_URL to {name} before starting the exporter.")
    click.echo(f"{shown(ledger_url(source))} was not changed; remove it once the exporter runs on the new one.")
    return 0


def run_ledger_verify(settings: Settings, *, file: Path | None) -> int:
    """Verify the ledger, or a file; return 0 if it is sound, else 1.

    Raises:
        ConfigurationError, LedgerError: there is no ledger, or it cannot be read.
    """
    verified = verify_ledger(settings.ledger_url.get_secret_value() if file is None else f"sqlite:///{file}")
    click.echo(f"{'The ledger' if file is None else file} has {_contents(verified)}")
    for problem in verified.problems:
        click.echo(f"wrong: {problem}")
    _tell(verified)
    if verified.problems:
        click.echo("It is damaged: stop the exporter and restore a backup, or move the ledger away to start a new one.")
        return 1
    click.echo("It is intact.")
    return 0


def _contents(verified: Verified) -> str:
    through = "" if verified.through is None else f", data through {verified.through:%Y-%m-%d %H:%M} UTC"
    return (
        f"{verified.charges:,} hourly charges, {verified.counters:,} counters, counting since "
        f"{verified.born_at:%Y-%m-%d %H:%M} UTC{through}."
    )


def _tell(verified: Verified) -> None:
    for note in verified.notes:
        click.echo(f"note: {note}")


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
    click.echo("The token, which cannot be shown again, and the line for the tokens file:", err=True)
    click.echo(token.get_secret_value())
    click.echo(line)
    return 0
