"""The command that compares what was booked for requests with what fal charged for them."""

from datetime import UTC, datetime
from pathlib import Path

import click

from exporter.cli.commands import instant

_FILE = click.Path(dir_okay=False, path_type=Path)


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
    from exporter.app.operations.reconciling import run_reconcile
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
