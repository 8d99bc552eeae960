"""`fal-exporter token`: a new token, shown once, and the line that admits it."""

import click

from exporter.errors import ConfigurationError
from exporter.settings.tokens import new_token, token_line


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
