import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from polling.conftest import until
from prometheus_client import CollectorRegistry
from published_health import value_of
from structlog.typing import EventDict

from exporter.charges import HOUR, Window, hour_of, uptime
from exporter.errors import LedgerError
from exporter.metrics.health import Health
from exporter.polling import scheduler as scheduler_module
from exporter.polling.scheduler import (
    JOBS,
    PIECE_HOURS,
    Intervals,
    Reach,
    Run,
    Scheduler,
    current_window,
    history_pieces,
    history_start,
    month_start,
    months_window,
    trailing_window,
)

SHORT = timedelta(milliseconds=20)


class Clocks:
    """The system's clock, which can be set, and the one that cannot."""

    def __init__(self, system: time_machine.Traveller) -> None:
        self._system = system
        self.seconds = 5000.0

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def forward(self, **by: float) -> None:
        self.set(**by)
        self.seconds += timedelta(**by).total_seconds()

    def set(self, **by: float) -> None:
        self._system.shift(timedelta(**by))


class Times:
    """A scheduler with the count of missed runs."""

    def __init__(self, clocks: Clocks | None = None) -> None:
        self.health = Health(CollectorRegistry(), jobs=JOBS)
        short = SHORT if clocks is None else timedelta(minutes=5)
        self.scheduler = Scheduler(
            intervals=Intervals(short, short, timedelta(hours=1), timedelta(hours=1)),
            health=self.health,
            monotonic=uptime if clocks is None else lambda: clocks.seconds,
        )

    def missed(self, job: str) -> float | None:
        return value_of(self.health, "fal_exporter_missed_runs_total", {"job": job})

    @property
    def steps(self) -> float | None:
        return value_of(self.health, "fal_exporter_clock_steps_total", {})


@pytest.fixture
async def times() -> AsyncIterator[Times]:
    made = Times()
    yield made
    await made.scheduler.stop()


class ByHand(Times):
    """A scheduler whose clocks are moved by hand, and which notes its runs."""

    def __init__(self, system: time_machine.Traveller) -> None:
        self.clocks = Clocks(system)
        super().__init__(self.clocks)
        # Its timers wait for real seconds, in which nothing happens here.
        self.scheduler._scheduler.start()
        self.ran: list[str] = []

    def every_while(self, job: str) -> None:
        self.scheduler.every_while(job, "main", self._run(job))

    def by_calendar(self, job: str) -> None:
        self.scheduler.by_calendar(job, "main", self._run(job))

    def _run(self, job: str) -> Run:
        async def run() -> None:
            self.ran.append(job)

        return run

    async def look(self) -> list[str]:
        """Look at the clocks, and return what has run because of it."""
        self.ran.clear()
        await self.look_on()
        await asyncio.gather(*self.scheduler._runs)
        return sorted(self.ran)

    async def look_on(self) -> None:
        """Look at the clocks, and do not wait for what has begun because of it."""
        self.scheduler.look()
        for _ in range(6):
            # The loop passes on what is due to the executor, and that to the loop.
            await asyncio.sleep(0)


@pytest.fixture
async def by_hand() -> AsyncIterator[ByHand]:
    with time_machine.travel(datetime(2026, 11, 20, 12, 30, tzinfo=UTC), tick=False) as system:
        made = ByHand(system)
        yield made
        await made.scheduler.stop()


async def test_an_interval_job_runs_at_once_and_again(times: Times) -> None:
    runs: list[None] = []

    async def run() -> None:
        runs.append(None)

    times.scheduler.every_while("current", "main", run)
    times.scheduler.every_while("invoices", "main", run)
    times.scheduler.start()
    await until(lambda: len(runs) >= 4)


async def test_a_job_that_runs_whenever_it_is_due_misses_nothing(by_hand: ByHand, logs: list[EventDict]) -> None:
    by_hand.every_while("current")
    for _ in range(4):
        assert await by_hand.look() == ["current"]
        by_hand.clocks.forward(minutes=5, seconds=30)
    assert by_hand.missed("current") == 0
    assert not logs


async def test_a_run_that_is_wanted_while_one_is_under_way_takes_place_when_that_has_ended(times: Times) -> None:
    may_end = asyncio.Event()
    began, ended = 0, 0

    async def run() -> None:
        nonlocal began, ended
        began += 1
        await may_end.wait()
        ended += 1

    times.scheduler.every_while("invoices", "main", run)
    times.scheduler.start()
    await until(lambda: began == 1)
    times.scheduler.run_now("invoices", "main")
    times.scheduler.run_now("invoices", "main")
    may_end.set()
    await until(lambda: ended == 2)
    assert (began, times.missed("invoices")) == (2, 0)
    times.scheduler.run_now("invoices", "main")
    await until(lambda: ended == 3)


def test_every_account_has_its_own_place_in_an_interval_and_keeps_it() -> None:
    span, start = timedelta(minutes=1), datetime(2026, 11, 20, 12, tzinfo=UTC)
    triggers = [scheduler_module._Evenly(span, start + span * place / 200) for place in range(200)]
    runs = [start] * 200
    for turn in range(1, 100):
        runs = [trigger.get_next_fire_time(at, at) for trigger, at in zip(triggers, runs, strict=True)]
        if turn > 1:
            # Nobody drifts: a run is at its place in the minute, or up to a twentieth later.
            late = [(at - start - span * place / 200) % span for place, at in enumerate(runs)]
            assert max(late) <= span / 20
    gaps = Counter((at - start) % span // (span / 20) for at in runs)
    assert max(gaps.values()) <= 25, "a twentieth of the time sees about a twentieth of the accounts"


@pytest.mark.parametrize("job", ["recent", "machines", "deep", "months"])
async def test_jobs_of_the_calendar_are_spread_over_many_accounts(times: Times, job: str) -> None:
    names = [f"account-{number}" for number in range(200)]
    times.scheduler.spread(names)

    async def run() -> None:
        raise AssertionError("nothing is due yet")

    for name in names:
        times.scheduler.by_calendar(job, name, run)
    triggers = [times.scheduler._scheduler.get_job(f"{job}:{name}").trigger for name in names]
    at = datetime(2026, 11, 20, tzinfo=UTC)
    due = [trigger.get_next_fire_time(None, at) for trigger in triggers]
    by_minute = Counter(instant.replace(second=0) for instant in due)
    assert max(by_minute.values()) < 20
    assert max(due) - min(due) < timedelta(hours=1, minutes=30)
    if job in {"recent", "machines"}:
        assert all(instant.minute for instant in due), "not on the hour, when everybody asks"


async def test_a_job_that_is_dropped_runs_no_more_though_it_was_wanted(times: Times) -> None:
    may_end, ended = asyncio.Event(), asyncio.Event()
    runs: list[None] = []

    async def run() -> None:
        runs.append(None)
        await may_end.wait()
        times.scheduler.drop("history", "main")
        ended.set()

    times.scheduler.every_while("history", "main", run)
    times.scheduler.start()
    await until(lambda: bool(runs))
    times.scheduler.run_now("history", "main")
    may_end.set()
    await ended.wait()
    assert len(runs) == 1


async def test_runs_that_are_due_while_one_is_under_way_are_skipped_counted_and_warned_of_once(
    times: Times, logs: list[EventDict]
) -> None:
    may_end = asyncio.Event()
    under_way = 0

    async def run() -> None:
        nonlocal under_way
        under_way += 1
        await may_end.wait()

    times.scheduler.every_while("balance", "main", run)
    times.scheduler.start()
    await until(lambda: (times.missed("balance") or 0) >= 2)
    assert under_way == 1
    assert [entry["job"] for entry in logs if "longer than its interval" in str(entry["event"])] == ["balance:main"]
    may_end.set()
    await until(lambda: under_way >= 2)


async def test_a_history_that_takes_long_misses_nothing_and_warns_of_nothing(
    by_hand: ByHand, logs: list[EventDict]
) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    async def other() -> None:
        await asyncio.Event().wait()

    by_hand.scheduler.every_while("history", "main", run)
    by_hand.scheduler.every_while("current", "main", other)
    for _ in range(3):
        await by_hand.look_on()
        by_hand.clocks.forward(minutes=5, seconds=30)
    assert runs == 1
    assert (by_hand.missed("current"), by_hand.missed("history")) == (2, 0)
    assert {entry.get("job") for entry in logs} == {"current:main"}


async def test_a_job_that_is_overdue_by_two_intervals_is_run_counted_and_warned_of(
    by_hand: ByHand, logs: list[EventDict]
) -> None:
    by_hand.every_while("invoices")
    assert await by_hand.look() == ["invoices"]
    by_hand.clocks.forward(hours=1, minutes=50)  # as if the machine had slept
    assert await by_hand.look() == ["invoices"]
    assert by_hand.missed("invoices") == 0
    assert not logs
    by_hand.clocks.forward(hours=3, minutes=10)
    assert await by_hand.look() == ["invoices"]
    assert by_hand.missed("invoices") == 2
    assert [entry["job"] for entry in logs if "start in time" in str(entry["event"])] == ["invoices:main"]
    assert await by_hand.look() == []
    assert by_hand.steps == 0


@pytest.mark.parametrize("hours", [3, -3])
async def test_polling_goes_on_when_the_clock_is_set(by_hand: ByHand, logs: list[EventDict], hours: int) -> None:
    by_hand.every_while("current")
    by_hand.every_while("prices")
    assert await by_hand.look() == ["current", "prices"]
    by_hand.clocks.set(hours=hours)
    assert await by_hand.look() == ["current", "prices"], "what is stamped wrong is put right at once"
    (told,) = logs
    assert told["event"].startswith("the system clock has been set")
    assert told["seconds"] == hours * 3600
    assert by_hand.steps == 1
    for _ in range(3):
        by_hand.clocks.forward(minutes=5, seconds=30)
        assert await by_hand.look() == ["current"]
    by_hand.clocks.set(hours=-hours)
    await by_hand.look()
    by_hand.clocks.forward(minutes=5, seconds=30)
    assert await by_hand.look() == ["current"]
    assert (by_hand.steps, by_hand.missed("current")) == (2, 0)


@pytest.mark.parametrize("hours", [3, -3])
async def test_a_job_that_puts_nothing_right_keeps_its_distance_when_the_clock_is_set(
    by_hand: ByHand, hours: int
) -> None:
    by_hand.every_while("probe")
    by_hand.clocks.forward(seconds=5)
    assert await by_hand.look() == ["probe"]
    by_hand.clocks.set(hours=hours)
    assert await by_hand.look() == []
    by_hand.clocks.forward(minutes=50)
    assert await by_hand.look() == []
    by_hand.clocks.forward(minutes=15)
    assert await by_hand.look() == ["probe"]
    assert by_hand.missed("probe") == 0


async def test_a_clock_that_is_adjusted_a_little_all_the_time_is_not_set(by_hand: ByHand) -> None:
    for _ in range(10):
        by_hand.clocks.forward(seconds=5)
        by_hand.clocks.set(seconds=4)
        await by_hand.look()
    assert by_hand.steps == 0


async def test_the_clocks_are_looked_at_every_few_seconds_whatever_is_planned(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scheduler_module._LOOK_SECONDS == 5
    monkeypatch.setattr(scheduler_module, "_LOOK_SECONDS", 0.01)
    by_hand.by_calendar("deep")
    watching = asyncio.create_task(by_hand.scheduler._watch())
    by_hand.clocks.set(hours=3)
    await until(lambda: by_hand.steps == 1)
    watching.cancel()


async def test_jobs_of_the_calendar_follow_a_clock_that_is_set(by_hand: ByHand) -> None:
    by_hand.by_calendar("deep")
    by_hand.clocks.forward(minutes=11)
    assert await by_hand.look() == ["deep"]
    by_hand.clocks.set(hours=13, minutes=10)  # to 01:51
    assert await by_hand.look() == []
    by_hand.clocks.forward(minutes=40)
    assert await by_hand.look() == ["deep"]
    by_hand.clocks.set(hours=24)
    assert await by_hand.look() == ["deep"], "its time has been passed over"
    by_hand.clocks.set(days=-30)
    await by_hand.look()
    by_hand.clocks.forward(hours=24, minutes=30)
    assert await by_hand.look() == ["deep"], "it does not wait for a month"


async def test_times_of_the_calendar_are_kept_a_day_through(by_hand: ByHand) -> None:
    for job in ("recent", "deep", "months", "retention"):
        by_hand.by_calendar(job)
    ran: list[tuple[str, datetime]] = []
    for _ in range(36 * 60):
        by_hand.clocks.forward(minutes=1)
        ran += [(job, by_hand.clocks.now) for job in await by_hand.look()]
    day = datetime(2026, 11, 21, tzinfo=UTC)
    of_the_day = [(job, at) for job, at in ran if day <= at < day + timedelta(days=1)]
    assert [job for job, _ in of_the_day if job != "recent"] == ["deep", "months", "retention"]
    assert [at.hour for job, at in of_the_day if job == "recent"] == list(range(24))
    assert all(4 <= at.minute <= 9 for job, at in of_the_day if job == "recent")


async def test_a_job_that_fails_runs_again_and_is_logged_once_a_cause_without_a_traceback(
    times: Times, logs: list[EventDict], caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs <= 3:
            raise LedgerError("the disk is full")
        if runs <= 6:
            raise ZeroDivisionError("secret")

    times.scheduler.every_while("current", "main", run)
    times.scheduler.start()
    await until(lambda: runs >= 8)
    # On a busy machine a job may be late, which is another warning.
    problems = [str(entry["problem"]) for entry in logs if entry["log_level"] == "warning" and "problem" in entry]
    assert problems[0] == "the disk is full"
    assert "ZeroDivisionError" in problems[1]
    assert "secret" not in problems[1]
    assert len(problems) == 2
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_dropped_job_runs_no_more_and_one_out_of_turn_runs_at_once(times: Times) -> None:
    ran: list[str] = []

    async def history() -> None:
        ran.append("history")
        times.scheduler.drop("history", "main")

    async def invoices() -> None:
        ran.append("invoices")

    times.scheduler.every_while("history", "main", history)
    times.scheduler.every_while("invoices", "main", invoices)
    times.scheduler.start()
    await until(lambda: sorted(ran) == ["history", "invoices"])
    times.scheduler.run_now("invoices", "main")
    await until(lambda: ran.count("invoices") == 2)
    assert ran.count("history") == 1


async def test_jobs_of_the_calendar_also_run_a_while_after_the_start(by_hand: ByHand) -> None:
    jobs = ["recent", "deep", "months", "retention"]
    for job in jobs:
        by_hand.by_calendar(job)
    ran: list[str] = []
    for _ in range(33):
        ran += await by_hand.look()
        by_hand.clocks.forward(minutes=1)
    assert ran == jobs


async def test_stopping_ends_the_run_under_way_quietly(
    times: Times, caplog: pytest.LogCaptureFixture, logs: list[EventDict]
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    times.scheduler.every_while("invoices", "main", run)
    times.scheduler.start()
    await begun.wait()
    await times.scheduler.stop()
    assert ended.is_set()
    assert not [record for record in caplog.records if record.exc_info]
    assert not logs


async def test_stopping_a_run_that_is_about_to_go_on_is_quiet(times: Times, caplog: pytest.LogCaptureFixture) -> None:
    begun, answered = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        begun.set()
        await answered.wait()
        await asyncio.Event().wait()

    times.scheduler.every_while("current", "main", run)
    times.scheduler.start()
    await begun.wait()
    answered.set()
    # The run's next step is now due before anything that stopping has the loop do.
    await times.scheduler.stop()
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("turns", range(6))
async def test_stopping_in_any_turn_of_a_run_that_is_due_is_quiet(
    times: Times, caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    async def run() -> None:
        await asyncio.Event().wait()

    for job in ("invoices", "names", "prices"):
        times.scheduler.every_while(job, "main", run)
    times.scheduler.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    await times.scheduler.stop()
    assert not caplog.records
    assert not times.scheduler._scheduler.running


async def test_stopping_as_a_run_out_of_turn_is_wanted_is_quiet(times: Times, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[None] = []

    async def run() -> None:
        ended.append(None)

    times.scheduler.every_while("names", "main", run)
    times.scheduler.start()
    await until(lambda: bool(ended))
    times.scheduler.run_now("names", "main")
    await times.scheduler.stop()
    assert not caplog.records


instants = st.datetimes(datetime(2023, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
spans = st.timedeltas(timedelta(hours=1), timedelta(days=90))
zones = st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"]).map(
    ZoneInfo
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(now=instants, behind=st.none() | st.timedeltas(timedelta(0), timedelta(days=100)))
def test_the_current_window_leaves_no_gap_behind_what_is_known(now: datetime, behind: timedelta | None) -> None:
    data_through = None if behind is None else hour_of(now - behind)
    window = current_window(now, data_through)
    assert hour_of(now) in window
    assert hour_of(now) - HOUR in window
    assert window.end == hour_of(now) + HOUR
    if data_through is not None:
        assert window.start <= data_through


@given(now=instants)
def test_the_current_window_is_two_hours_while_nothing_is_missing(now: datetime) -> None:
    assert len(current_window(now, hour_of(now))) == 2
    # A clock that was set back is no reason to poll the future or nothing.
    assert len(current_window(now, hour_of(now) + 5 * HOUR)) == 2


@given(now=instants, span=spans)
def test_a_trailing_window_holds_the_running_hour_and_the_whole_span(now: datetime, span: timedelta) -> None:
    window = trailing_window(now, span)
    assert window.end == hour_of(now) + HOUR
    assert window.start <= hour_of(now) - span < window.start + HOUR


@given(now=instants, missing=st.integers(0, 24 * 95), pieces=st.integers(0, 3))
def test_history_pieces_have_no_gap_and_no_overlap_and_come_newest_first(
    now: datetime, missing: int, pieces: int
) -> None:
    loaded_from = hour_of(now)
    start = loaded_from - missing * HOUR - pieces * PIECE_HOURS * HOUR
    edge = loaded_from
    for piece in history_pieces(start, loaded_from):
        assert piece.end == edge
        assert len(piece) <= PIECE_HOURS
        edge = piece.start
    assert edge == start


def test_nothing_is_left_to_load_once_the_history_reaches_further_back_than_configured() -> None:
    assert not list(history_pieces(at("2026-11-02"), at("2026-11-01")))


@given(now=instants, zone=zones)
def test_the_months_window_holds_both_months_of_the_zone_and_of_utc(now: datetime, zone: ZoneInfo) -> None:
    window = months_window(now, zone)
    for calendar in (zone, ZoneInfo("UTC")):
        this_month = month_start(now, calendar)
        last_month = month_start(this_month - HOUR, calendar)
        assert Window(last_month, window.end).start >= window.start
        assert this_month in window
    assert window.end == hour_of(now) + HOUR
    assert len(window) <= 24 * (31 + 31) + 24


@pytest.mark.parametrize(
    ("zone", "now", "start"),
    [
        ("UTC", "2026-03-01T00:00", "2026-02-01T00:00"),
        ("UTC", "2024-03-31T23:59", "2024-02-01T00:00"),
        ("UTC", "2026-01-01T00:00", "2025-12-01T00:00"),
        # In New York it is still February, so January is the previous month.
        ("America/New_York", "2026-03-01T04:59", "2026-01-01T05:00"),
        # Berlin's clocks change at the end of March: its April begins at 22:00 UTC, its March began at 23:00.
        ("Europe/Berlin", "2026-04-01T12:00", "2026-02-28T23:00"),
        ("Asia/Kolkata", "2026-11-21T12:00", "2026-09-30T19:00"),
    ],
)
def test_months_begin_where_the_calendar_says(zone: str, now: str, start: str) -> None:
    assert months_window(at(now), ZoneInfo(zone)).start == at(start)


def test_history_reaches_to_the_start_of_the_previous_month_unless_a_span_is_set() -> None:
    now = at("2026-11-21T14:37")
    reach = Reach(timedelta(hours=48), timedelta(days=8), None, ZoneInfo("UTC"))
    assert history_start(now, reach) == at("2026-10-01T00:00")
    days = Reach(timedelta(hours=48), timedelta(days=8), timedelta(days=3), ZoneInfo("UTC"))
    assert history_start(now, days) == at("2026-11-18T14:00")


@given(now=instants, zone=zones)
def test_history_is_never_longer_than_fal_keeps(now: datetime, zone: ZoneInfo) -> None:
    reach = Reach(timedelta(hours=48), timedelta(days=8), None, zone)
    assert hour_of(now) - history_start(now, reach) <= timedelta(days=90)
