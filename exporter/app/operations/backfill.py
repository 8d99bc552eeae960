"""`fal-exporter backfill`: writes what was charged before the counters were born, for a new Prometheus."""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo

import click

from exporter.calendar import first_hour_of, month_after
from exporter.charges import HOUR, hour_number, hour_start
from exporter.errors import FalExporterError
from exporter.ledger.export import History, Past
from exporter.ledger.tables.database import reading
from exporter.metrics import backfill as timelines
from exporter.metrics.backfill import Grid, TimedFamily
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.encoding import END
from exporter.settings import Settings
from exporter.unfinished import written_whole

_Timeline = Callable[[Past], list[timelines.Step]]


class BackfillError(FalExporterError):
    """The history cannot be written."""


@dataclass(frozen=True, slots=True)
class Written:
    """Summary of what was written: samples and series, and the instants around them (None without samples)."""

    samples: int
    series: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Backfill:
    """An order of a backfill.

    Attributes:
        start: no sample is before it; None for all that the ledger keeps.
        end: no sample is at or after it; None for up to the birth of the live series, where all samples end.
        resolution: between two samples of a series; it divides an hour.
        target: the labels that Prometheus adds when it scrapes the exporter, above all job and instance.
    """

    start: datetime | None
    end: datetime | None
    resolution: timedelta
    target: Mapping[str, str]


def run_backfill(
    settings: Settings,
    *,
    start: datetime | None,
    end: datetime | None,
    resolution: timedelta,
    job: str,
    instance: str | None,
    output: Path | None,
) -> int:
    """Write the history of the configured accounts; return the exit code.

    Args:
        settings: those of `serve`.
        start: no sample is before it; None for all that the ledger keeps.
        end: no sample is at or after it; None for all up to the birth of the live series.
        resolution: between two samples of a series; it divides an hour.
        job: the label that Prometheus adds when it scrapes the exporter.
        instance: likewise; None for `localhost` and the port that the exporter listens on.
        output: a file, or None for stdout.

    Raises:
        LedgerError: the ledger cannot be read.
        BackfillError: the output cannot be written; no half-written file is left.
    """
    target = {"instance": instance or f"localhost:{settings.listen.port}", "job": job}
    backfill = Backfill(start, end, resolution, {name: value for name, value in target.items() if value})
    accounts = {account.name for account in settings.accounts}
    with reading(settings.ledger_url.get_secret_value()) as connection, _opened(output) as file:
        written = write_history(History(connection, accounts), backfill, settings.timezone, file)
    click.echo(_summary(written), err=True)
    return 0


def write_history(history: History, backfill: Backfill, zone: ZoneInfo, file: BinaryIO) -> Written:
    """Write a history as OpenMetrics, one series after the other; show the progress to whoever watches stderr."""
    resolution = backfill.resolution // timedelta(seconds=1)
    first = history.first_hour
    known_from = history.last_birth if first is None else hour_start(first)
    start = known_from - backfill.resolution if backfill.start is None else max(backfill.start, known_from - HOUR)
    end = history.last_birth if backfill.end is None else min(backfill.end, history.last_birth)
    grid = Grid(_seconds(start), _seconds(end), resolution)
    days, months = _starts(known_from, history.last_birth, zone)
    measures: dict[str, tuple[str, _Timeline]] = {
        "fal_spend_usd_total": ("cost", partial(_counter, resolution=resolution)),
        "fal_discount_usd_total": ("discount", partial(_counter, resolution=resolution)),
        "fal_gpu_seconds_total": ("gpu_seconds", partial(_counter, resolution=resolution)),
        "fal_usage_quantity_total": ("quantity", partial(_counter, resolution=resolution)),
        "fal_spend_last_hour_usd": ("cost", _last_hour),
        "fal_spend_today_usd": ("cost", partial(_since_start, starts=days)),
        "fal_spend_last_day_usd": ("cost", _last_day),
        "fal_discount_last_day_usd": ("discount", _last_day),
        "fal_usage_quantity_last_day": ("quantity", _last_day),
        "fal_spend_month_to_date_usd": ("cost", partial(_since_start, starts=months)),
        "fal_gpu_time_last_hour_seconds": ("gpu_seconds", _last_hour),
        "fal_gpu_time_month_to_date_seconds": ("gpu_seconds", partial(_since_start, starts=months)),
    }
    families: list[tuple[str, Iterator[Past], _Timeline]] = [
        *((name, history.pasts(measure), timeline) for name, (measure, timeline) in measures.items()),
        ("fal_gpu_spend_by_state_last_day_usd", history.states(), _last_day),
    ]
    samples = series = 0
    with _progress(len(families), history.label_sets) as shown:
        for number, (name, pasts, timeline) in enumerate(families):
            family = CATALOGUE[name]
            encoder = TimedFamily(family, family.labels_with(history.labels), backfill.target, grid)
            heading = encoder.header
            for place, past in enumerate(pasts):
                shown(number, place)
                before = samples
                for lines, count in encoder.lines(past.labels, timeline(past), _seconds(past.birth)):
                    file.write((heading + lines).encode(errors="replace"))
                    heading = ""
                    samples += count
                series += samples > before
    file.write(END)
    return Written(samples, series, start, end)


def _counter(past: Past, resolution: int) -> list[timelines.Step]:
    last = (_seconds(past.birth) - 1) // resolution * resolution
    return timelines.counter(past.hours, before=past.folded, total=past.total, last=last, resolution=resolution)


def _last_hour(past: Past) -> list[timelines.Step]:
    return timelines.last_hour(past.hours)


def _last_day(past: Past) -> list[timelines.Step]:
    return timelines.last_day(past.hours, past.known_from)


def _since_start(past: Past, starts: list[int]) -> list[timelines.Step]:
    return timelines.since_start(past.hours, starts, past.known_from)


def _seconds(instant: datetime) -> int:
    """Return the first whole second at or after an instant."""
    return math.ceil(instant.timestamp())


def _starts(first: datetime, last: datetime, zone: ZoneInfo) -> tuple[list[int], list[int]]:
    """Return the numbers of the first hours of local days and of months, around a span of time."""
    day = first.astimezone(zone).date().replace(day=1) - timedelta(days=1)
    end = month_after(last.astimezone(zone).date())
    days: list[date] = []
    while day <= end:
        days.append(day)
        day += timedelta(days=1)
    numbers = {day: hour_number(first_hour_of(day, zone)) for day in days}
    return list(numbers.values()), [number for day, number in numbers.items() if day.day == 1]


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when it is complete, or stdout."""
    if output is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.flush()
        except OSError as error:
            # Else Python fails once more at its end, over what a closed pipe did not take.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise BackfillError(f"standard output cannot be written: {_reason(error)}") from None
        return
    try:
        with written_whole(output) as file:
            yield file
    except OSError as error:
        raise BackfillError(f"--output {output} cannot be written: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    return (error.strerror or "input/output error").lower()


@contextmanager
def _progress(families: int, series: int) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows, on a bar on stderr where a person watches it, which series of which family is being written."""
    if not sys.stderr.isatty():
        yield lambda _family, _place: None
        return
    with click.progressbar(length=families * series, label="Writing", file=sys.stderr) as bar:
        yield lambda family, place: bar.update(family * series + min(place, series) - bar.pos)
        bar.update(families * series - bar.pos)


def _summary(written: Written) -> str:
    if not written.samples:
        return "No samples: nothing was charged before the counters started, or nothing between --start and --end."
    start, end = (f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}" for instant in (written.start, written.end))
    return f"{written.samples:,} samples of {written.series:,} series, from {start} to {end} UTC."
