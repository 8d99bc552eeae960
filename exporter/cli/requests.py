"""The commands about single requests: what they cost, what differs from the ledger, and what was booked for them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from exporter.cli.commands import instant, settings_from
from exporter.cli.help import SettingsCommand

_FILE = click.Path(dir_okay=False, path_type=Path)
_WANTED = ("start", "end", "account", "model", "api_key", "member", "team", "tag", "cost_above")
_MEANINGS = {
    "start": "Start, ISO 8601. Default: 24 hours before the end.",
    "end": "End, exclusive. Default: now.",
    "account": "Only these accounts, comma-separated.",
    "model": "Only these models, comma-separated.",
    "api_key": "Only these API keys, by alias or id.",
    "member": "Only these members of the organization.",
    "team": "Only these teams.",
    "tag": "Only requests with these tags, name=value.",
    "cost_above": "Only requests that cost more US dollars than this.",
    "sort": "cost: the dearest first; time: the newest first.",
    "limit": "Maximum number of requests.",
    "cursor": "Where an earlier answer ended.",
}


def _asking(*names: str) -> Callable[[click.Command], click.Command]:
    def decorate(command: click.Command) -> click.Command:
        for name in names:
            option = click.Option([f"--{name.replace('_', '-')}", f"asked_{name}"], help=_MEANINGS[name])
            command.params.append(option)
        return command

    return decorate


def _split(given: Mapping[str, object]) -> tuple[dict[str, str], dict[str, object]]:
    """Return the parameters of the question, and the settings."""
    texts = {name[6:]: str(value) for name, value in given.items() if name.startswith("asked_") and value is not None}
    return texts, {name: value for name, value in given.items() if not name.startswith("asked_")}


@click.group()
def requests() -> None:
    """Ask what single requests cost, where EVENTS has them read.

    The commands take the flags of serve: run them where serve runs, with the same settings.
    """


@requests.command(cls=SettingsCommand)
@click.argument("request_id")
def get(*, request_id: str, **given: object) -> int:
    """Print what one request cost, by fal's id. Takes the flags of serve."""
    settings = settings_from(given, needs_keys=False)
    from exporter.app.operations.requests import run_requests_get

    return run_requests_get(settings, request_id)


@_asking(*_WANTED, "sort", "limit", "cursor")
@requests.command(cls=SettingsCommand)
def top(**given: object) -> int:
    """Print the dearest requests of a window, or the newest. Takes the flags of serve."""
    texts, flags = _split(given)
    settings = settings_from(flags, needs_keys=False)
    from exporter.app.operations.requests import run_requests_top

    return run_requests_top(settings, texts)


@_asking(*_WANTED)
@requests.command(cls=SettingsCommand)
@click.argument("file", type=_FILE)
def export(*, file: Path, **given: object) -> int:
    """Write the requests of a window to a Parquet file. Takes the flags of serve."""
    texts, flags = _split(given)
    settings = settings_from(flags, needs_keys=False)
    from exporter.app.operations.requests import run_requests_export

    return run_requests_export(settings, texts, file)


@_asking("start", "end", "account")
@requests.command(cls=SettingsCommand)
def differences(**given: object) -> int:
    """Print settled hours whose requests differ from the ledger.

    The exit code is 0, or 1 if any hour differs or none could be compared. Takes the flags of serve.
    """
    texts, flags = _split(given)
    settings = settings_from(flags, needs_keys=False)
    from exporter.app.operations.requests import run_requests_differences

    return run_requests_differences(settings, texts)


@click.command()
@click.argument("source", metavar="FILE|URL")
@click.option(
    "--events-url",
    envvar="FAL_EXPORTER_EVENTS_URL",
    metavar="URL",
    required=True,
    help="Store of requests, as serve writes it: file:///folder, s3://, gs://, az:// or clickhouse://.",
)
@click.option("--account", "accounts", multiple=True, metavar="NAME", help="Account to compare; may be repeated.")
@click.option("--start", callback=instant, metavar="TIME", help="Start, ISO 8601. [default: start of the last month]")
@click.option("--end", callback=instant, metavar="TIME", help="End, exclusive. [default: now]")
@click.option("--id", "request_id", metavar="COLUMN", help="Column of the request id; in JSON a path with dots.")
@click.option("--amount", metavar="COLUMN", help="Column of the amount in US dollars.")
@click.option("--time", metavar="COLUMN", help="Column of the time.")
@click.option("--tag", "tags", multiple=True, metavar="KEY", help="Tag to tell the sums by; may be repeated.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "metrics"]),
    default="table",
    show_default=True,
    help="Format; metrics is Prometheus' text format.",
)
@click.option("--output", type=_FILE, metavar="FILE", help="File to write, whole. [default: standard output]")
def reconcile(
    *,
    source: str,
    events_url: str,
    accounts: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    request_id: str | None,
    amount: str | None,
    time: str | None,
    tags: tuple[str, ...],
    form: str,
    output: Path | None,
) -> int:
    """Compare what you booked for each request with what fal charged.

    FILE is a CSV, Parquet or JSON file with request ids and amounts, such as an export of Langfuse; URL is LiteLLM's
    base (its key in LITELLM_API_KEY) or its database, postgresql://. Needs the requests that serve keeps. The exit code
    is 0, or 1 if anything differs.
    """
    from exporter.app.operations.requests import run_reconcile
    from exporter.booked.sources import Columns

    return run_reconcile(
        source,
        events_url=events_url,
        accounts=accounts,
        edges=(start, end),
        now=datetime.now(UTC),
        columns=Columns(request_id, amount, time),
        tags=tags,
        form=form,
        output=output,
    )
