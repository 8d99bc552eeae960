"""`fal-exporter focus upload`: months of the ledger to a cost service, once."""

from collections.abc import Iterable
from pathlib import Path

import click

from exporter.charges import Clock, utc_now
from exporter.focus.writer import decimal_text
from exporter.queries.cost_services import CostService
from exporter.queries.focus_push import asked_month
from exporter.queries.focus_upload import UploadedMonth, state_path, upload
from exporter.settings import Settings

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
        clock: tells the present.

    Raises:
        ConfigurationError: a month is none, or the state cannot be used.
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
