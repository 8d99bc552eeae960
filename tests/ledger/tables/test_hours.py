from collections.abc import Callable
from datetime import UTC, datetime

from exporter.charges import HOUR, Amounts, Charge, Dimensions, Window, hour_number
from exporter.ledger import Ledger
from exporter.ledger.tables.hours import TouchedHours

OpenLedger = Callable[..., Ledger]
TEN = datetime(2026, 11, 20, 10, tzinfo=UTC)
FLUX = Dimensions("prod", product="model_apis", model="fal-ai/flux/dev", unit="image")
WINDOW = Window(TEN - 2 * HOUR, TEN + HOUR)


def test_hours_are_told_by_series_and_those_without_a_charge_too(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.activate({"prod": ["models"]})
    before = ledger.revision
    ledger.restate("prod", "models", WINDOW, [Charge(TEN, FLUX, Amounts(cost=5))], at=TEN)
    hours = ledger.hourly(WINDOW)
    assert [{ledger.dimensions()[number]: cost for number, cost in its.items()} for its in hours.values()] == [
        *({}, {}),
        {FLUX: 5},
    ]
    assert ledger.touched_since(before) == (Window(TEN, TEN + HOUR),)
    assert ledger.touched_since(ledger.revision) == ()


def test_another_choice_of_sources_leaves_nothing_known(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.activate({"prod": ["models"]})
    before = ledger.revision
    ledger.activate({"prod": ["models", "serverless"]})
    assert ledger.touched_since(before) is None


def test_hours_that_follow_each_other_are_one_window_and_each_is_told_once() -> None:
    touched, ten = TouchedHours(since=3), hour_number(TEN)
    touched.note(4, [ten, ten + 1])
    touched.note(5, [ten + 1, ten + 5])
    assert touched.after(3) == (Window(TEN, TEN + 2 * HOUR), Window(TEN + 5 * HOUR, TEN + 6 * HOUR))
    assert touched.after(4) == (Window(TEN + HOUR, TEN + 2 * HOUR), Window(TEN + 5 * HOUR, TEN + 6 * HOUR))
    assert touched.after(2) is None


def test_what_was_touched_long_ago_is_forgotten_rather_than_kept_for_ever() -> None:
    touched, ten = TouchedHours(since=0), hour_number(TEN)
    for revision in range(1, 10_003):
        touched.note(revision, [ten])
    assert touched.after(1) is None
    assert touched.after(10_001) == (Window(TEN, TEN + HOUR),)
