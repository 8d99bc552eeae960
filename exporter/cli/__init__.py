"""The command line: commands parse what the user gave and hand it to `exporter.app`.

Lives here: `commands` (the program, shared options, exit codes), `focus`, `ledger`, `mcp` and `requests` (groups, and
`reconcile` with the last), `status` (with `init`), `help` (its layout). May import: `app`, `settings`, `errors`,
`logs`; a command imports what it runs when it runs, so that `--help` is immediate. Begin reading at `commands`.
"""

from exporter.cli.commands import commands, main
from exporter.cli.focus import focus
from exporter.cli.ledger import ledger
from exporter.cli.mcp import mcp
from exporter.cli.requests import reconcile, requests
from exporter.cli.status import init, status

commands.add_command(focus)
commands.add_command(ledger)
commands.add_command(mcp)
commands.add_command(requests)
commands.add_command(reconcile)
commands.add_command(status)
commands.add_command(init)

__all__ = ["commands", "main"]
