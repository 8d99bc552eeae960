"""Settings and publications for the tests of the composition root, and a simulated fal beside them."""

import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from e2e.processes import Fal, fal_in_a_thread
from pydantic import SecretStr

from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.encoding import Encoder
from exporter.metrics.snapshot import Snapshot, Table
from exporter.overview import Overview
from exporter.publication import Publication
from exporter.samples import PAGE_SIZE, PagedTable, Sample
from exporter.settings import Listen, Settings
from exporter.simulator import ADMIN_KEY

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)

MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="session")
def fal() -> Iterator[Fal]:
    with fal_in_a_thread() as running:
        yield running


@pytest.fixture(autouse=True)
def no_faults(fal: Fal) -> Iterator[None]:
    yield
    fal.simulator.faults.clear()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the settings of whoever runs the tests away, and what a command does to logging back."""
    for name in os.environ:
        if name.startswith("FAL_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def settings(fal: Fal, tmp_path: Path) -> MakeSettings:
    """Make the settings of an exporter that polls the simulator."""

    def make(**changed: object) -> Settings:
        given: dict[str, object] = {
            "key": SecretStr(ADMIN_KEY),
            "platform_url": fal.running.platform_url,
            "reporting_url": fal.running.reporting_url,
            "listen": Listen("127.0.0.1", 0),
            "mcp_listen": None,
            "ledger_url": SecretStr(f"sqlite:///{tmp_path / 'ledger.sqlite'}"),
            "history": timedelta(hours=2),
            "request_attempts": 1,
        }
        return Settings(**(given | changed))  # type: ignore[arg-type]  # a mapping has one type for all its values

    return make


class Publications:
    """Makes one publication after another, of which little changes."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._table: PagedTable[int] = PagedTable()
        self._sequence = 0
        for number in range(20 * PAGE_SIZE):
            self._table.put(number, Sample((f"account-{number}",), number))

    def __call__(self) -> Publication:
        self._sequence += 1
        self._table.put(0, Sample(("account-0",), self._sequence))
        tables = (Table(CATALOGUE["fal_credit_balance_usd"], ("account",), self._table.pages()),)
        exposition = self._encoder.encode(Snapshot(self._sequence, AT, tables))
        return Publication(self._sequence, AT, exposition, Overview("1.2.3"), ready=True)


@pytest.fixture
def publication() -> Publications:
    return Publications()
