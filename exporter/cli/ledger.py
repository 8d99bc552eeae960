"""The commands about the ledger itself: backup, restoration, verification, and names of accounts."""

from copy import copy
from pathlib import Path

import click

from exporter.cli.commands import commands, settings_from
from exporter.cli.help import SettingsCommand

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def ledger() -> None:
    """Back up, restore and verify the ledger, or rename an account in it.

    The commands take the flags of serve: run them where serve runs, with the same settings.
    """


@ledger.command(cls=SettingsCommand)
@click.argument("file", type=_FILE)
def backup(*, file: Path, **given: object) -> int:
    """Copy the ledger to a new file, also while the exporter runs.

    The copy is a single self-contained file, consistent as of one instant, and verified before it gets its name. For a
    ledger in PostgreSQL use pg_dump. Takes the flags of serve.
    """
    settings = settings_from(given, needs_keys=False)
    from exporter.app.operations.administration import run_ledger_backup

    return run_ledger_backup(settings, file=file)


@ledger.command(cls=SettingsCommand)
@click.argument("file", type=_FILE)
def restore(*, file: Path, **given: object) -> int:
    """Replace the ledger with a backup, while the exporter is stopped.

    The present ledger is kept under another name, and counters continue from the values that were last scraped. For a
    ledger in PostgreSQL use pg_restore. Takes the flags of serve.
    """
    settings = settings_from(given, needs_keys=False)
    from exporter.app.operations.administration import run_ledger_restore

    return run_ledger_restore(settings, file=file)


@ledger.command(cls=SettingsCommand)
@click.argument("file", type=_FILE, required=False)
def verify(*, file: Path | None, **given: object) -> int:
    """Verify the ledger, or a backup of it, also while the exporter runs.

    Checks that the file is intact, that stored sums agree with the charges, and that counters agree with what was
    charged. The exit code is 0, or 1 if anything is wrong. Takes the flags of serve.
    """
    settings = settings_from(given, needs_keys=False)
    from exporter.app.operations.administration import run_ledger_verify

    return run_ledger_verify(settings, file=file)


@ledger.command(cls=SettingsCommand)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO", required=False)
def migrate(*, source: str, target: str | None, **given: object) -> int:
    """Move a ledger to another database, with its counters, while the exporter is stopped.

    FROM and TO are addresses such as sqlite:///ledger.sqlite and postgresql://user@host/database; TO is the configured
    ledger if it is left out, and must have no ledger yet. If the move is interrupted, run it again: it continues. FROM
    is not changed. Takes the flags of serve.
    """
    settings = settings_from(given, needs_keys=False)
    from exporter.app.operations.administration import run_ledger_migrate

    return run_ledger_migrate(settings, source=source, target=target)


@ledger.command("rename-account", cls=SettingsCommand)
@click.argument("old")
@click.argument("new")
def rename_account(*, old: str, new: str, **given: object) -> int:
    """Rename an account in the ledger, so that its counters continue.

    Stop the exporter, rename the account here and in the configuration, and start it again. If the exporter has already
    run under the new name, what it polled since is merged. Takes the flags of serve.
    """
    settings = settings_from(given, needs_keys=False)
    from exporter.app.operations.administration import run_rename_account

    return run_rename_account(settings, old=old, new=new)


_former = copy(rename_account)
_former.hidden = True
commands.add_command(_former, "rename-account")
"""The name that the command had before there was a group."""
