"""`serve` is killed again and again while fal's past changes: nothing is lost, nothing is doubled."""

import os
import random
import signal
import time
from pathlib import Path

import httpx
import pytest
from e2e.processes import Exporter, Fal, Labels, exporter_of, parsed, wait_until
from local_http import HTTP

from exporter.charges import NANO
from exporter.simulator import GlitchedJob, PlantedSpend

COUNTERS = ("fal_spend_usd_total", "fal_discount_usd_total", "fal_gpu_seconds_total", "fal_usage_quantity_total")
KILLS = 12
QUICK_KILLS, LONGEST_START = 3, 0.8
"""Kills of what has just been started, after each of these, and the longest time that it is given until then."""


class Bill:
    """Charges planted in hours that polls still read; they are added late, and some are revised."""

    def __init__(self, fal: Fal, chance: random.Random) -> None:
        self._fal = fal
        self._chance = chance
        self._dollars: dict[tuple[int, str], int] = {}
        hour = int(fal.now.timestamp()) // 3600
        # Should the hour turn in the meantime, the one before this is read no more.
        self._hours = (hour, hour - 1) if fal.now.minute < 55 else (hour,)

    def change(self) -> None:
        model = f"fal-ai/late-{self._chance.randrange(6)}"
        key = (self._chance.choice(self._hours), model)
        # More often up than down; what fal takes back makes the counter wait.
        self._dollars[key] = max(0, self._dollars.get(key, 0) + self._chance.randint(-20, 60))
        self._fal.simulator.account.plant(
            [
                PlantedSpend(hour, GlitchedJob(model=model).line(dollars * NANO))
                for (hour, model), dollars in self._dollars.items()
            ]
        )

    def by_model(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for (_, model), dollars in self._dollars.items():
            totals[model] = totals.get(model, 0) + dollars
        return totals


class Watch:
    """Scrapes, and holds every counter against its highest value so far."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._highest: dict[tuple[str, Labels], float] = {}
        self.scrapes = 0

    def look(self) -> bool:
        """Scrape once; return whether the ledger's counters were there."""
        try:
            text = HTTP.get(f"{self._exporter.url}/metrics", timeout=10).text
        except httpx.TransportError:
            return False
        scraped = parsed(text)
        if "fal_spend_usd_total" not in scraped:
            return False
        now = {(name, labels): value for name in COUNTERS for labels, value in scraped.get(name, {}).items()}
        for series, highest in self._highest.items():
            assert now.get(series, -1) >= highest, f"{series} fell from {highest} to {now.get(series)}"
        self._highest = now
        self.scrapes += 1
        return True


def kill_one_of(exporter: Exporter, which: str) -> None:
    """Kill processes of the exporter, and start what nobody else starts again."""
    assert exporter.process is not None
    if which == "collector":
        if exporter.collector is not None:
            os.kill(exporter.collector, signal.SIGKILL)
        return
    if which == "web":
        exporter.process.kill()
        exporter.process.wait()
    else:
        exporter.kill()
    exporter.start()


@pytest.mark.long
def test_kills_at_random_moments_lose_and_double_nothing(fal: Fal, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  reproducible, no secrets
    with exporter_of(fal, tmp_path) as exporter:
        watch, bill = Watch(exporter), Bill(fal, chance)
        exporter.start()
        # The ledger is born before the first late charge, so that all of them count.
        wait_until(lambda: exporter.is_ready() and watch.look(), "the exporter is ready")
        for kill in range(KILLS):
            bill.change()
            kill_one_of(exporter, ("group", "collector", "web")[kill % 3])
            for _ in range(QUICK_KILLS):
                # Most of a start is over within a second: its kills cost no more than it does.
                time.sleep(chance.uniform(0, LONGEST_START))
                kill_one_of(exporter, chance.choice(("group", "web")))
            if kill % 2:
                wait_until(watch.look, "it has started again")
            moment = time.monotonic() + chance.uniform(0, 1.5)
            while time.monotonic() < moment:
                watch.look()
                if chance.random() < 0.3:
                    bill.change()
        assert watch.scrapes > KILLS

        def is_true() -> bool:
            watch.look()
            scraped = exporter.scrape()
            return all(
                # A day of history is no month: the hours in which charges were planted have gauges of their own.
                _of_model(scraped, "fal_spend_current_hour_usd", model)
                + _of_model(scraped, "fal_spend_last_hour_usd", model)
                == dollars
                and _of_model(scraped, "fal_spend_usd_total", model)
                - _of_model(scraped, "fal_spend_pending_usd", model)
                == dollars
                for model, dollars in bill.by_model().items()
            )

        wait_until(is_true, "the exposition equals the bill")
        planted = sum(bill.by_model().values())
        scraped = exporter.scrape()
        counted = sum(scraped["fal_spend_usd_total"].values()) - sum(scraped["fal_spend_pending_usd"].values())
        assert counted == planted > 0


def _of_model(scraped: dict[str, dict[Labels, float]], family: str, model: str) -> float:
    return sum(value for labels, value in scraped.get(family, {}).items() if ("model", model) in labels)
