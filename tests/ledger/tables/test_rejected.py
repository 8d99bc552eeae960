"""Rows that cannot be read take nothing back, are counted once, and keep their hours provisional."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from ledger.conftest import Clock

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, RejectedRow, Window
from exporter.ledger import NO_REJECTED_ROWS, Ledger, LedgerView, RejectedRows
from exporter.ledger.accounting.restatement import CellRow
from exporter.ledger.tables.rejected import guarded
from exporter.samples import Pages

OpenLedger = Callable[..., Ledger]
PAST = datetime(2026, 11, 20, 10, tzinfo=UTC)
BOTH = Window(PAST, PAST + 2 * HOUR)
FLUX = Dimensions("prod", product="model_apis", model="flux", unit="image")
KLING = FLUX._replace(model="kling")
NEVER_SEEN = FLUX._replace(model="new")

EPOCH_HOUR = int(PAST.timestamp()) // 3600


def cell(hour: int, series: int, cost: int, *, quantity: int = 0, gpu_seconds: int = 0, discount: int = 0) -> CellRow:
    return EPOCH_HOUR + hour, series, quantity, gpu_seconds, cost + discount, discount, cost


BEFORE = {cell(0, 1, 60), cell(0, 2, 40), cell(1, 1, 5)}


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (RejectedRow("wrong_type", PAST, FLUX), {cell(0, 1, 60)}),
        (RejectedRow("wrong_type", None, FLUX), {cell(0, 1, 60), cell(1, 1, 5)}),
        (RejectedRow("wrong_type", PAST), {cell(0, 1, 60), cell(0, 2, 40)}),
        (RejectedRow("bucket"), BEFORE),
        (RejectedRow("wrong_type", PAST, NEVER_SEEN), set()),
        (RejectedRow("quantity", PAST, is_counted=True), set()),
    ],
)
def test_a_rejected_row_guards_what_it_may_be_of(row: RejectedRow, kept: set[CellRow]) -> None:
    assert set(guarded(BEFORE, [], [row], {FLUX: 1, KLING: 2})) == kept


def test_a_guarded_cell_may_grow() -> None:
    stated = [cell(0, 1, 70), cell(0, 2, 30), cell(0, 3, 1)]
    assert set(guarded(BEFORE, stated, [RejectedRow("wrong_type", PAST)], {})) == {
        cell(0, 1, 70),
        cell(0, 2, 40),
        cell(0, 3, 1),
    }


def test_list_cost_discount_and_cost_are_kept_together() -> None:
    before = {cell(0, 1, 60, discount=10, quantity=3)}
    (kept,) = guarded(before, [cell(0, 1, 59, discount=30, quantity=9)], [RejectedRow("negative", PAST)], {})
    assert kept == cell(0, 1, 60, discount=10, quantity=9)


def test_a_row_that_is_counted_guards_quantities_alone() -> None:
    before = {cell(0, 1, 60, quantity=4, gpu_seconds=8)}
    row = RejectedRow("quantity", PAST, FLUX, is_counted=True)
    (kept,) = guarded(before, [cell(0, 1, 50)], [row], {FLUX: 1})
    assert kept == cell(0, 1, 50, quantity=4, gpu_seconds=8)


# --- In the ledger ----------------------------------------------------------------------------------------------------


def values(pages: Pages) -> dict[str, int | float]:
    return {sample.labels[3]: sample.value for page in pages for sample in page.samples}


def costs(amount: int) -> Amounts:
    return Amounts(NANO, 0, amount, 0, amount)


def state(
    ledger: Ledger,
    of: dict[Dimensions, int],
    rejected: Sequence[RejectedRow] = (),
    window: Window = BOTH,
    at: datetime = PAST + 2 * HOUR,
) -> RejectedRows:
    charges = [Charge(PAST, dimensions, costs(cost)) for dimensions, cost in of.items() if PAST in window]
    return ledger.restate("prod", "models", window, charges, at=at, rejected=rejected).rejected


def publish(ledger: Ledger) -> LedgerView:
    ledger.scraped(ledger.view().sequence)
    return ledger.view()


@pytest.fixture
def ledger(open_ledger: OpenLedger, clock: Callable[[], datetime]) -> Ledger:
    """A ledger that has counted $6 of one model and $4 of another in an hour of today, all of which is covered."""
    made = open_ledger(birth_hold=timedelta(0))
    made.activate({"prod": ["models"]})
    state(made, {}, window=Window(PAST.replace(hour=0), PAST.replace(hour=13)), at=clock())
    state(made, {FLUX: 6 * NANO, KLING: 4 * NANO})
    publish(made)
    return made


def test_rows_that_cannot_be_read_take_nothing_back_and_what_is_readable_grows(
    ledger: Ledger, open_ledger: OpenLedger
) -> None:
    for _ in range(2):
        found = state(ledger, {KLING: 5 * NANO}, [RejectedRow("wrong_type", PAST, FLUX, cost=7 * NANO)])
        assert found == RejectedRows({"wrong_type": 1}, 7 * NANO, PAST, PAST + HOUR), (
            "one row, however often it is read"
        )
        view = publish(ledger)
        assert values(view.today) == values(view.spend) == {"flux": 6 * NANO, "kling": 5 * NANO}
        assert set(values(view.pending).values()) == {0}
    ledger.close()
    again = open_ledger(birth_hold=timedelta(0))
    again.activate({"prod": ["models"]})
    assert again.rejected_rows("prod") == {"models": found}
    assert again.rejected_rows("other") == {}
    assert values(publish(again).today) == {"flux": 6 * NANO, "kling": 5 * NANO}
    assert state(again, {FLUX: 2 * NANO, KLING: 5 * NANO}) == NO_REJECTED_ROWS
    view = publish(again)
    assert values(view.today) == {"flux": 2 * NANO, "kling": 5 * NANO}
    assert values(view.pending) == {"flux": 4 * NANO, "kling": 0}


def test_rejected_rows_are_those_of_the_last_reading_of_each_hour(ledger: Ledger) -> None:
    first, second = Window(PAST, PAST + HOUR), Window(PAST + HOUR, PAST + 2 * HOUR)
    state(ledger, {}, [RejectedRow("negative", PAST, cost=1)] * 3 + [RejectedRow("unit", PAST, is_counted=True)], first)
    found = state(ledger, {}, [RejectedRow("negative", PAST + HOUR, cost=10)], second)
    assert found == RejectedRows({"negative": 4, "unit": 1}, 13, PAST, PAST + 2 * HOUR)
    found = state(ledger, {}, [], first)
    assert found == RejectedRows({"negative": 1}, 10, PAST + HOUR, PAST + 2 * HOUR)
    state(ledger, {}, [RejectedRow("negative", PAST - HOUR)])
    assert ledger.rejected_rows("prod") == {"models": NO_REJECTED_ROWS}, "of no hour that was read"


def test_a_row_of_an_unknown_hour_that_overlapping_answers_have_is_one_row(ledger: Ledger) -> None:
    unknown = RejectedRow("bucket", cost=3)
    state(ledger, {}, [unknown])
    found = state(ledger, {}, [unknown], Window(PAST + HOUR, PAST + 3 * HOUR), at=PAST + 3 * HOUR)
    assert found == RejectedRows({"bucket": 1}, 3, PAST + HOUR, PAST + 3 * HOUR)
    found = state(ledger, {}, [], BOTH)
    assert sum(found.by_reason.values()) == 1, "it may be of the hour that was not read again"
    assert state(ledger, {}, [], Window(PAST, PAST + 3 * HOUR), at=PAST + 3 * HOUR) == NO_REJECTED_ROWS


def test_a_row_of_an_unknown_hour_is_gone_once_every_hour_has_been_read_without_it_in_whatever_pieces(
    ledger: Ledger,
) -> None:
    def hours(first: int, end: int) -> Window:
        return Window(PAST + first * HOUR, PAST + end * HOUR)

    def read(first: int, end: int, *rejected: RejectedRow) -> RejectedRows:
        return state(ledger, {}, rejected, hours(first, end), at=PAST + 9 * HOUR)

    assert read(0, 6, RejectedRow("bucket", cost=3)) == RejectedRows({"bucket": 1}, 3, PAST, PAST + 6 * HOUR)
    assert read(4, 9) == RejectedRows({"bucket": 1}, 3, PAST, PAST + 4 * HOUR)
    known = RejectedRow("bucket", PAST + HOUR, cost=1)
    assert read(1, 2, known) == RejectedRows({"bucket": 2}, 4, PAST, PAST + 4 * HOUR), "or of the hours around"
    assert read(2, 4) == RejectedRows({"bucket": 2}, 4, PAST, PAST + 2 * HOUR)
    assert read(0, 1) == RejectedRows({"bucket": 2}, 4, PAST + HOUR, PAST + 2 * HOUR), "both of one hour"
    assert read(1, 2) == NO_REJECTED_ROWS


def test_hours_with_rejected_rows_do_not_settle_until_they_are_read_without(
    open_ledger: OpenLedger, clock: Clock
) -> None:
    clock.forward(hours=5)
    ledger = open_ledger(settle_delay=timedelta(hours=2))
    ledger.activate({"prod": ["models"]})
    row = RejectedRow("wrong_type", PAST + HOUR, FLUX)
    window = Window(PAST, PAST + 6 * HOUR)
    state(ledger, {}, [row], window, at=PAST + 6 * HOUR)
    assert ledger.scopes()[0].settled_through == PAST + HOUR
    assert ledger.scopes()[0].data_through == PAST + 6 * HOUR
    state(ledger, {}, [row], window, at=PAST + 7 * HOUR)
    assert ledger.scopes()[0].settled_through == PAST + HOUR
    state(ledger, {}, [], window, at=PAST + 7 * HOUR)
    assert ledger.scopes()[0].settled_through == PAST + 5 * HOUR
    state(ledger, {}, [row], window, at=PAST + 7 * HOUR)
    assert ledger.scopes()[0].settled_through == PAST + 5 * HOUR, "what has settled stays so"


def test_rejected_rows_go_with_their_hours_and_with_their_source(ledger: Ledger, clock: Callable[[], datetime]) -> None:
    old = datetime(2026, 9, 1, tzinfo=UTC)
    rows = [RejectedRow("wrong_type", old), RejectedRow("wrong_type", PAST)]
    for row in rows:
        state(ledger, {}, [row], Window(row.hour, row.hour + HOUR) if row.hour else BOTH)
    assert sum(ledger.rejected_rows("prod")["models"].by_reason.values()) == 2
    ledger.fold_before(clock() - timedelta(days=30))
    assert ledger.rejected_rows("prod") == {"models": RejectedRows({"wrong_type": 1}, 0, PAST, PAST + HOUR)}
    ledger.activate({"prod": ["organization"]})
    assert ledger.rejected_rows("prod") == {"organization": NO_REJECTED_ROWS}
    ledger.activate({"prod": ["models"]})
    assert ledger.rejected_rows("prod") == {"models": NO_REJECTED_ROWS}


def test_the_detail_of_a_source_is_kept_until_it_is_born_anew(ledger: Ledger, open_ledger: OpenLedger) -> None:
    assert ledger.scopes()[0].detail == ""
    ledger.record_detail("prod", "models", "full", at=PAST, version="1.2")
    ledger.close()
    again = open_ledger()
    again.activate({"prod": ["models"]})
    (scope,) = again.scopes()
    assert (scope.detail, scope.detail_asked_at, scope.detail_version) == ("full", PAST, "1.2")
    again.activate({"prod": ["organization"]})
    again.activate({"prod": ["models"]})
    assert again.scopes()[0].detail == ""
