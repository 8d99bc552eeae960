"""The commands of a first day: `status` and `init`."""

from pathlib import Path

import click

from exporter.cli.commands import token_from

_TOKEN = "FAL_REST_TOKEN"  # noqa: S105  a variable's name


@click.command()
@click.argument("url", default="http://localhost:8080")
@click.option("--watch", is_flag=True, help="Follow until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(1, 3600), default=5.0, metavar="SECONDS", help="Time between looks of --watch."
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"File that contains a token for REST. [default: the variable {_TOKEN}, if set]",
)
def status(*, url: str, watch: bool, interval: float, token_file: Path | None) -> int:
    """Show the figures of a running exporter's page.

    URL is the address of the page. What needs attention comes first.
    """
    from exporter.app.operations.status import run_status

    return run_status(url, watch=interval if watch else None, token=token_from(token_file, _TOKEN))


@click.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("fal-exporter.yaml"),
    metavar="FILE",
    help="File to write.",
)
@click.option("--account", metavar="NAME", help="Name of the account: the value of the label account.")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="File with the key.")
@click.option("--key-env", metavar="NAME", help="Environment variable with the key, instead of a file.")
@click.option("--budget", metavar="USD", help="Monthly budget in US dollars; 0 for none.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--no-check", is_flag=True, help="Do not try the key afterwards.")
def init(
    *,
    output: Path,
    account: str | None,
    key_file: Path | None,
    key_env: str | None,
    budget: str | None,
    force: bool,
    no_check: bool,
) -> int:
    """Write a commented configuration file and try it.

    Asks for what no option says: the account's name, where its key is, and a monthly budget. The key itself is not
    written. Then runs "fal-exporter check" with the new file.
    """
    if key_file is not None and key_env is not None:
        raise click.UsageError("--key-file and --key-env are both given; keep one of them.")
    if output.exists() and not force:
        sentence = f"{output} exists; choose another name or replace it with --force."
        raise click.BadParameter(sentence, param_hint="'--output'")
    from exporter.app.operations.init import Answers, run_init

    name = account if account is not None else click.prompt("Name of the fal account", default="default")
    if key_file is None and key_env is None:
        place = click.prompt("Key: name of an environment variable, or path of a file", default="FAL_KEY")
        key_file, key_env = (Path(place), None) if _is_path(place) else (None, place)
    amount = budget if budget is not None else click.prompt("Monthly budget in US dollars, 0 for none", default="0")
    return run_init(Answers(output, name, key_file, key_env, amount), check=not no_check)


def _is_path(text: str) -> bool:
    return "/" in text or "." in text or Path(text).is_file()
