"""A window's figures are there when its hours are, and not before."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Protocol
from zoneinfo import ZoneInfo

import pytest

from exporter.calendar import PERIODS, periods_at
from exporter.charges import HOUR, NANO, SURGE, Amounts, Charge, Dimensions, Window, hour_of
from exporter.ledger import Ledger, LedgerView, ScopeState
from exporter.ledger.accounting.coverage import PublishedPages, Scope, coverage, reached, settled, state_of
from exporter.samples import Pages, Sample, paged


class Clock(Protocol):
    now: datetime

    def forward(self, **by: float) -> datetime: ...


OpenLedger = Callable[..., Ledger]
Table = Callable[[LedgerView], Pages]

GRACE = timedelta(minutes=20)
UTC_ZONE = ZoneInfo("UTC")
APP = Dimensions("main", product="serverless", app="shop", gpu_class="H100", unit="second", surge=SURGE)

TABLES: dict[str, tuple[str, Table]] = {
    "fal_spend_current_hour_usd": ("current_hour", lambda view: view.current_hour),
    "fal_spend_last_hour_usd": ("last_hour", lambda view: view.last_hour),
    "fal_gpu_time_last_hour_seconds": ("last_hour", lambda view: view.gpu_time_last_hour),
    "fal_spend_today_usd": ("today", lambda view: view.today),
    "fal_spend_last_day_usd": ("last_day", lambda view: view.last_day),
    "fal_discount_last_day_usd": ("last_day", lambda view: view.discount_last_day),
    "fal_usage_quantity_last_day": ("last_day", lambda view: view.quantity_last_day),
    "fal_spend_month_to_date_usd": ("month", lambda view: view.month_to_date),
    "fal_gpu_time_month_to_date_seconds": ("month", lambda view: view.gpu_time_month_to_date),
    "fal_spend_surge_month_to_date_usd": ("month", lambda view: view.surge_month_to_date),
    "fal_gpu_time_surge_month_to_date_seconds": ("month", lambda view: view.gpu_time_surge_month_to_date),
    "fal_spend_last_month_usd": ("last_month", lambda view: view.last_month),
}
"""The tables of windows by the names of their families, and their periods."""


def charge(hour: datetime, account: str = "main") -> Charge:
    return Charge(hour, APP._replace(account=account), Amounts(NANO, NANO, 3, 1, 2))


def read(ledger: Ledger, clock: Clock, window: Window, account: str = "main", source: str = "models") -> None:
    """Poll a window in which every hour was charged $0.000000002."""
    ledger.restate(account, source, window, [charge(hour, account) for hour in window.hours()], at=clock.now)


def recent(clock: Clock, hours: int = 1) -> Window:
    return Window(hour_of(clock.now) - hours * HOUR, hour_of(clock.now) + HOUR)


def both_months(clock: Clock) -> Window:
    return Window(periods_at(clock.now, UTC_ZONE).last_month.start, hour_of(clock.now) + HOUR)


def present(view: LedgerView, account: str = "main") -> set[str]:
    """Return the families that have samples of an account."""
    return {
        name
        for name, (_, table) in TABLES.items()
        if any(sample.labels[0] == account for page in table(view) for sample in page.samples)
    }


def whole(view: LedgerView, account: str = "main") -> set[str]:
    return {period for period, known in view.coverage[account].items() if known.is_whole}


def families(*periods: str) -> set[str]:
    return {name for name, (period, _) in TABLES.items() if period in periods}


@pytest.fixture
def ledger(open_sqlite: OpenLedger) -> Ledger:
    ledger = open_sqlite(poll_grace=GRACE)
    ledger.activate({"main": ("models",)})
    return ledger


def test_before_anything_is_read_no_window_is_there_and_all_have_a_ratio(ledger: Ledger) -> None:
    view = ledger.view()
    assert present(view) == set()
    assert {period: known.ratio for period, known in view.coverage["main"].items()} == dict.fromkeys(PERIODS, 0.0)


def test_every_family_of_a_window_appears_with_the_last_of_its_hours(ledger: Ledger, clock: Clock) -> None:
    """History is loaded newest first, a day at a time, and no family shows a part of its window on the way."""
    periods = periods_at(clock.now, UTC_ZONE)
    read(ledger, clock, recent(clock))
    loaded = recent(clock).start
    seen: dict[str, datetime] = {}
    while True:
        view = ledger.view()
        expected = {name for name, window in periods.windows().items() if window.start >= loaded}
        assert whole(view) == expected
        assert present(view) == families(*expected)
        for name, window in periods.windows().items():
            over = (hour_of(clock.now) - window.start) // HOUR if window.end > clock.now else len(window)
            covered = (min(window.end, hour_of(clock.now)) - max(window.start, loaded)) // HOUR
            assert view.coverage["main"][name].ratio == (max(covered, 0) / over if over else 1)
        for name in present(view):
            seen.setdefault(name, loaded)
        if loaded <= periods.last_month.start:
            break
        start = max(loaded - 24 * HOUR, periods.last_month.start)
        read(ledger, clock, Window(start, loaded))
        loaded = start
    assert set(seen) == set(TABLES)
    assert [value for page in view.last_month for _, value, _ in page.samples] == [2 * 31 * 24]


def test_a_day_of_usual_polls_has_every_gauge_at_every_minute(ledger: Ledger, clock: Clock) -> None:
    """Polls every five minutes, give or take 15 seconds; now and then two in a row fail. The month turns meanwhile."""
    clock.now = datetime(2026, 11, 30, 0, 2, tzinfo=UTC)
    read(ledger, clock, both_months(clock))
    polls, scrape = Random(5), clock.now  # noqa: S311  no secret
    due, failures = clock.now + timedelta(minutes=5), 0
    turns = 0
    while scrape < datetime(2026, 12, 1, 3, tzinfo=UTC):
        scrape += timedelta(minutes=1)
        while due <= scrape:
            clock.now = due
            failures = 0 if failures == 2 or polls.random() < 0.7 else failures + 1
            if not failures:
                (scope,) = ledger.scopes()
                assert scope.data_through is not None
                start = min(hour_of(due) - HOUR, scope.data_through)
                read(ledger, clock, Window(start, hour_of(due) + HOUR))
            due += timedelta(minutes=5, seconds=polls.uniform(-15, 15))
        clock.now = scrape
        view = ledger.view()
        assert whole(view) == set(PERIODS), scrape
        turns += view.scopes[0].data_through != hour_of(scrape)
        if scrape.minute > 20:
            assert present(view) == set(TABLES), scrape
    assert turns > 24, "scrapes between the turn of an hour and the next poll"


def test_the_hour_that_has_just_ended_counts_by_the_poll_that_read_it_while_it_ran_for_the_grace(
    ledger: Ledger, clock: Clock
) -> None:
    clock.now = datetime(2026, 11, 20, 12, 57, tzinfo=UTC)
    read(ledger, clock, both_months(clock))
    clock.forward(minutes=20)
    assert whole(ledger.view()) == set(PERIODS)
    clock.forward(seconds=1)
    view = ledger.view()
    assert whole(view) == {"last_month"}
    assert present(view) == families("last_month")
    assert view.coverage["main"]["today"].ratio == 12 / 13
    assert view.coverage["main"]["last_hour"].ratio == view.coverage["main"]["current_hour"].ratio == 0
    read(ledger, clock, recent(clock))
    assert whole(ledger.view()) == set(PERIODS)


def test_an_hour_that_no_poll_has_read_is_never_covered_by_the_grace(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2026, 11, 20, 12, 57, tzinfo=UTC)
    read(ledger, clock, both_months(clock))
    # The second hour of an outage is over, within a grace that would be long enough.
    known = coverage(
        ["main"],
        ledger.scopes(),
        periods_at(clock.now + timedelta(minutes=64), UTC_ZONE),
        now=clock.now + timedelta(minutes=64),
        grace=timedelta(hours=3),
    )["main"]
    assert (known["today"].covered, known["today"].hours) == (13, 14)
    assert known["last_hour"].ratio == 0


def test_an_hour_of_a_gap_is_not_covered_by_a_read_of_the_running_hour_behind_it(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2026, 11, 20, 10, 5, tzinfo=UTC)
    read(ledger, clock, both_months(clock))
    clock.now = datetime(2026, 11, 20, 12, 57, tzinfo=UTC)
    read(ledger, clock, recent(clock, 0))
    known = ledger.view().coverage["main"]["today"]
    assert (known.covered, known.hours) == (10, 12)
    assert known.known_until == datetime(2026, 11, 20, 10, tzinfo=UTC)


def test_history_that_is_read_anew_does_not_stand_for_the_running_hour(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2026, 11, 20, 12, 57, tzinfo=UTC)
    read(ledger, clock, both_months(clock))
    clock.forward(minutes=30)
    read(ledger, clock, Window(hour_of(clock.now) - 48 * HOUR, hour_of(clock.now) - 24 * HOUR))
    assert whole(ledger.view()) == {"last_month"}


def test_when_the_running_hour_was_read_is_known_after_a_restart(open_sqlite: OpenLedger, clock: Clock) -> None:
    clock.now = datetime(2026, 11, 20, 12, 57, tzinfo=UTC)
    ledger = open_sqlite(poll_grace=GRACE)
    ledger.activate({"main": ("models",)})
    read(ledger, clock, both_months(clock))
    ledger.close()
    clock.forward(minutes=5)
    again = open_sqlite(poll_grace=GRACE)
    again.activate({"main": ("models",)})
    assert whole(again.view()) == set(PERIODS)


def test_a_day_begins_with_a_sum_of_nothing_only_while_polls_succeed(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2026, 11, 20, 23, 45, tzinfo=UTC)
    read(ledger, clock, both_months(clock))
    clock.now = datetime(2026, 11, 21, 0, 4, tzinfo=UTC)
    known = ledger.view().coverage["main"]["today"]
    assert (known.hours, known.is_whole, known.ratio) == (0, True, 1)
    clock.now = datetime(2026, 11, 21, 0, 6, tzinfo=UTC)
    known = ledger.view().coverage["main"]["today"]
    assert (known.hours, known.is_whole, known.ratio) == (0, False, 0)


def test_every_active_source_must_have_read_the_hours(open_sqlite: OpenLedger, clock: Clock) -> None:
    ledger = open_sqlite(poll_grace=GRACE)
    ledger.activate({"main": ("models", "serverless"), "other": ("models",)})
    read(ledger, clock, both_months(clock))
    read(ledger, clock, both_months(clock), account="other")
    view = ledger.view()
    assert (present(view), present(view, "other")) == (set(), set(TABLES))
    assert view.coverage["main"]["month"].known_from is None
    assert view.totals["main"].month_to_date is None
    read(ledger, clock, recent(clock, 13), source="serverless")
    view = ledger.view()
    assert whole(view) == {"current_hour", "last_hour", "today"}
    assert present(view) == families("current_hour", "last_hour", "today")
    assert view.totals["main"].today == 2 * view.totals["other"].today if view.totals["other"].today else False
    # A source that is no longer configured keeps no figure waiting.
    ledger.activate({"main": ("models",), "other": ("models",)})
    assert whole(ledger.view()) == set(PERIODS)


def test_an_account_without_a_source_has_a_ratio_of_0(open_sqlite: OpenLedger) -> None:
    ledger = open_sqlite()
    ledger.activate({"main": ()})
    view = ledger.view()
    assert {known.ratio for known in view.coverage["main"].values()} == {0}
    assert view.totals["main"].today is None


def test_the_last_24_hours_are_known_in_a_ledger_that_has_just_begun(ledger: Ledger, clock: Clock) -> None:
    read(ledger, clock, recent(clock, 40))
    view = ledger.view()
    assert [value for page in view.spend for _, value, _ in page.samples] == [0], "all of it is history"
    assert [value for page in view.last_day for _, value, _ in page.samples] == [24 * 2]
    assert [value for page in view.discount_last_day for _, value, _ in page.samples] == [24]
    (sample,) = [sample for page in view.quantity_last_day for sample in page.samples]
    assert (sample.labels[-1], sample.value) == ("second", 24 * NANO)
    clock.forward(hours=1)
    read(ledger, clock, Window(hour_of(clock.now) - HOUR, hour_of(clock.now)))
    ledger.restate("main", "models", Window(hour_of(clock.now), hour_of(clock.now) + HOUR), [], at=clock.now)
    (sample,) = [sample for page in ledger.view().quantity_last_day for sample in page.samples]
    assert sample.value == 23 * NANO


def test_pages_stay_the_same_objects_while_nothing_on_them_changes() -> None:
    pages = paged(Sample((account, str(number)), number) for number in range(300) for account in ("a", "b"))
    published = PublishedPages(account_at=0)
    assert published.pages(pages, frozenset()) is pages
    first = published.pages(pages, frozenset({"b"}))
    assert [sample.labels[0] for page in first for sample in page.samples] == ["a"] * 300
    again = published.pages((*pages[:-1], *paged([Sample(("a", "new"), 1), Sample(("b", "new"), 1)])), frozenset({"b"}))
    assert all(old is new for old, new in zip(first[:-1], again[:-1], strict=True))
    assert again[-1].samples == (Sample(("a", "new"), 1),)
    other = published.pages(pages, frozenset({"a"}))
    assert {sample.labels[0] for page in other for sample in page.samples} == {"b"}
    assert published.pages(pages, frozenset({"a", "b"})) == ()


def test_the_least_of_the_sources_counts() -> None:
    hour = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def scope(source: str, since: int, until: int) -> ScopeState:
        return ScopeState(
            "main",
            source,
            hour,
            hour - until * HOUR,
            None,
            hour - since * HOUR,
            hour,
            0,
            0,
            0,
            running_hour_read_at=None,
        )

    known = coverage(
        ["main"],
        [scope("models", 10, 2), scope("serverless", 8, 0), scope("compute", 40, 5)],
        periods_at(hour, UTC_ZONE),
        now=hour,
        grace=GRACE,
    )["main"]["today"]
    assert (known.hours, known.covered) == (12, 3)
    assert (known.known_from, known.known_until) == (hour - 8 * HOUR, hour - 5 * HOUR)


DAY = datetime(2026, 11, 20, tzinfo=UTC)
DELAY = timedelta(hours=48)
NEW = Scope("main", "models", DAY, None, None, None, None, 0, 0, 0, id=1, active=True, counts_from=DAY)


def hours(start: int, end: int) -> Window:
    return Window(DAY + start * HOUR, DAY + end * HOUR)


def at(hour: float) -> datetime:
    return DAY + hour * HOUR


def test_data_reach_to_the_last_complete_hour_of_the_poll() -> None:
    scope = reached(NEW, hours(0, 13), at(12.5))
    assert (scope.history_from, scope.data_through, scope.last_success_at) == (at(0), at(12), at(12.5))


def test_a_poll_of_the_running_hour_alone_covers_nothing_yet() -> None:
    assert reached(NEW, hours(12, 13), at(12.5)).data_through == at(12)


@pytest.mark.parametrize(
    ("window", "history_from", "data_through"),
    [
        (hours(10, 14), 0, 13),
        (hours(12, 14), 0, 13),
        (hours(-24, 0), -24, 12),
        (hours(3, 5), 0, 12),
    ],
)
def test_a_window_that_touches_what_is_covered_moves_its_ends(
    window: Window, history_from: int, data_through: int
) -> None:
    scope = reached(reached(NEW, hours(0, 13), at(12.5)), window, at(13.5))
    assert (scope.history_from, scope.data_through) == (at(history_from), at(data_through))


@pytest.mark.parametrize("window", [hours(14, 16), hours(-24, -2)])
def test_a_window_beyond_a_gap_does_not(window: Window) -> None:
    before = reached(NEW, hours(0, 13), at(12.5))
    after = reached(before, window, at(15.5))
    assert (after.history_from, after.data_through) == (before.history_from, before.data_through)
    assert after.last_success_at == at(15.5)


def test_a_poll_that_began_earlier_moves_no_stamp_back() -> None:
    before = reached(NEW, hours(0, 13), at(12.5))
    assert reached(before, hours(0, 13), at(11.5)) == before


def test_hours_that_had_not_ended_when_the_poll_began_join_nothing() -> None:
    before = reached(NEW, hours(12, 13), at(12.5))
    assert reached(before, hours(8, 13), at(10.5)).history_from == at(12)


def polled(window: Window, when: float) -> Scope:
    return settled(reached(NEW, window, at(when)), window, at(when), DELAY)


def test_an_hour_is_settled_when_a_poll_after_the_settle_delay_has_covered_what_followed_it() -> None:
    assert polled(hours(-96, 13), 12.5).settled_through == at(12) - DELAY


def test_a_poll_of_the_last_hours_alone_settles_nothing() -> None:
    assert polled(hours(10, 13), 12.5).settled_through is None
    before = polled(hours(-96, 13), 12.5)
    assert settled(reached(before, hours(10, 40), at(39.5)), hours(10, 40), at(39.5), DELAY).settled_through == at(-36)


def test_the_settled_hours_never_reach_beyond_the_covered_ones() -> None:
    assert polled(hours(-96, -70), 12.5).settled_through == at(-70)


def test_a_scope_shows_its_stamps() -> None:
    state = state_of(polled(hours(-96, 13), 12.5))
    assert (state.account, state.source, state.born_at) == ("main", "models", DAY)
    assert (state.history_from, state.data_through, state.settled_through) == (at(-96), at(12), at(-36))
