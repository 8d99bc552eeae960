"""The command line: commands read what the user gave and hand it to `exporter.app`, imported when it is needed."""

from exporter.cli.commands import commands
from exporter.cli.entry import main
from exporter.cli.focus import focus

commands.add_command(focus)

__all__ = ["commands", "main"]
