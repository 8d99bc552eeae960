"""The composition root: builds the packages' parts and joins them; the only package that knows all of them.

Lives here: one module per command (`serve`, `check`, `demo`, `backfill`, `focus`, `mcp_stdio`, `administration`), the
collector process, and `wiring`, which makes the collector from the settings. May import: everything but `cli`. Begin
reading at `serve`, then `collector_process` and `wiring`. A command imports what it runs when it is run, so that
`serve` does not wait for the simulator, nor the process that answers scrapes for the ledger's libraries.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from pydantic import SecretStr

    from exporter.fal import FocusRequest
    from exporter.ledger.reader import LedgerReader
    from exporter.settings import Listen, Settings


def run_serve(settings: "Settings") -> int:
    """Run `fal-exporter serve`; see `exporter.app.serve`."""
    from exporter.app import serve

    return serve.run_serve(settings)


def run_check(settings: "Settings") -> int:
    """Run `fal-exporter check`; see `exporter.app.check`."""
    from exporter.app import check

    return check.run_check(settings)


def run_rename_account(settings: "Settings", *, old: str, new: str) -> int:
    """Run `fal-exporter ledger rename-account`; see `exporter.app.administration`."""
    from exporter.app import administration

    return administration.run_rename_account(settings, old=old, new=new)


def run_ledger_backup(settings: "Settings", *, file: "Path") -> int:
    """Run `fal-exporter ledger backup`; see `exporter.app.administration`."""
    from exporter.app import administration

    return administration.run_ledger_backup(settings, file=file)


def run_ledger_restore(settings: "Settings", *, file: "Path") -> int:
    """Run `fal-exporter ledger restore`; see `exporter.app.administration`."""
    from exporter.app import administration

    return administration.run_ledger_restore(settings, file=file)


def run_ledger_verify(settings: "Settings", *, file: "Path | None") -> int:
    """Run `fal-exporter ledger verify`; see `exporter.app.administration`."""
    from exporter.app import administration

    return administration.run_ledger_verify(settings, file=file)


def run_demo(*, listen: "Listen", seed: int, days: int, with_prometheus: bool = False) -> int:
    """Run `fal-exporter demo`; see `exporter.app.demo`."""
    from exporter.app import demo

    return demo.run_demo(listen=listen, seed=seed, days=days, with_prometheus=with_prometheus)


def run_simulate(*, host: str, port: int, seed: int) -> int:
    """Run `fal-exporter simulate`; see `exporter.app.demo`."""
    from exporter.app import demo

    return demo.run_simulate(host=host, port=port, seed=seed)


def run_backfill(
    settings: "Settings",
    *,
    start: "datetime | None",
    end: "datetime | None",
    resolution: "timedelta",
    job: str,
    instance: str | None,
    output: "Path | None",
) -> int:
    """Run `fal-exporter backfill`; see `exporter.app.backfill`."""
    from exporter.app import backfill

    return backfill.run_backfill(
        settings, start=start, end=end, resolution=resolution, job=job, instance=instance, output=output
    )


def run_token(name: str) -> int:
    """Run `fal-exporter token`; see `exporter.app.administration`."""
    from exporter.app import administration

    return administration.run_token(name)


def ledger_reader(address: str) -> "LedgerReader":
    """Return what asks the ledger at an address; its libraries are imported when the first question comes."""
    from exporter.ledger.reader import LedgerReader

    return LedgerReader(address)


def run_mcp_over_ledger(address: str, zone: "ZoneInfo") -> int:
    """Run `fal-exporter mcp`; see `exporter.app.mcp_stdio`."""
    from exporter.app import mcp_stdio

    return mcp_stdio.run_over_ledger(address, zone)


def run_mcp_over_http(url: str, token: "SecretStr | None") -> int:
    """Run `fal-exporter mcp --url`; see `exporter.app.mcp_stdio`."""
    from exporter.app import mcp_stdio

    return mcp_stdio.run_over_http(url, token)


def run_focus_check(path: str, *, version: str | None, output_format: str) -> int:
    """Run `fal-exporter focus check`; see `exporter.app.focus`."""
    from exporter.app import focus

    return focus.run_check(path, version=version, output_format=output_format)


def run_focus_summary(path: str, *, output_format: str) -> int:
    """Run `fal-exporter focus summary`; see `exporter.app.focus`."""
    from exporter.app import focus

    return focus.run_summary(path, output_format=output_format)


def run_focus_export(
    settings: "Settings",
    *,
    month: str | None,
    start: "datetime | None",
    end: "datetime | None",
    granularity: str,
    version: str,
    omit_empty_columns: bool,
    output: "Path | None",
    metadata_output: "Path | None",
    account: str | None,
) -> int:
    """Run `fal-exporter focus export`; see `exporter.app.focus`."""
    from exporter.app import focus

    return focus.run_export(
        settings.ledger_url.get_secret_value(),
        focus.window_of(month, start, end),
        granularity=granularity,
        version=version,
        omit_empty_columns=omit_empty_columns,
        output=output,
        metadata_output=metadata_output,
        account=account,
    )


def run_focus_fetch(
    settings: "Settings",
    request: "FocusRequest",
    folder: "Path",
    *,
    account: str | None,
    longest: "timedelta",
    resume: bool,
) -> int:
    """Run `fal-exporter focus fetch`; see `exporter.app.focus`."""
    from exporter.app import focus

    return focus.run_fetch(settings, request, folder, account=account, longest=longest, resume=resume)
