import asyncio
import os
import re
from pathlib import Path

import click
import pytest
from e2e.processes import Fal
from web.conftest import AT, served

from exporter.app.operations import check, status
from exporter.app.operations.terminal import fitted, window
from exporter.cli import main
from exporter.overview import AccountOverview, Overview
from exporter.publication import Exposition, Publication
from exporter.simulator import ADMIN_KEY
from exporter.web.application import Application


def of(columns: int, lines: int = 40) -> os.terminal_size:
    return os.terminal_size((columns, lines))


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("short  enough", ["short  enough"]),
        ("* demo: Credit runs out soon", ["* demo: Credit runs", "  out soon"]),
        ("Today  $2.00  since midnight, UTC", ["Today  $2.00  since", "       midnight, UTC"]),
        ("a      one two three four", ["a      one two three", "       four"]),
        ("one two three four five six", ["one two three four", "five six"]),
        ("  * an-address/that-is-too-long-for-it", ["  *", "    an-address/that-is-too-long-for-it"]),
    ],
)
def test_a_line_goes_on_below_what_it_explains(line: str, parts: list[str]) -> None:
    assert fitted([line], of(20)) == parts
    assert fitted([line], None) == [line]


def test_each_part_has_the_style_of_its_line() -> None:
    line = "  ! the key of the account is wrong"
    parts = fitted([click.style(line, fg="red")], of(20))
    assert len(parts) == 2
    assert parts == [click.style(click.unstyle(part), fg="red") for part in parts]
    assert " ".join(click.unstyle(part).strip() for part in parts) == line.strip()


def test_what_is_no_terminal_has_no_width() -> None:
    assert window() is None


async def test_a_watched_window_shows_the_beginning_and_says_that_there_is_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    application = Application(clock=lambda: AT)
    accounts = tuple(AccountOverview(f"studio-{number}", (), locked="no credit.") for number in range(30))
    application.publish(Publication(1, AT, Exposition(), Overview("1.2.3", accounts), ready=True))

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "window", lambda: of(60, 12))
    monkeypatch.setattr("exporter.app.operations.status.time.sleep", stop)
    async with served(application) as client:
        with pytest.raises(KeyboardInterrupt):
            await asyncio.to_thread(status.run_status, str(client.base_url), watch=1.0, token=None)
        watched = click.unstyle(capsys.readouterr().out).splitlines()
        await asyncio.to_thread(status.run_status, str(client.base_url), watch=None, token=None)
        everything = click.unstyle(capsys.readouterr().out).splitlines()
    # With the cursor's row it fills the window, and what is urgent has not been scrolled out of it.
    assert len(watched) == 11
    assert watched[:-1] == everything[:10]
    assert watched[-1] == f"... {len(everything) - 10} more lines; without --watch all are shown"
    assert all(len(line) <= 60 for line in watched)
    assert any(line.startswith("! studio-0") for line in watched)


@pytest.mark.parametrize("columns", [60, 80])
def test_check_fits_a_narrow_window_and_says_the_same(
    columns: int,
    fal: Fal,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "FAL_KEY": ADMIN_KEY.replace("1", "2"),
        "FAL_EXPORTER_PLATFORM_URL": fal.running.platform_url,
        "FAL_EXPORTER_REPORTING_URL": fal.running.reporting_url,
        "FAL_EXPORTER_REQUEST_ATTEMPTS": "1",
        "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{tmp_path / 'l.db'}",
        "FAL_EXPORTER_LISTEN": "127.0.0.1:0",
        "FAL_EXPORTER_MCP_LISTEN": "off",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["check"]) == 1
    whole = capsys.readouterr().out
    monkeypatch.setattr(check, "window", lambda: of(columns))
    assert main(["check"]) == 1
    narrow = click.unstyle(capsys.readouterr().out)
    # A path of the test's own folder has no place to be broken at.
    assert [line for line in narrow.splitlines() if len(line) > columns and str(tmp_path) not in line] == []
    calls = r"/(models|serverless|organization|billing|account)/\w+|/keys|\bcall\b|\bremark\b|\(request [^)]*\)"
    said = [sorted(re.sub(calls, "", " ".join(text.split())).split()) for text in (whole, narrow)]
    assert said[0] == said[1]
