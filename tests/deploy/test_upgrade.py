"""A new exporter on the ledger of an older one, as when an image is replaced above the same volume."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from e2e.processes import Fal, exporter_of, wait_until

from exporter.charges import NANO
from exporter.ledger.tables.schema import SCHEMA_VERSION

OLDER = sorted((Path(__file__).parents[1] / "ledger" / "tables").glob("version-*.sql"))


def fact(connection: sqlite3.Connection, name: str) -> str:
    (value,) = connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return str(value)


def test_there_is_a_ledger_of_every_older_version() -> None:
    versions = [int(re.sub(r"\D", "", path.stem)) for path in OLDER]
    assert versions == list(range(1, SCHEMA_VERSION))


@pytest.mark.long
@pytest.mark.parametrize(
    "older",
    OLDER,
    ids=[path.stem for path in OLDER],
)
def test_serve_migrates_it_and_counters_and_their_birth_go_on(older: Path, fal: Fal, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(ledger)) as connection:
        connection.executescript(older.read_text())
        counters = connection.execute(
            "SELECT labels, published FROM counter JOIN label_set ON label_set.id = label_set_id WHERE measure = 'cost'"
        )
        counted = {tuple(json.loads(labels)): int(published) / NANO for labels, published in counters}
        names = json.loads(fact(connection, "labels"))
        born_at = fact(connection, "born_at")
    assert any(counted.values())
    with exporter_of(fal, tmp_path, ACCOUNT="prod", SOURCES="models,serverless") as exporter:
        exporter.start()
        # Not until it is ready: by then it has read every hour since.
        wait_until(lambda: exporter.get("/-/healthy"), "the exporter answers")
        spend = wait_until(lambda: exporter.scrape().get("fal_spend_usd_total"), "the counters are published")
        assert exporter.stop() == 0
    goes_on = {tuple(dict(labels).get(name, "") for name in names): value for labels, value in spend.items()}
    assert goes_on.keys() >= counted.keys()
    assert all(goes_on[labels] >= value for labels, value in counted.items())
    with closing(sqlite3.connect(ledger)) as connection:
        assert fact(connection, "schema") == str(SCHEMA_VERSION)
        assert fact(connection, "born_at") == born_at
