"""An exporter and the fal that it polls, for every test of the whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.processes import Exporter, Fal, exporter_of, fal_in_a_thread
from ledger.conftest import empty_postgresql, postgresql_server

__all__ = ["empty_postgresql", "postgresql_server"]


@pytest.fixture
def fal() -> Iterator[Fal]:
    with fal_in_a_thread() as running:
        yield running


@pytest.fixture
def exporter(fal: Fal, tmp_path: Path) -> Iterator[Exporter]:
    with exporter_of(fal, tmp_path) as made:
        yield made
