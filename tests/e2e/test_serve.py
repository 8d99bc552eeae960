"""`fal-exporter serve` from start to stop, as a user runs it."""

import os
import signal
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from e2e.processes import Exporter, Fal, Labels, wait_until

from exporter.simulator import Fault, GlitchedJob, PlantedSpend

NANO = 10**9


def month_of(now: datetime) -> datetime:
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def labels_of(row: dict[str, str]) -> Labels:
    names = ("product", "model", "app", "gpu_class")
    return frozenset({("account", "default"), *((name, row[name]) for name in names if row[name])})


def test_gauges_equal_the_simulators_statement_series_by_series(exporter: Exporter, fal: Fal) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    published = exporter.scrape()["fal_spend_month_to_date_usd"]
    truth: dict[Labels, Decimal] = {}
    for row in fal.truth(month_of(fal.now), fal.now, "product", "model", "app", "gpu_class"):
        truth[labels_of(row)] = truth.get(labels_of(row), Decimal(0)) + Decimal(row["cost"])
    assert {labels: value for labels, value in published.items() if value} == {
        labels: float(cost) for labels, cost in truth.items() if cost
    }


def test_loaded_history_is_no_spike_and_new_spend_moves_the_counter_by_what_it_is(exporter: Exporter, fal: Fal) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    assert set(exporter.scrape()["fal_spend_usd_total"].values()) == {0.0}

    line = GlitchedJob().line(40_500 * NANO)
    hour = int(fal.now.timestamp()) // 3600
    fal.simulator.faults.add(PlantedSpend(hour, line))
    glitched = frozenset({("account", "default"), ("product", "model_apis"), ("model", "fal-ai/glitched-job")})
    wait_until(lambda: exporter.scrape()["fal_spend_usd_total"].get(glitched) == 40_500.0, "the charge shows")
    others = {value for labels, value in exporter.scrape()["fal_spend_usd_total"].items() if labels != glitched}
    assert others == {0.0}


def test_a_restart_loses_and_doubles_nothing(exporter: Exporter, fal: Fal) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    hour = int(fal.now.timestamp()) // 3600
    fal.simulator.faults.add(PlantedSpend(hour, GlitchedJob().line(12 * NANO)))
    wait_until(lambda: 12.0 in exporter.scrape()["fal_spend_usd_total"].values(), "the charge shows")
    before = exporter.scrape()
    exporter.stop()

    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready again")
    after = exporter.scrape()
    for family in ("fal_spend_usd_total", "fal_usage_quantity_total", "fal_spend_month_to_date_usd"):
        assert after[family] == before[family]


def test_it_stops_within_five_seconds_while_a_poll_hangs(exporter: Exporter, fal: Fal) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    fal.simulator.faults.add(Fault("hang"))
    calls = fal.simulator.seen.total()
    wait_until(lambda: fal.simulator.seen.total() > calls, "a call hangs")
    began = time.monotonic()
    assert exporter.stop() == 0
    assert time.monotonic() - began < 5


def test_it_stays_ready_on_the_last_snapshot_when_fal_is_away(exporter: Exporter, fal: Fal) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    through = exporter.scrape()["fal_data_through_timestamp_seconds"]
    fal.simulator.faults.add(Fault("server_error"))
    wait_until(lambda: 0.0 in exporter.scrape()["fal_source_up"].values(), "a poll fails")
    assert exporter.is_ready()
    assert exporter.scrape()["fal_data_through_timestamp_seconds"] == through


def test_a_wrong_setting_ends_it_with_code_2_and_one_sentence(exporter: Exporter) -> None:
    exporter.environment["FAL_EXPORTER_POLL_INTERVALL"] = "5m"
    exporter.start()
    assert exporter.process is not None
    assert exporter.process.wait(20) == 2
    assert "FAL_EXPORTER_POLL_INTERVAL" in exporter.output
    assert len(exporter.output.splitlines()) == 1


def test_a_ledger_that_cannot_be_opened_ends_it_with_one_sentence(exporter: Exporter) -> None:
    exporter.environment["FAL_EXPORTER_LEDGER_URL"] = "sqlite:////nowhere/at/all/ledger.sqlite"
    exporter.start()
    assert exporter.process is not None
    assert exporter.process.wait(20) == 1
    last = exporter.output.splitlines()[-1]
    assert "the ledger sqlite:////nowhere/at/all/ledger.sqlite" in last
    assert "folder must exist" in last


def test_the_end_of_the_collector_is_the_end_of_the_exporter(exporter: Exporter) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    assert exporter.process is not None
    pid = exporter.process.pid
    (collector,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    os.kill(collector, signal.SIGKILL)
    assert exporter.process.wait(20) == 1
    assert "collector" in exporter.output.splitlines()[-1]
