"""Months of the ledger, delivered once: to a destination (`focus push`), or to a cost service (`focus upload`)."""

import json
from collections.abc import Iterable
from pathlib import Path

import click

from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError
from exporter.focus.outputs import Format
from exporter.focus.writer import decimal_text
from exporter.queries.focus.cost_services import CostService
from exporter.queries.focus.push import Change, Push, PushedFile, PushOrder, asked_month, push
from exporter.queries.focus.upload import UploadedMonth, state_path, upload
from exporter.settings import Settings


def run_push(
    settings: Settings, months: Iterable[str], *, dry: bool, as_json: bool = False, clock: Clock = utc_now
) -> int:
    """Write months to the destination of the settings, print what became of each file, and return the exit code.

    Args:
        settings: those of `serve`.
        months: UTC months, `YYYY-MM`; none for the current one and the one before.
        dry: whether nothing is written.
        as_json: whether the outcome is printed as JSON.
        clock: returns the present.

    Raises:
        ConfigurationError: there is no destination, it cannot be used, or a month is not YYYY-MM.
        EventsError: the destination cannot be read or written.
        LedgerError, LackingError: the ledger cannot be read, or has nothing of the months.
    """
    if settings.focus_push_url is None:
        raise ConfigurationError(
            "there is no destination of FOCUS files; set --focus-push-url (FAL_EXPORTER_FOCUS_PUSH_URL), for example "
            "to file:///var/lib/fal-exporter/focus or s3://bucket/prefix"
        )
    order = PushOrder(
        settings.ledger_url.get_secret_value(),
        settings.focus_push_url,
        Format(settings.focus_push_format),
        clock(),
        tuple(asked_month(text) for text in months),
        dry=dry,
        version=settings.focus_push_version,
    )
    outcome = push(order)
    if as_json:
        click.echo(_json(outcome, order))
        return 0
    for file in outcome.files:
        click.echo(_line(file))
    for note in outcome.notes:
        click.echo(f"note: {note}", err=True)
    if dry:
        click.echo(f"note: nothing was written to {order.url}, because of --dry-run", err=True)
    return 0


def _line(file: PushedFile) -> str:
    if file.change is Change.REMOVED:
        return f"{file.change.value:<9}  {file.path}"
    sums = file.document["sums"]
    costs = (
        [f"{currency} {by_name['BilledCost']}" for currency, by_name in sums.items()] if isinstance(sums, dict) else []
    )
    source, size = file.document["source"], int(str(file.document["bytes"]))
    return f"{file.change.value:<9}  {file.path}  {source}  {file.rows:,} rows  {size:,} bytes  {', '.join(costs)}"


def _json(outcome: Push, order: PushOrder) -> str:
    files = [{"path": file.path, "change": file.change.value, **file.document} for file in outcome.files]
    document = {"url": order.url, "dry_run": order.dry, "files": files, "notes": list(outcome.notes)}
    return json.dumps(document, indent=2, ensure_ascii=False)


_SHOWN = 3


def run_upload(
    settings: Settings,
    service: CostService,
    months: Iterable[str],
    *,
    state: Path | None,
    dry: bool,
    clock: Clock = utc_now,
) -> int:
    """Bring months up to date at a service, print what became of each, and return the exit code.

    Args:
        settings: those of `serve`.
        service: where to.
        months: UTC months, `YYYY-MM`; none for the current one and the one before.
        state: file that remembers uploads; None for the one beside the ledger.
        dry: whether nothing is sent.
        clock: returns the present.

    Raises:
        ConfigurationError: a month is not YYYY-MM, or the state cannot be used.
        CostServiceError: the service cannot be reached, or refuses; what is remembered is true all the same.
        LedgerError, LackingError: the ledger cannot be read, or has nothing of the months.
    """
    address = settings.ledger_url.get_secret_value()
    windows = [asked_month(text) for text in months]
    done = upload(address, service, state_path(address, state), clock(), months=windows, dry=dry)
    for month in done.months:
        size = sum(map(len, month.files))
        click.echo(
            f"{month.change.value:<9}  {month.name}  {len(month.costs):,} lines  {len(month.files)} files  "
            f"{size:,} bytes  USD {decimal_text(sum(month.costs.values()))}"
        )
        if dry:
            _show(service, month)
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    if dry:
        click.echo("note: nothing was sent, because of --dry-run", err=True)
    return 0


def _show(service: CostService, month: UploadedMonth) -> None:
    """Show what would be sent."""
    for content in month.files:
        click.echo(f"  {service.target}  {len(content):,} bytes")
        for line in content.decode().splitlines()[:_SHOWN]:
            click.echo(f"    {line[:200]}")
    for identity in month.replaced:
        click.echo(f"  then delete {identity}")
