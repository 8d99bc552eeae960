import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_number
from exporter.cli import main
from exporter.ledger import Ledger, Rules
from exporter.machines import AppSettings, RunnerHour, Runners

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Done(NamedTuple):
    """Exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


Backfill = Callable[..., Done]


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A ledger with a day of history, born at noon."""
    made = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(made, rules=Rules(), clock=lambda: NOON)
    ledger.activate({"default": ["models"]})
    flux = Dimensions("default", product="model_apis", model="flux", unit="image")
    window = Window(NOON - 24 * HOUR, NOON)
    charges = [Charge(hour, flux, Amounts(quantity=NANO, cost=NANO)) for hour in window.hours()]
    ledger.restate("default", "models", window, charges, at=NOON)
    ledger.close()
    return made


@pytest.fixture
def environment(address: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    return inherited | {"FAL_KEY": "id:secret", "FAL_EXPORTER_LEDGER_URL": address}


@pytest.fixture
def backfill(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Backfill:
    """Run the command in this process: starting one takes longer than most of what it does here."""

    def run(*arguments: str, **settings: str) -> Done:
        with monkeypatch.context() as during:
            for name, value in (environment | settings).items():
                during.setenv(name, value)
            returncode = main(["backfill", *arguments])
        return Done(returncode, *capfd.readouterr())

    return run


def spend(text: str) -> list[tuple[int, float]]:
    lines = [line.split() for line in text.splitlines() if line.startswith("fal_spend_usd_total{")]
    return [(int(line[-1]), float(line[-2])) for line in lines]


def test_it_writes_openmetrics_to_stdout_and_tells_what_it_wrote_on_stderr(backfill: Backfill) -> None:
    done = backfill()
    assert done.returncode == 0
    assert done.stdout.endswith("\n# EOF\n")
    assert 'model="flux",instance="localhost:8080",job="fal"} ' in done.stdout
    samples = spend(done.stdout)
    assert samples[0] == ((NOON - 24 * HOUR).timestamp(), 0.0)
    assert samples[-1] == (NOON.timestamp() - 300, 24.0)
    assert done.stderr.endswith("series, from 2026-11-19 11:55 to 2026-11-20 12:00 UTC.\n")


def test_what_runners_did_is_written_too(backfill: Backfill, tmp_path: Path) -> None:
    made = f"sqlite:///{tmp_path / 'apps.sqlite'}"
    ledger = Ledger(made, rules=Rules(), clock=lambda: NOON)
    ledger.activate({"default": ["serverless"]})
    shop = Dimensions("default", product="serverless", app="shop", unit="second")
    window = Window(NOON - 24 * HOUR, NOON)
    charges = [Charge(hour, shop, Amounts(quantity=NANO, cost=NANO)) for hour in window.hours()]
    ledger.restate("default", "serverless", window, charges, at=NOON)
    ledger.machines.record_settings("default", [AppSettings("default", "team", "shop", "main", "S", 60, 1, 4)])
    hours = [RunnerHour("default", "shop", hour_number(hour), Runners(1, 3), complete=True) for hour in window.hours()]
    ledger.machines.record_runners("default", window, {"shop": hours})
    ledger.close()
    written = backfill(FAL_EXPORTER_LEDGER_URL=made).stdout
    idle = 'fal_gpu_spend_by_state_last_day_usd{account="default",app="shop",state="idle",'
    # As soon as 23 complete hours are known.
    samples = [line.split()[-2:] for line in written.splitlines() if line.startswith(idle)]
    assert samples == [["17.25", str(int(NOON.timestamp()) - back)] for back in range(3600, 0, -300)]


def test_job_and_instance_are_those_of_the_scrape_configuration(backfill: Backfill) -> None:
    assert ',instance="localhost:9001",job="fal"}' in backfill(FAL_EXPORTER_LISTEN=":9001").stdout
    assert ',instance="a:1",job="b"}' in backfill("--instance", "a:1", "--job", "b").stdout


def test_start_and_end_cut_samples_off_and_change_none(backfill: Backfill) -> None:
    every = spend(backfill().stdout)
    part = spend(backfill("--start", "2026-11-20", "--end", "2026-11-20T06:00+01:00").stdout)
    start, end = datetime(2026, 11, 20, tzinfo=UTC).timestamp(), datetime(2026, 11, 20, 5, tzinfo=UTC).timestamp()
    assert part == [(at, value) for at, value in every if start <= at < end]
    assert len(part) == 5 * 12


def test_an_hourly_resolution_has_a_sample_at_every_hours_end(backfill: Backfill) -> None:
    hours = [at % 3600 for at, _ in spend(backfill("--resolution", "1h").stdout)]
    assert hours == [0] * 24


def test_a_file_appears_when_it_is_complete(backfill: Backfill, tmp_path: Path) -> None:
    done = backfill("--output", str(tmp_path / "history.om"))
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "history.om").read_text() == backfill().stdout
    assert [path.name for path in tmp_path.iterdir() if "history.om" in path.name] == ["history.om"]


def test_a_file_that_cannot_be_written_ends_it_with_one_sentence(backfill: Backfill, tmp_path: Path) -> None:
    done = backfill("--output", str(tmp_path / "nowhere" / "history.om"))
    assert done.returncode == 1
    assert done.stderr == (
        f"fal-exporter: --output {tmp_path}/nowhere/history.om cannot be written: no such file or directory\n"
    )


@pytest.mark.parametrize("target", ["/dev/full"])
def test_a_full_disk_ends_it_with_one_sentence(environment: dict[str, str], target: str) -> None:
    with Path(target).open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "exporter", "backfill"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == "fal-exporter: standard output cannot be written: no space left on device\n"


def test_who_watches_sees_the_progress(environment: dict[str, str], tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "exporter", "backfill", "--output", str(tmp_path / "history.om")],
            env=environment,
            stderr=terminal,
            check=False,
            timeout=60,
        )
        shown = os.read(screen, 65536).decode()
    finally:
        os.close(terminal)
        os.close(screen)
    assert done.returncode == 0
    assert "Writing" in shown
    assert "100%" in shown


def test_an_account_that_the_ledger_does_not_know_is_told(backfill: Backfill) -> None:
    done = backfill(FAL_EXPORTER_ACCOUNT="other")
    assert done.returncode == 1
    assert done.stderr == "fal-exporter: the ledger contains nothing of other yet; run serve first\n"


def test_without_a_ledger_none_is_made(backfill: Backfill, tmp_path: Path) -> None:
    done = backfill(FAL_EXPORTER_LEDGER_URL=f"sqlite:///{tmp_path / 'none.sqlite'}")
    assert done.returncode == 1
    assert "there is no ledger" in done.stderr
    assert not (tmp_path / "none.sqlite").exists()


def test_nothing_between_start_and_end_is_told(backfill: Backfill) -> None:
    done = backfill("--start", "2027-01-01")
    assert done.returncode == 0
    assert done.stdout == "# EOF\n"
    assert done.stderr.startswith("No samples:")


@pytest.mark.parametrize("arguments", [("--start", "soon"), ("--start", "2026-11-02", "--end", "2026-11-01")])
def test_a_wrong_time_is_a_wrong_use(backfill: Backfill, arguments: tuple[str, ...]) -> None:
    done = backfill(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--start" in done.stderr
