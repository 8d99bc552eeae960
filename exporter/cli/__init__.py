"""The command line: commands read what the user gave and hand it to `exporter.app`, imported when it is needed."""

from exporter.cli.commands import commands, main
from exporter.cli.focus import focus
from exporter.cli.mcp import mcp

commands.add_command(focus)
commands.add_command(mcp)

__all__ = ["commands", "main"]
