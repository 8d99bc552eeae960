from datetime import UTC, datetime

import pytest

from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.snapshot import Snapshot, Table


def test_a_family_may_stand_in_one_table_only() -> None:
    table = Table(CATALOGUE["fal_source_up"], ("account", "source"), ())
    with pytest.raises(ValueError, match="one table of each family"):
        Snapshot(1, datetime(2026, 11, 1, tzinfo=UTC), (table, table))


def test_a_table_holds_no_histogram() -> None:
    with pytest.raises(ValueError, match="fal_exporter_poll_duration_seconds is a histogram"):
        Table(CATALOGUE["fal_exporter_poll_duration_seconds"], ("account", "source"), ())
