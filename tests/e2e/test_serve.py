"""`fal-exporter serve` from start to stop, as a user runs it."""

import os
import signal

from e2e.processes import PATIENCE, Exporter, Fal, wait_until

from exporter.charges import NANO
from exporter.simulator import Fault, GlitchedJob, PlantedSpend


def test_a_restart_loses_and_doubles_nothing(exporter: Exporter, fal: Fal) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    exporter.scrape()
    hour = int(fal.now.timestamp()) // 3600
    fal.simulator.faults.add(PlantedSpend(hour, GlitchedJob().line(12 * NANO)))
    wait_until(lambda: 12.0 in exporter.scrape()["fal_spend_usd_total"].values(), "the charge shows")
    before = exporter.scrape()
    assert exporter.stop() == 0

    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready again")
    after = exporter.scrape()
    for family in ("fal_spend_usd_total", "fal_usage_quantity_total", "fal_spend_last_hour_usd"):
        assert after[family] == before[family]


def test_it_stops_without_waiting_for_a_poll_that_hangs(exporter: Exporter, fal: Fal) -> None:
    fal.simulator.faults.add(Fault("hang"))
    exporter.environment |= {"FAL_EXPORTER_REQUEST_TIMEOUT": "10m", "FAL_EXPORTER_POLL_DEADLINE": "10m"}
    exporter.start()
    wait_until(lambda: fal.simulator.seen.total() > 0, "a call hangs")
    assert exporter.stop() == 0
    assert "stopped" in exporter.output.splitlines()[-1]


def test_it_stays_ready_on_the_last_snapshot_when_fal_is_away(exporter: Exporter, fal: Fal) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    through = exporter.scrape()["fal_data_through_timestamp_seconds"]
    fal.simulator.faults.add(Fault("not_json"))
    wait_until(lambda: 0.0 in exporter.scrape()["fal_source_up"].values(), "a poll fails")
    assert exporter.is_ready()
    assert exporter.scrape()["fal_data_through_timestamp_seconds"] == through


def test_a_wrong_setting_ends_it_with_code_2_and_one_sentence(exporter: Exporter) -> None:
    exporter.environment["FAL_EXPORTER_POLL_INTERVALL"] = "5m"
    exporter.start()
    assert exporter.process is not None
    assert exporter.process.wait(PATIENCE) == 2
    assert "FAL_EXPORTER_POLL_INTERVAL" in exporter.output
    assert len(exporter.output.splitlines()) == 1


def test_a_ledger_that_cannot_be_opened_ends_it_with_one_sentence(exporter: Exporter) -> None:
    exporter.environment["FAL_EXPORTER_LEDGER_URL"] = "sqlite:////nowhere/at/all/ledger.sqlite"
    exporter.start()
    assert exporter.process is not None
    assert exporter.process.wait(PATIENCE) == 1
    last = exporter.output.splitlines()[-1]
    assert "the ledger sqlite:////nowhere/at/all/ledger.sqlite" in last
    assert "directory must exist" in last


def test_the_end_of_the_collector_is_the_end_of_the_exporter(exporter: Exporter) -> None:
    exporter.start()
    wait_until(lambda: exporter.get("/-/healthy"), "the exporter serves")
    assert exporter.process is not None
    assert exporter.collector is not None
    os.kill(exporter.collector, signal.SIGKILL)
    assert exporter.process.wait(PATIENCE) == 1
    assert "collector" in exporter.output.splitlines()[-1]


def test_a_collector_without_its_web_process_ends_by_itself(exporter: Exporter) -> None:
    exporter.start()
    # It answers before the collector has been started.
    wait_until(lambda: exporter.collector, "the collector has started")
    assert exporter.process is not None
    exporter.process.kill()
    exporter.process.wait(PATIENCE)
    # It is nobody's child now; only its end takes it out of the process group.
    wait_until(lambda: not _is_alive(exporter.process.pid), "the collector has ended")


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
