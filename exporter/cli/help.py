"""Layout of help: commands by what one does, and a command's own options before the settings that it shares.

`serve` explains every setting. The other commands that read the settings name them under a heading, in a few lines.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import ClassVar

import click


class SettingOption(click.Option):
    """A flag that a setting has been made into."""


class SettingsCommand(click.Command):
    """A command with a flag for every setting, made from the model when the command is used."""

    explains_settings = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters and the flags of the settings."""
        from exporter.settings.table import flags

        *own, last = super().get_params(ctx)  # the last one is --help
        # A report's own --timezone stands in for the setting, which such a command does not use.
        taken = {name for parameter in own for name in parameter.opts}
        settings = [
            SettingOption(
                [
                    f"{flag.name}/--no-{flag.name[2:]}" if flag.placeholder is None else flag.name,
                    *flag.also,
                    flag.field,
                ],
                default=None,
                metavar=flag.placeholder,
                help=flag.description,
            )
            for flag in flags()
            if flag.name not in taken
        ]
        return [*own, *settings, last]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, and under a heading the settings."""
        parameters = self.get_params(ctx)
        settings = [parameter for parameter in parameters if isinstance(parameter, SettingOption)]
        _write_records("Options", [item for item in parameters if item not in settings], ctx, formatter)
        if self.explains_settings:
            _write_records("Settings", settings, ctx, formatter)
            return
        program = ctx.find_root().info_name
        with formatter.section(f'Settings, explained by "{program} serve --help"'):
            names = " ".join(setting.opts[0] for setting in settings)
            indent = " " * formatter.current_indent
            # click itself would break a name at a hyphen.
            lines = textwrap.wrap(
                names, formatter.width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
            )
            formatter.write("\n".join([*lines, ""]))


class ExplainedSettingsCommand(SettingsCommand):
    """A command whose help explains every setting."""

    explains_settings = True


def _write_records(
    heading: str, parameters: Sequence[click.Parameter], context: click.Context, formatter: click.HelpFormatter
) -> None:
    records = [record for parameter in parameters if (record := parameter.get_help_record(context)) is not None]
    if records:
        with formatter.section(heading):
            formatter.write_dl(records)


class Program(click.Group):
    """A group whose commands stand under headings, in an order of its own.

    Attributes:
        headings: the commands under each heading; a command under none is listed last.
    """

    headings: ClassVar[Mapping[str, Sequence[str]]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the headings."""
        placed = [name for names in self.headings.values() for name in names]
        names = super().list_commands(ctx)
        return [*(name for name in placed if name in names), *(name for name in names if name not in placed)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each heading with its commands."""
        shown = {
            name: command
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        }
        width = formatter.width - 6 - max(map(len, shown), default=0)
        placed = {name for names in self.headings.values() for name in names}
        sections = {**self.headings, "Other commands": [name for name in shown if name not in placed]}
        for heading, names in sections.items():
            records = [(name, shown[name].get_short_help_str(width)) for name in names if name in shown]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
