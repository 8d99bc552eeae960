import gc
import os
import queue
import re
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from app.conftest import MakeSettings
from e2e.processes import PATIENCE, Fal, wait_until
from pydantic import SecretStr

from exporter.app.operations.administration import run_token
from exporter.app.serve import _ledger_reader
from exporter.app.supervision import PATIENCE as PRODUCT_PATIENCE
from exporter.app.supervision import CollectorError, CollectorProcess
from exporter.errors import ConfigurationError
from exporter.settings.credentials import TokenFile
from exporter.simulator import ADMIN_KEY, Fault
from exporter.web.server import GRACE

if TYPE_CHECKING:
    from exporter.publication import Publication


def test_a_new_token_is_printed_once_with_the_line_that_admits_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_token("grafana") == 0
    token, line = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"falx_[\w-]{43}", token)
    (tmp_path / "tokens").write_text(line)
    assert TokenFile(tmp_path / "tokens").name_of(token) == "grafana"
    assert token not in line


def test_a_name_that_cannot_stand_in_a_file_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigurationError, match="the name of a token is not a plain name"):
        run_token("two words")


class Heard:
    """Messages of a collector process."""

    def __init__(self) -> None:
        self.published: queue.SimpleQueue[Publication] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[CollectorError] = queue.SimpleQueue()


def test_it_publishes_hears_of_scrapes_and_ends_by_itself_without_waiting_for_a_poll_that_hangs(
    settings: MakeSettings, fal: Fal, capfd: pytest.CaptureFixture[str]
) -> None:
    fal.simulator.faults.add(Fault("hang"))
    process, heard = CollectorProcess(patience=PATIENCE), Heard()
    longer = settings(request_timeout=timedelta(minutes=10), poll_deadline=timedelta(minutes=10))
    process.start(longer, publish=heard.published.put, ended=heard.ended.put)
    calls = fal.simulator.seen.total()
    first = heard.published.get(timeout=40)
    process.scraped(first.sequence)
    assert heard.published.get(timeout=40).sequence > first.sequence
    wait_until(lambda: fal.simulator.seen.total() > calls, "a call hangs")
    assert process.stop() == 0
    assert heard.ended.empty()
    # To a collector that is gone nothing can be said any more, and that is no error.
    process.scraped(first.sequence)
    told = capfd.readouterr()
    assert ADMIN_KEY.partition(":")[2] not in told.err
    assert "Traceback" not in told.err


def test_a_collector_that_does_not_end_is_killed(settings: MakeSettings) -> None:
    process, heard = CollectorProcess(patience=0.1), Heard()
    process.start(settings(), publish=heard.published.put, ended=heard.ended.put)
    os.kill(process.pid, signal.SIGSTOP)
    assert process.stop() == -signal.SIGKILL
    assert heard.ended.empty()


def test_the_patience_of_both_halves_together_is_below_five_seconds() -> None:
    assert PRODUCT_PATIENCE + GRACE < 5


def test_why_it_gave_up_is_told_with_its_exit_code(settings: MakeSettings) -> None:
    process, heard = CollectorProcess(), Heard()
    nowhere = settings(ledger_url=SecretStr("sqlite:////nowhere/at/all/ledger.sqlite"))
    process.start(nowhere, publish=heard.published.put, ended=heard.ended.put)
    error = heard.ended.get(timeout=40)
    process.stop()
    assert "directory must exist" in str(error)
    assert error.exit_code == 1


def test_a_sudden_end_is_told(settings: MakeSettings) -> None:
    process, heard = CollectorProcess(), Heard()
    process.start(settings(), publish=heard.published.put, ended=heard.ended.put)
    os.kill(process.pid, signal.SIGKILL)
    error = heard.ended.get(timeout=40)
    process.stop()
    assert str(error) == "the collector process ended unexpectedly with code -9"


def test_garbage_is_not_looked_for_among_the_libraries_of_the_ledger() -> None:
    gc.unfreeze()
    try:
        _ledger_reader("sqlite:///ledger.sqlite")
        assert gc.get_freeze_count() > len(gc.get_objects())
    finally:
        gc.unfreeze()
