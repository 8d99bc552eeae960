from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from exporter.charges import NANO, SURGE, Amounts, Charge, Dimensions, UnitPrice, Window
from exporter.ledger import Ledger
from exporter.ledger.reader import LedgerReader
from exporter.samples import Pages

OpenLedger = Callable[..., Ledger]
SOURCES = {"prod": ("models", "serverless")}
APP = Dimensions("prod", product="serverless", app="shop", environment="prod", gpu_class="H100", unit="second")
FLUX = Dimensions("prod", product="model_apis", model="fal-ai/flux/dev", unit="image")


def at(day: int, hour: int) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


CHARGED = {
    "models": [
        Charge(at(18, 23), FLUX, Amounts(NANO, 0, 200_000_000, 40_000_000, 160_000_000)),
        Charge(at(19, 5), FLUX._replace(model="fal-ai/kling", unit="second"), Amounts(NANO, 0, 8, 1, 7)),
        Charge(at(20, 12), FLUX, Amounts(3 * NANO, 0, 2**62 + 2**60, 2**60, 2**62)),
    ],
    "serverless": [
        Charge(at(20, 5), APP, Amounts(50 * NANO, 50 * NANO, 625_000_006, 125_000_001, 500_000_005)),
        Charge(at(20, 11), APP, Amounts(50 * NANO, 50 * NANO, 625_000_013, 125_000_002, 500_000_011)),
    ],
}
"""The charges of version-2.sql, but for those of the hour that a test states anew."""

_FIRST_READ = datetime(2026, 9, 3, 10, tzinfo=UTC)
"""Start of the hours that version-2.sql has covered without a gap."""

NOVEMBER = Window(at(1, 0), datetime(2026, 12, 1, tzinfo=UTC))


def values(pages: Pages) -> dict[str, int | float]:
    return {it.labels[3] or it.labels[4]: it.value for page in pages for it in page.samples}


@pytest.fixture
def old_ledger(address: str) -> str:
    """A ledger as version 2 of the schema left it: three series, two of them with folded hours, six charges."""
    return made_of("version-2.sql", address)


def made_of(file: str, address: str) -> str:
    script = (Path(__file__).parent / file).read_text()
    engine = create_engine(address)
    with engine.begin() as connection:
        for statement in script.split(";\n"):
            dialect = statement.replace(" WITHOUT ROWID", "") if engine.dialect.name == "postgresql" else statement
            if dialect.strip():
                connection.exec_driver_sql(dialect)
    engine.dispose()
    return address


@pytest.fixture
def migrated(old_ledger: str, open_ledger: OpenLedger) -> Ledger:
    del old_ledger
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate(SOURCES)
    return ledger


def test_counters_and_gauges_of_version_2_go_on_where_they_were(migrated: Ledger) -> None:
    view = migrated.view()
    assert values(view.spend) == {"fal-ai/flux/dev": 2**62 + 480_000_000, "shop": 2_500_000_016, "fal-ai/kling": 7}
    assert values(view.known_of_month) == {
        "fal-ai/flux/dev": 2**62 + 160_000_000,
        "shop": 1_500_000_016,
        "fal-ai/kling": 7,
    }
    assert (view.charges, view.balances[0].amount, values(view.pending)["shop"]) == (6, 7_374_792_800, 0)
    more = [Charge(at(20, 12), APP, Amounts(NANO, NANO, 4, 0, 4))]
    migrated.restate("prod", "serverless", Window(at(20, 12), at(20, 13)), more, at=at(20, 12))
    assert values(migrated.view().spend)["shop"] == 2_500_000_020


def test_counters_and_gauges_of_version_3_go_on_where_they_were(address: str, open_ledger: OpenLedger) -> None:
    made_of("version-3.sql", address)
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate(SOURCES)
    view = ledger.view()
    assert values(view.spend) == {"fal-ai/flux/dev": 2**62 + 480_000_000, "shop": 2_500_000_016, "fal-ai/kling": 7}
    assert (view.charges, view.born_at) == (6, at(20, 12) + timedelta(minutes=30))
    assert ledger.counted_sources("prod") == ("models", "serverless")
    assert ledger.probes("prod") == ()
    assert ledger.key_owners() == ()
    assert ledger.cost_by_product("prod", NOVEMBER) == {
        "model_apis": 2**62 + 160_000_007,
        "serverless": 1_500_000_016,
    }


def test_telling_surge_apart_moves_no_counter_and_is_no_restatement(migrated: Ledger) -> None:
    before = migrated.view()
    apart = [
        Charge(at(20, 0), APP, Amounts(40 * NANO, 40 * NANO, 500_000_000, 100_000_000, 400_000_000)),
        Charge(
            at(20, 0), APP._replace(surge=SURGE), Amounts(10 * NANO, 10 * NANO, 125_000_000, 25_000_000, 100_000_000)
        ),
    ]
    change = migrated.restate("prod", "serverless", Window(at(20, 0), at(20, 1)), apart, at=at(20, 12))
    now = at(20, 12) + timedelta(minutes=30)
    # The month is shown once all of it is covered; what remains of it is read without a change.
    for source, stated in CHARGED.items():
        for hours in (Window(_FIRST_READ, at(20, 1 if source == "models" else 0)), Window(at(20, 1), at(20, 13))):
            its = [charge for charge in stated if charge.hour in hours]
            assert migrated.restate("prod", source, hours, its, at=now).is_empty
    after = migrated.view()
    assert values(after.month_to_date) == values(after.known_of_month)
    assert (change.added, change.changed, change.restated_up, change.restated_down) == (1, 1, 0, 0)
    assert values(after.spend) == values(before.spend)
    assert values(after.known_of_month) == values(before.known_of_month)
    assert values(after.surge_month_to_date) == {"shop": 100_000_000}
    assert values(after.gpu_time_surge_month_to_date) == {"shop": 10 * NANO}


def test_totals_of_the_days_are_made_of_the_charges(migrated: Ledger, address: str) -> None:
    reader = LedgerReader(address)
    with reader.snapshot() as snapshot:
        told = {
            found.group[0] or found.group[1]: found.amounts.cost for found in snapshot.usage(NOVEMBER, ["model", "app"])
        }
        days = {found.at: found.amounts.cost for found in snapshot.usage(NOVEMBER, [], "day")}
    assert told == values(migrated.view().known_of_month)
    assert days == {at(18, 0): 160_000_000, at(19, 0): 7, at(20, 0): 2**62 + 1_500_000_016}
    reader.close()


def test_what_was_folded_is_older_than_the_horizon(migrated: Ledger) -> None:
    first = {it.labels[2] or it.labels[3]: it.value for page in migrated.view().first_seen for it in page.samples}
    horizon = datetime(2026, 10, 1, tzinfo=UTC) - timedelta(hours=1)
    assert first == {
        "fal-ai/flux/dev": horizon.timestamp(),
        "shop": horizon.timestamp(),
        "fal-ai/kling": at(19, 5).timestamp(),
    }


def test_a_price_goes_on_with_its_changes(migrated: Ledger) -> None:
    assert values(migrated.view().discounts) == {"": 20 * NANO}
    seen = UnitPrice("prod", "model_apis", "fal-ai/flux/dev", "", "", "image", at(20, 12), 30_000_000, 20 * NANO)
    migrated.record_prices([seen])
    view = migrated.view()
    assert [it.value for page in view.previous_prices for it in page.samples] == [25_000_000]
    assert [it.value for page in view.price_changes for it in page.samples] == [at(20, 12).timestamp()]


def test_rows_still_refer_to_each_other(migrated: Ledger, address: str) -> None:
    migrated.close()
    engine = create_engine(address)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        referred = {key["referred_table"] for key in inspect(connection).get_foreign_keys("charge")}
        (unique,) = inspect(connection).get_unique_constraints("series")
        names = {column["name"] for column in inspect(connection).get_columns("observed_hour")}
    engine.dispose()
    assert referred == {"scope", "series"}
    assert "surge" in unique["column_names"]
    assert names == {"scope_id", "hour", "complete"}
