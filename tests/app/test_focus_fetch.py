import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from e2e.processes import Fal

from exporter.app.focus import Meter
from exporter.cli import main
from exporter.fal import Progress
from exporter.focus.reader import Reader
from exporter.simulator import ADMIN_KEY, API_KEY, Fault


class Row(NamedTuple):
    billed_cost: Decimal


@pytest.fixture
def fetch(fal: Fal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `fal-exporter focus fetch` in this process, against the simulator."""
    for name, value in environment(fal).items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: main(["focus", "fetch", "--folder", str(tmp_path / "made" / "here"), *arguments])


def environment(fal: Fal) -> dict[str, str]:
    return {
        "FAL_KEY": ADMIN_KEY,
        "FAL_EXPORTER_PLATFORM_URL": fal.running.platform_url,
        "FAL_EXPORTER_REQUEST_ATTEMPTS": "1",
    }


def billed(paths: list[str]) -> Decimal:
    total = Decimal(0)
    for path in paths:
        reader = Reader(Row)
        rows = [*reader.feed(Path(path).read_bytes()), *reader.finish()]
        assert not reader.problems.rows
        total += sum(row.billed_cost for row in rows)
    return total


def test_the_pieces_of_an_estimate_add_up_to_the_truth(
    fal: Fal, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    end = fal.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = end - timedelta(days=3)
    window = ["--source", "estimate", "--start", f"{start:%Y-%m-%d}", "--end", f"{end:%Y-%m-%d}", "--timeframe", "day"]
    assert fetch(*window, "--piece-days", "2") == 0
    told = capsys.readouterr()
    paths = told.out.split()
    assert len(paths) == 2
    truth = fal.simulator.statement(start=start.isoformat(), end=end.isoformat())
    assert billed(paths) == Decimal(str(truth["cost"]))
    assert "piece" not in told.err, "nobody watches"

    fal.simulator.faults.add(Fault("server_error"))
    assert fetch(*window, "--piece-days", "2") == 0, "what is there is not asked for again"
    assert capsys.readouterr().out.split() == paths
    assert fetch(*window, "--piece-days", "2", "--anew") == 1


def test_an_estimate_may_begin_and_end_within_a_bucket(
    fal: Fal, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    end = fal.now.astimezone(UTC).replace(minute=30, second=0, microsecond=0) - timedelta(days=2)
    window = ["--source", "estimate", "--start", f"{end - timedelta(hours=2):%FT%TZ}", "--end", f"{end:%FT%TZ}"]
    assert fetch(*window) == 2
    assert fetch(*window, "--exact") == 0
    truth = fal.simulator.statement(start=(end - timedelta(hours=2)).isoformat(), end=end.isoformat())
    assert billed(capsys.readouterr().out.split()) == Decimal(str(truth["cost"])) > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--source", "estimate", "--charge-month", "2026-10"], "source estimate ignores --charge-month"),
        (["--start", "2026-10-01", "--end", "2026-10-02"], "source invoice ignores start and end"),
        (["--source", "estimate", "--start", "2026-10-01T00:30", "--end", "2026-10-02"], "align it, or add --exact"),
        (["--organization", "--by-team"], "--by-team"),
        (["--team", "acme"], "--team belongs to /organization/focus"),
        (["--source", "estimate", "--zone", "Mars"], "--zone 'Mars' is not an IANA time zone"),
        (["--from-account", "nobody"], "there is no account 'nobody'; configured are: default"),
    ],
)
def test_what_fal_would_not_answer_as_asked_is_refused_with_a_sentence(
    fal: Fal, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    before = fal.simulator.seen.total()
    assert fetch(*arguments) == 2
    assert sentence in capsys.readouterr().err
    assert fal.simulator.seen.total() == before


def test_an_account_without_reports_is_told_whom_to_ask(
    fal: Fal, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    fal.simulator.faults.add(Fault("feature_disabled"))
    assert fetch("--charge-month", "2026-10") == 1
    assert "ask fal to enable it for the account" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(
    fal: Fal, fetch: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del fal
    (tmp_path / "file").write_bytes(b"")
    assert fetch("--folder", str(tmp_path / "file" / "below")) == 2
    assert "name another --folder" in capsys.readouterr().err


def test_of_several_accounts_one_must_be_chosen(
    fal: Fal,
    fetch: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    accounts = tmp_path / "accounts.yaml"
    accounts.write_text(f"accounts:\n- name: main\n  key: {ADMIN_KEY}\n- name: other\n  key: {API_KEY}\n")
    monkeypatch.delenv("FAL_KEY")
    before = fal.simulator.seen.total()
    assert fetch("--config-file", str(accounts), "--charge-month", "2026-10") == 2
    assert "choose one by --from-account: main, other" in capsys.readouterr().err
    assert fal.simulator.seen.total() == before


def test_progress_is_told_once_a_mebibyte_and_at_the_end_of_a_piece(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = Meter(shown=True)
    for size, done in [(10, False), (20, False), (2**20 + 10, False), (2**20 + 20, False), (2**20 + 30, True)]:
        meter(Progress(1, 2, tmp_path / "one.csv", size, done))
    meter(Progress(2, 2, tmp_path / "two.csv", 5, done=False))
    meter.end()
    meter.end()
    told = capsys.readouterr().err
    assert [it.rpartition(", ")[2] for it in told.split("\r")[1:]] == ["0.0 MiB", "1.0 MiB", "1.0 MiB", "0.0 MiB\n"]


def test_progress_is_shown_to_a_person_who_watches(fal: Fal, tmp_path: Path) -> None:
    watched, terminal = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    start = fal.now.astimezone(UTC) - timedelta(days=2)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "exporter", "focus", "fetch", "--source", "estimate", "--timeframe", "day"),
            *("--start", f"{start:%Y-%m-%d}", "--end", f"{fal.now.astimezone(UTC):%Y-%m-%d}", "--piece-days", "1"),
        ],
        env=inherited | environment(fal),
        cwd=tmp_path,
        stderr=terminal,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    os.close(terminal)
    shown = os.read(watched, 100_000).decode()
    os.close(watched)
    assert "piece 2 of 2: focus-account-estimate-day-" in shown
    assert len(done.stdout.split()) == 2
