"""The command line: commands parse what the user gave and hand it to `exporter.app`.

Lives here: `commands` (the program with the commands that stand alone, shared options, exit codes), the groups `focus`,
`ledger` and `requests` (with `reconcile`), and their layout (`help`). May import: `app`, `settings`, `errors`, `logs`;
a command imports what it runs when it runs, so that `--help` is immediate. Begin reading at `commands`.
"""

from exporter.cli.commands import commands, main
from exporter.cli.focus import focus
from exporter.cli.ledger import ledger
from exporter.cli.requests import reconcile, requests

commands.add_command(focus)
commands.add_command(ledger)
commands.add_command(requests)
commands.add_command(reconcile)

__all__ = ["commands", "main"]
