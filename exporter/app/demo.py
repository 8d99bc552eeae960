"""`fal-exporter demo` and `fal-exporter simulate`: everything at work without key or network."""

import asyncio
import logging
import math
import signal
import sys
import time
from contextlib import closing, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

import click
import uvloop
from pydantic import SecretStr

from exporter.app.local_prometheus import DemoLedger, Programs, find_programs, local_prometheus
from exporter.app.single_process import SingleProcess, in_one_process
from exporter.booked.comparison import default_window
from exporter.charges import decimal_of, utc_now
from exporter.errors import ConfigurationError, EventsError
from exporter.events.questions import RequestsQuestion
from exporter.events.store import open_reader
from exporter.publication import Publication
from exporter.settings import Listen, Settings
from exporter.settings.entries import BudgetEntry
from exporter.simulator import (
    ADMIN_KEY,
    API_KEY,
    RunningSimulator,
    company,
    company_events,
    demo_faults,
    running_simulator,
    serve_simulator,
)
from exporter.simulator.world.company import DEARER_MODEL, OLD_PRICE, Company
from exporter.simulator.world.exact import microseconds
from exporter.unfinished import ScratchFolder
from exporter.web.pages.summary import figure
from exporter.web.server import listen as listening
from exporter.web.server import listening_advice


def run_simulate(*, host: str, port: int, seed: int) -> int:
    """Serve a simulated fal until SIGTERM or SIGINT; return the exit code.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    try:
        asyncio.run(_simulate(host, port, seed))
    except OSError as error:
        raise ConfigurationError(
            f"--listen {host}:{port} cannot be used ({error.strerror}); " + listening_advice(error, port, "--listen")
        ) from None
    return 0


async def _simulate(host: str, port: int, seed: int) -> None:
    serving = asyncio.create_task(serve_simulator(host=host, port=port, seed=seed, announce=_announce))

    def stop() -> None:
        # The server would tell of every answer that it breaks off.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with suppress(asyncio.CancelledError):
        await serving


def _announce(running: RunningSimulator) -> None:
    click.echo(
        f"A simulated fal listens on {running.url}. To poll it:\n\n"
        f"  FAL_KEY={ADMIN_KEY} \\\n"
        f"  FAL_EXPORTER_PLATFORM_URL={running.platform_url} \\\n"
        f"  FAL_EXPORTER_REPORTING_URL={running.reporting_url} \\\n"
        "  fal-exporter serve\n\n"
        f"A key with API scope is {API_KEY}.\n"
        f"True charges: {running.url}/_simulator/statement   Faults: {running.url}/_simulator/faults"
    )


_POLL_INTERVAL = timedelta(seconds=10)
_WHOLE, _VIDEO, _SERVERLESS_WEEK = Decimal(10_500), Decimal(1_100), Decimal(420)
"""Budgets of about what the simulated company spends in a month, on video in a month, and on serverless in a week."""

_VIDEO_MODELS = ("*-to-video",)
_FIRST_DAYS = 10
_NEARLY = Decimal("0.93")
"""Part of the video budget that is spent when the demo starts after the first days of a month."""

_BOOKED, _BOOKING_MEMORY = "bookings.parquet", "256MiB"
_BOOKED_AFTER, _BOOKED_EVERY = 283.0, timedelta(minutes=15)
"""Seconds after which the company's gateway has booked: just before bookings are compared for the first time. What has
been read since, as on a slow machine, is booked before the next comparison."""

_BOOKINGS = """
WITH charged AS (
    SELECT request_id, "timestamp", api_key, model,
        CASE WHEN model = ? THEN least(cost_nano_usd, cost_nano_usd * ? // unit_price_nano_usd) ELSE cost_nano_usd END
            * 0.000000001::DECIMAL(10, 9) AS amount
    FROM read_parquet(?)
)
SELECT request_id, "timestamp", amount FROM charged WHERE api_key <> ?
UNION ALL
SELECT request_id, "timestamp", amount FROM charged WHERE model LIKE '%-to-video' AND request_id LIKE '%0'
"""
"""Parameters: the model whose price rose and its earlier price, the charged requests, the key without bookings."""

_LINE_INTERVAL = 1.0
"""Seconds between two states of the live line on a terminal."""

_LOG_INTERVAL = 15.0
"""Seconds between two live lines where there is no terminal."""


_RUNNERS_PATIENCE = 60.0
"""Seconds for which the history of runners is waited for once that of charges has been loaded: its calls may fail."""


def run_demo(
    *, listen: Listen, seed: int, days: int | None, with_prometheus: bool = False, listen_setting: str = "--listen"
) -> int:
    """Show the exporter at work until SIGTERM or SIGINT; return the exit code.

    Args:
        listen: where the exporter listens.
        seed: of the simulated world.
        days: of history to load; None for this month and the whole one before.
        with_prometheus: whether to start a Prometheus and an Alertmanager, too.
        listen_setting: the option or variable that says where, for errors about the address.

    Raises:
        ConfigurationError: the address cannot be listened on.
        LocalPrometheusError: Prometheus or Alertmanager is missing or does not work.
    """
    programs = find_programs() if with_prometheus else None
    with ScratchFolder() as folder:
        uvloop.run(_demo((listen, listen_setting), seed, days, folder, programs))
    return 0


async def _demo(
    where: tuple[Listen, str], seed: int, days: int | None, folder: Path, programs: Programs | None
) -> None:
    listen, listen_setting = where
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    now = utc_now()
    events = (*demo_faults(), *company_events(now))
    world = company(seed, now)
    async with running_simulator(world, faults=events) as simulator:
        settings = demo_settings(simulator, listen, days, folder, now)
        notes = ("This is a demo of a simulated account, polled every ten seconds. None of these figures is real.",)
        links = (("The simulator's statement", f"{simulator.url}/_simulator/statement"),)
        async with in_one_process(settings, notes=notes, links=links, listen_setting=listen_setting) as running:
            click.echo(_greeting(running, simulator))
            loaded = asyncio.Event()
            telling = asyncio.create_task(_tell(running, loaded, with_runners=days is None))
            stopping = asyncio.create_task(stop.wait())
            watching = asyncio.create_task(_watch(running, loaded, settings, folder, programs))
            booking = asyncio.create_task(_book(world, settings, folder / _BOOKED))
            await asyncio.wait((stopping, running.collecting, watching), return_when=asyncio.FIRST_COMPLETED)
            for task in (stopping, telling, watching, booking):
                task.cancel()
            await asyncio.wait((watching,))
            # The simulator's server would tell of every answer that it breaks off.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            click.echo("\nStopping.")
            if not watching.cancelled():
                watching.result()


def demo_budgets(simulator: RunningSimulator, now: datetime) -> tuple[BudgetEntry, ...]:
    """Return the budgets of the demo; of the one for video nearly all is spent, but in the first days of a month."""
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    charges = simulator.simulator.account.charges((microseconds(month), microseconds(now)), microseconds(now))
    spent = sum(
        charge.cost
        for hour in charges
        for charge in hour
        if any(fnmatchcase(charge.line.model, pattern) for pattern in _VIDEO_MODELS)
    )
    video = _VIDEO if now.day <= _FIRST_DAYS else (decimal_of(spent) / _NEARLY).quantize(Decimal("1E1"))
    return (
        BudgetEntry(name="everything", amount=_WHOLE),
        BudgetEntry(name="video", amount=video.quantize(Decimal(1)), match={"model": _VIDEO_MODELS}),
        BudgetEntry(name="serverless", amount=_SERVERLESS_WEEK, period="week", match={"product": ("serverless",)}),
    )


def demo_settings(
    simulator: RunningSimulator, listen: Listen, days: int | None, folder: Path, now: datetime
) -> Settings:
    """Return the settings of an exporter that polls a simulator impatiently."""
    return Settings(
        account="demo",
        sources=("models", "serverless", "compute"),
        key=SecretStr(ADMIN_KEY),
        platform_url=simulator.platform_url,
        reporting_url=simulator.reporting_url,
        listen=listen,
        mcp_listen=_mcp_address(listen),
        # Its figures are invented: whoever gets here may see them.
        open=True,
        allowed_hosts=("*",),
        ledger_url=SecretStr(f"sqlite:///{folder / 'ledger.sqlite'}"),
        poll_interval=_POLL_INTERVAL,
        balance_interval=_POLL_INTERVAL,
        invoice_interval=timedelta(minutes=1),
        names_interval=timedelta(minutes=1),
        series_birth_hold=3 * _POLL_INTERVAL,
        history=None if days is None else timedelta(days=days),
        request_attempts=2,
        budgets=demo_budgets(simulator, now),
        tags=("cost_center", "env"),
        events=_has_store(),
        booked_source=SecretStr(str(folder / _BOOKED)) if _has_store() else None,
        booked_interval=_BOOKED_EVERY,
    )


def _has_store() -> bool:
    """Return whether the libraries of the extra `events` are there, so that single requests can be kept."""
    return all(find_spec(name) is not None for name in ("duckdb", "fsspec", "msgspec", "obstore"))


def _mcp_address(listen: Listen) -> Listen:
    """Return the usual address of MCP, or any port where that is taken."""
    usual = Listen(listen.host, 9090 if listen.port else 0)
    try:
        listening(*usual).close()
    except ConfigurationError:
        return Listen(listen.host, 0)
    return usual


def _greeting(running: SingleProcess, simulator: RunningSimulator) -> str:
    target = running.url.removeprefix("http://")
    return (
        f"fal-exporter demo: a simulated fal ({simulator.url}) and the exporter that polls it.\n\n"
        f"  Landing page  {running.url}/\n"
        f"  Metrics       {running.url}/metrics\n"
        f"  REST          {running.url}/docs\n"
        f"  MCP           {running.mcp_url}\n"
        f"  Readiness     {running.url}/-/ready\n\n"
        "Scrape it with:\n\n"
        "  scrape_configs:\n"
        "    - job_name: fal\n"
        "      scrape_interval: 15s\n"
        "      static_configs:\n"
        f'        - targets: ["{target}"]\n\n'
        "Ctrl-C stops it.\n"
    )


async def _book(world: Company, settings: Settings, path: Path) -> None:
    """Book as the company's gateway before each comparison of bookings, until cancelled."""
    if settings.booked_source is None:
        return
    await asyncio.sleep(_BOOKED_AFTER)
    while True:
        # Where there are no bookings, the comparison says so.
        with suppress(EventsError):
            await asyncio.to_thread(book_requests, world, settings.requests_url, path, utc_now())
        await asyncio.sleep(settings.booked_interval.total_seconds())


def book_requests(world: Company, events_url: str, path: Path, now: datetime) -> None:
    """Write what the company's gateway has booked for the requests that have been read, as a Parquet file.

    It errs as gateways do: it has not heard of a model's new price, books videos twice that it has tried again, and
    one key does without it.

    Args:
        world: the company.
        events_url: of the store of requests.
        path: of the file.
        now: the window is that of a comparison at this instant.

    Raises:
        EventsError: the requests cannot be read.
    """
    import duckdb  # noqa: PLC0415  heavy, of an extra, and only wanted after minutes

    window = default_window(now)
    charged, unfinished = path.with_suffix(".charged"), path.with_suffix(".unfinished")
    with closing(open_reader(events_url)) as reader:
        reader.export(RequestsQuestion(window.start, window.end), charged, in_order=False)
    with duckdb.connect(config={"threads": 1, "memory_limit": _BOOKING_MEMORY}) as connection:
        given = [DEARER_MODEL, OLD_PRICE, str(charged), world.past_the_gateway.id, str(unfinished)]
        connection.execute(f"COPY ({_BOOKINGS}) TO ? (FORMAT parquet, COMPRESSION zstd)", given)
    charged.unlink()
    unfinished.replace(path)


async def _tell(running: SingleProcess, loaded: asyncio.Event, *, with_runners: bool) -> None:
    """Keep the user informed: one line that moves on a terminal, else a line now and then.

    Args:
        running: the demo that is described.
        loaded: set once the whole history has been loaded.
        with_runners: whether that of runners, which is read after the charges, is waited for, too.
    """
    on_terminal = sys.stdout.isatty()
    told, end = 0.0, math.inf
    while True:
        await running.published.wait()
        running.published.clear()
        latest = running.latest
        if latest is not None and _loaded(latest) == 1:
            end = min(end, time.monotonic() + _RUNNERS_PATIENCE)
            if not with_runners or _is_divided(latest) or time.monotonic() >= end:
                loaded.set()
        if latest is not None and (on_terminal or time.monotonic() - told >= _LOG_INTERVAL):
            told = time.monotonic()
            click.echo(("\r\x1b[K" if on_terminal else "") + live_line(latest), nl=not on_terminal)
        await asyncio.sleep(_LINE_INTERVAL)


async def _watch(
    running: SingleProcess, loaded: asyncio.Event, settings: Settings, folder: Path, programs: Programs | None
) -> None:
    """Run Prometheus and Alertmanager, if wanted, from when the history has been loaded until cancelled."""
    if programs is not None:
        await loaded.wait()
        click.echo("\nImporting the history into Prometheus, which takes about a minute.")
        ledger = DemoLedger(
            settings.ledger_url.get_secret_value(), settings.account, running.url.removeprefix("http://")
        )
        async with local_prometheus(programs, ledger, folder) as where:
            click.echo(f"\n{where}")
            await asyncio.Event().wait()
    await asyncio.Event().wait()


def _loaded(publication: Publication) -> float:
    """Return which part of the history has been loaded, 0 to 1, of the source that is behind."""
    accounts = publication.overview.accounts
    return min((source.history_progress or 0.0 for account in accounts for source in account.sources), default=0.0)


def _is_divided(publication: Publication) -> bool:
    """Return whether spend is divided by what runners did: settings are tried once requests are read, too, the last."""
    return any(app.is_tried for app in publication.overview.observations.idle_apps)


def live_line(publication: Publication) -> str:
    """Return the present state in one line."""
    overview = publication.overview
    accounts = overview.accounts
    sources = [source for account in accounts for source in account.sources]
    parts = [f"{publication.at:%H:%M:%S}Z"]
    if (loaded := _loaded(publication)) < 1:
        parts.append(f"loading history {loaded:4.0%}")
    parts += [
        f"month {figure(accounts, 'month_to_date')}",
        f"today {figure(accounts, 'today')}",
        f"balance {figure(accounts, 'balance')}",
        f"{overview.charges:,} charges in {overview.series:,} series",
    ]
    failing = [source.name for source in sources if source.state == "failing"]
    if failing:
        parts.append(f"failing: {', '.join(failing)}")
    return "  ".join(parts)
