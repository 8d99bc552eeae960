"""`fal-exporter demo`: everything at work in one process, without key or network."""

import asyncio
import logging
import signal
import sys
import tempfile
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import click
import uvloop
from pydantic import SecretStr

from exporter.app.joined import Joined, joined
from exporter.charges import decimal_of
from exporter.metrics.publication import Publication
from exporter.settings import Listen, Settings
from exporter.simulator import ADMIN_KEY, RunningSimulator, World, demo_faults, running_simulator

_POLL_INTERVAL = timedelta(seconds=10)
_LINE_INTERVAL = 1.0
"""Seconds between two states of the live line on a terminal."""

_LOG_INTERVAL = 15.0
"""Seconds between two live lines where there is no terminal."""


def run_demo(*, listen: Listen, seed: int, days: int) -> int:
    """Show the exporter at work until SIGTERM or SIGINT; return the exit code.

    Args:
        listen: where the exporter listens.
        seed: of the simulated world.
        days: of history to load.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    with tempfile.TemporaryDirectory(prefix="fal-exporter-demo-") as folder:
        uvloop.run(_demo(listen, seed, days, Path(folder)))
    return 0


async def _demo(listen: Listen, seed: int, days: int, folder: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_simulator(World.demo(seed), faults=demo_faults()) as simulator:
        settings = demo_settings(simulator, listen, days, folder)
        notes = ("This is a demo: a simulated account, polled every ten seconds. None of its figures is real.",)
        links = (("The simulator's statement", f"{simulator.url}/_simulator/statement"),)
        async with joined(settings, notes=notes, links=links) as running:
            click.echo(_greeting(running, simulator))
            telling = asyncio.create_task(_tell(running))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait((stopping, running.collecting), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            telling.cancel()
            # The simulator's server would tell of every answer that it breaks off.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            click.echo("\nStopping.")


def demo_settings(simulator: RunningSimulator, listen: Listen, days: int, folder: Path) -> Settings:
    """Return the settings of an exporter that polls a simulator impatiently."""
    return Settings(
        account="demo",
        sources=("models", "serverless"),
        key=SecretStr(ADMIN_KEY),
        platform_url=simulator.platform_url,
        reporting_url=simulator.reporting_url,
        listen=listen,
        ledger_url=SecretStr(f"sqlite:///{folder / 'ledger.sqlite'}"),
        poll_interval=_POLL_INTERVAL,
        balance_interval=_POLL_INTERVAL,
        invoice_interval=timedelta(minutes=1),
        series_birth_hold=3 * _POLL_INTERVAL,
        history=timedelta(days=days),
        request_attempts=2,
    )


def _greeting(running: Joined, simulator: RunningSimulator) -> str:
    target = running.url.removeprefix("http://")
    return (
        f"fal-exporter demo: a simulated fal ({simulator.url}) and the exporter that polls it.\n\n"
        f"  Landing page  {running.url}/\n"
        f"  Metrics       {running.url}/metrics\n"
        f"  Readiness     {running.url}/-/ready\n\n"
        "Scrape it with:\n\n"
        "  scrape_configs:\n"
        "    - job_name: fal\n"
        "      scrape_interval: 15s\n"
        "      static_configs:\n"
        f'        - targets: ["{target}"]\n\n'
        "Ctrl-C stops it.\n"
    )


async def _tell(running: Joined) -> None:
    """Keep the user informed: one line that moves on a terminal, else a line now and then."""
    on_terminal = sys.stdout.isatty()
    told = 0.0
    while True:
        await running.published.wait()
        running.published.clear()
        latest = running.latest
        if latest is not None and (on_terminal or time.monotonic() - told >= _LOG_INTERVAL):
            told = time.monotonic()
            click.echo(("\r\x1b[K" if on_terminal else "") + live_line(latest), nl=not on_terminal)
        await asyncio.sleep(_LINE_INTERVAL)


def live_line(publication: Publication) -> str:
    """Say in one line what is happening."""
    overview = publication.overview
    accounts = overview.accounts
    sources = [source for account in accounts for source in account.sources]
    progress = [source.history_progress or 0.0 for source in sources]
    parts = [f"{publication.at:%H:%M:%S}Z"]
    if not progress or min(progress) < 1:
        parts.append(f"loading history {min(progress, default=0.0):4.0%}")
    parts += [
        f"month {_dollars(sum(it.month_to_date or 0 for it in accounts))}",
        f"today {_dollars(sum(it.today or 0 for it in accounts))}",
        f"balance {_dollars(sum(it.balance or 0 for it in accounts))}",
        f"{overview.charges:,} charges in {overview.series:,} series",
    ]
    failing = [source.name for source in sources if source.state == "failing"]
    if failing:
        parts.append(f"failing: {', '.join(failing)}")
    return "  ".join(parts)


def _dollars(amount: int) -> str:
    return f"${decimal_of(amount).quantize(Decimal('0.01')):,}"
