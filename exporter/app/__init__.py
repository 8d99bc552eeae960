"""The composition root: builds the rooms and joins them; the only place that knows all of them.

Each command imports what it runs when it is run, so that `serve` does not wait for the simulator to be imported, nor
the process that answers scrapes for the ledger's libraries.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from exporter.settings import Listen, Settings


def run_serve(settings: "Settings") -> int:
    """Run `fal-exporter serve`; see `exporter.app.serve`."""
    from exporter.app import serve  # noqa: PLC0415  see above

    return serve.run_serve(settings)


def run_check(settings: "Settings") -> int:
    """Run `fal-exporter check`; see `exporter.app.check`."""
    from exporter.app import check  # noqa: PLC0415  see above

    return check.run_check(settings)


def run_demo(*, listen: "Listen", seed: int, days: int) -> int:
    """Run `fal-exporter demo`; see `exporter.app.demo`."""
    from exporter.app import demo  # noqa: PLC0415  see above

    return demo.run_demo(listen=listen, seed=seed, days=days)


def run_simulate(*, host: str, port: int, seed: int) -> int:
    """Run `fal-exporter simulate`; see `exporter.app.simulate`."""
    from exporter.app import simulate  # noqa: PLC0415  see above

    return simulate.run_simulate(host=host, port=port, seed=seed)


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
    from exporter.app import backfill  # noqa: PLC0415  see above

    return backfill.run_backfill(
        settings, start=start, end=end, resolution=resolution, job=job, instance=instance, output=output
    )
