"""`fal-exporter serve` from start to stop, as a user runs it."""

import os
import signal
import time
from collections.abc import Callable

import pytest
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


@pytest.mark.long
def test_it_stops_without_waiting_for_a_poll_that_hangs(exporter: Exporter, fal: Fal) -> None:
    fal.simulator.faults.add(Fault("hang"))
    exporter.environment |= {"FAL_EXPORTER_REQUEST_TIMEOUT": "10m", "FAL_EXPORTER_POLL_DEADLINE": "10m"}
    exporter.start()
    wait_until(lambda: fal.simulator.seen.total() > 0, "a call hangs")
    assert exporter.stop() == 0
    assert "stopped" in exporter.output.splitlines()[-1]


@pytest.mark.long
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


@pytest.mark.long
def test_a_ledger_that_cannot_be_opened_ends_it_with_one_sentence(exporter: Exporter) -> None:
    exporter.environment["FAL_EXPORTER_LEDGER_URL"] = "sqlite:////nowhere/at/all/ledger.sqlite"
    exporter.start()
    assert exporter.process is not None
    assert exporter.process.wait(PATIENCE) == 1
    last = exporter.output.splitlines()[-1]
    assert "the ledger sqlite:////nowhere/at/all/ledger.sqlite" in last
    assert "directory must exist" in last


@pytest.mark.long
def test_a_collector_that_is_killed_is_started_again_while_the_last_publication_is_served(exporter: Exporter) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    killed = exporter.collector
    assert killed is not None
    before = exporter.scrape()
    os.kill(killed, signal.SIGKILL)
    assert exporter.scrape()["fal_credit_balance_usd"] == before["fal_credit_balance_usd"]
    wait_until(lambda: exporter.collector not in {killed, None}, "another collector runs")

    wait_until(lambda: _value(exporter, "fal_exporter_snapshot_timestamp_seconds") > time.time() - 1, "it publishes")
    assert _value(exporter, "fal_exporter_collector_restarts_total") == 1
    assert exporter.is_ready()
    assert "the collector has ended and is started again" in exporter.output
    assert exporter.stop() == 0


@pytest.mark.long
def test_a_collector_without_its_web_process_ends_within_four_seconds(exporter: Exporter, fal: Fal) -> None:
    fal.simulator.faults.add(Fault("hang"))
    exporter.start()
    wait_until(lambda: fal.simulator.seen.total() > 0, "the collector polls")
    assert exporter.process is not None
    exporter.process.kill()
    killed_at = time.monotonic()
    exporter.process.wait(PATIENCE)
    # It is nobody's child now; only its end takes it out of the process group.
    wait_until(lambda: not _is_alive(exporter.process.pid), "the collector has ended")
    assert time.monotonic() - killed_at < 4


@pytest.mark.long
@pytest.mark.parametrize("after", [0.6, 0, 1.5])
def test_it_ends_well_and_soon_when_told_to_at_any_moment_of_its_start(exporter: Exporter, after: float) -> None:
    _told_to_end_after(exporter, after, os.kill)


@pytest.mark.long
@pytest.mark.parametrize("tell", [os.kill, os.killpg])
@pytest.mark.parametrize("step", range(12))
def test_it_ends_well_and_soon_whoever_is_told_to(
    exporter: Exporter, step: int, tell: Callable[[int, int], None]
) -> None:
    """As by `kill`, and as by systemd, which tells all processes of a service."""
    _told_to_end_after(exporter, step * 0.25, tell)


@pytest.mark.long
def test_it_ends_well_and_soon_though_its_collector_hangs(exporter: Exporter) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    assert exporter.collector is not None
    os.kill(exporter.collector, signal.SIGSTOP)
    _told_to_end(exporter)


@pytest.mark.long
def test_it_ends_well_when_it_is_told_again_and_again(exporter: Exporter) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    assert exporter.process is not None
    while exporter.process.poll() is None:
        os.kill(exporter.process.pid, signal.SIGTERM)
        time.sleep(0.002)
    assert exporter.process.returncode == 0


@pytest.mark.long
def test_a_configuration_is_read_again_at_sighup(exporter: Exporter) -> None:
    file = exporter.folder / "fal-exporter.yaml"
    file.write_text("credit_floor: 5\n")
    exporter.environment["FAL_EXPORTER_CONFIG_FILE"] = str(file)
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    assert exporter.process is not None
    assert _value(exporter, "fal_credit_floor_usd") == 5
    # The web process renders its own families a moment after the first publication.
    wait_until(
        lambda: "fal_exporter_config_last_reload_successful" in exporter.scrape(), "it says how the start was read"
    )
    assert _value(exporter, "fal_exporter_config_last_reload_successful") == 1
    loaded_at = _value(exporter, "fal_exporter_config_last_reload_success_timestamp_seconds")

    file.write_text("credit_floor: a lot\n")
    os.killpg(exporter.process.pid, signal.SIGHUP)  # as a terminal that closes tells all processes
    wait_until(lambda: _value(exporter, "fal_exporter_config_last_reload_successful") == 0, "it is refused")
    assert "the configuration could not be reloaded; the former one stays in use" in exporter.output
    assert "credit_floor" in exporter.output

    file.write_text("credit_floor: 7\n")
    os.kill(exporter.process.pid, signal.SIGHUP)
    wait_until(lambda: _value(exporter, "fal_credit_floor_usd") == 7, "it takes effect")
    wait_until(lambda: _value(exporter, "fal_exporter_config_last_reload_successful") == 1, "the reload has succeeded")
    assert _value(exporter, "fal_exporter_config_last_reload_success_timestamp_seconds") > loaded_at
    assert _value(exporter, "fal_exporter_collector_restarts_total") == 0
    assert "GET /metrics" not in exporter.output, "requests are logged where ACCESS_LOG says so"
    assert exporter.is_ready()
    assert exporter.stop() == 0


def _value(exporter: Exporter, name: str) -> float:
    (value,) = exporter.scrape()[name].values()
    return value


def _told_to_end_after(exporter: Exporter, after: float, tell: Callable[[int, int], None]) -> None:
    exporter.start()
    assert exporter.process is not None
    # Before, the system ends it: Python itself is being loaded.
    while not exporter.handles_sigterm:
        assert exporter.process.poll() is None
    time.sleep(after)
    _told_to_end(exporter, tell)


def _told_to_end(exporter: Exporter, tell: Callable[[int, int], None] = os.kill) -> None:
    assert exporter.process is not None
    told_at = time.monotonic()
    tell(exporter.process.pid, signal.SIGTERM)
    code = exporter.process.wait(PATIENCE)
    assert code == 0, exporter.output
    assert time.monotonic() - told_at < 5
    wait_until(lambda: not _is_alive(exporter.process.pid), "the collector has ended")


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
