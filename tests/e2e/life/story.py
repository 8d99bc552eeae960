"""Two lives: the world, what fal does late or takes back, and what becomes of the exporter.

The long one begins on an October morning in Berlin, goes through the end of summer time (25 October, 01:00 UTC) and the
end of the month. The short one is lived in New York, where summer time ends hours after October does: its six days have
everything that the thirty have. Both are told to the minute. All instants are in UTC.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.simulator import GlitchedJob, Pace, PlantedLateness, PlantedRevision, PlantedSpend, World, WorldSize

NANO = 10**9
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
UNIVERSAL = ZoneInfo("UTC")

Plant = PlantedSpend | PlantedRevision | PlantedLateness
Span = tuple[datetime, datetime]

GLITCHED = "fal-ai/glitched-job"
"""The model of a charge that fal takes back whole, and that nobody ever uses again."""

POLLED_BALANCE, POLLED_RECENT, POLLED_INVOICES = 4, 6, 34


@dataclass(frozen=True)
class Story:
    """Events of a life, and their instants.

    Attributes:
        birth: the first start of the exporter.
        end: the instant of the last poll.
        home: the time zone of days and months, until `zone_change`.
        history_start: where the month before the birth begins there: the history that is loaded reaches back to it.
        world: the account, and how much of it is late, revised and new by itself.
        plants: what is certain to happen beside that. Fal does not change a month once its invoice is issued, at
            23:00 UTC on the first of the next.
        outage: while it lasts fal answers every call with an error.
        downtime: nobody runs the exporter while the month ends, at home and in UTC.
        restarts: the exporter is closed and started anew; once inside the hold after a series' birth.
        zone_change: the user restarts the exporter with months of UTC, to hold them against fal's invoices.
        killed_in_a_transaction: the power fails in the middle of a poll's transaction; the last time as clocks go back.
        killed_before_publishing: the power fails when a poll that brought a new model has been committed, and before a
            scrape could see it.
        polled_current: the minutes at which the current hour and the one before are polled, and of every how many
            hours.
        recent: how far back the hourly poll reads.
        retention: far shorter than any user would have it: the hours before last month are folded during the life. At
            home in New York months begin later than in UTC, so that those hours must be kept until `zone_change`.
        hours: the least number of polled hours whose gauges are to be judged.
        months: the same of the polls of a month.
    """

    birth: datetime
    end: datetime
    home: ZoneInfo
    history_start: datetime
    world: World
    plants: tuple[Plant, ...]
    outage: Span
    downtime: Span
    restarts: tuple[datetime, ...]
    zone_change: datetime
    killed_in_a_transaction: tuple[datetime, ...]
    killed_before_publishing: tuple[datetime, ...]
    polled_current: Mapping[int, int]
    recent: timedelta
    retention: timedelta
    hours: int
    months: int

    @property
    def last_scrape(self) -> datetime:
        """Return an instant late enough for every hold to end, so that nothing that was learnt is still held back."""
        return self.end + 8 * MINUTE

    def jobs_due(self, now: datetime) -> Iterator[str]:
        """Yield what the schedule runs at a minute, by the names of its jobs."""
        if now.minute in self.polled_current and now.hour % self.polled_current[now.minute] == 0:
            yield "current"
        if now.minute == POLLED_RECENT:
            yield "recent"
        if now.minute == POLLED_BALANCE:
            yield "balance"
        if (now.hour % 6, now.minute) == (5, POLLED_INVOICES):
            yield "invoices"
        at = {(2, 20): "deep", (3, 40): "months", (4, 50): "retention"}.get((now.hour, now.minute))
        if at:
            yield at


def _october(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 10, day, hour, minute, tzinfo=UTC)


def _november(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def _late(hour: datetime, *, until: datetime, percent_before: int = 0) -> PlantedLateness:
    return PlantedLateness(_number(hour), _micros(until), percent_before)


def _revised(hour: datetime, *, percent: int, at: datetime, product: str = "", model: str = "") -> PlantedRevision:
    return PlantedRevision(_number(hour), percent, _micros(at), product, model)


def _spent(hour: datetime, model: str, *, dollars: int, visible_from: datetime | None = None) -> PlantedSpend:
    line = GlitchedJob(model=model).line(dollars * NANO)
    return PlantedSpend(_number(hour), line, _micros(visible_from) if visible_from else 0)


def _number(hour: datetime) -> int:
    return int(hour.timestamp()) // 3600


def _micros(instant: datetime) -> int:
    return int(instant.timestamp()) * 10**6


_SMALL = WorldSize(models=3, callers=1, apps=2, compute=0, teams=2, api_keys=3)
"""An account that uses few things, so that a life is short."""

_SMALLEST = WorldSize(models=2, callers=1, apps=1, compute=0, teams=1, api_keys=2)
"""The same in the short life, which is lived in every run of the tests."""

_LONG_END = _november(15, 9, 23)

THIRTY_DAYS = Story(
    birth=_october(16, 9, 23),
    end=_LONG_END,
    home=ZoneInfo("Europe/Berlin"),
    history_start=datetime(2026, 8, 31, 22, tzinfo=UTC),
    world=World(
        seed=26,
        size=_SMALL,
        pace=Pace(late=4_000, revised=2_500, birth_hours=120, life_hours=240),
        invoiced_months=1,
    ),
    plants=(
        _late(_october(18, 10), until=_october(19, 2)),
        _late(_october(30, 21), until=_november(1, 12), percent_before=20),
        _late(_november(11, 17), until=_november(12, 9)),
        _revised(_october(21, 9), percent=30, at=_october(23, 10, 30)),
        _revised(_october(16, 15), percent=180, at=_october(29, 5, 10)),
        _revised(_october(31, 23), percent=60, at=_november(1, 20, 15)),
        *(_revised(_november(2, hour), percent=20, at=_november(4, 9, 12), product="serverless") for hour in range(24)),
        _revised(_LONG_END.replace(minute=0) - 30 * HOUR, percent=10, at=_LONG_END - 20 * MINUTE),
        _spent(_october(27, 14), GLITCHED, dollars=40_500),
        _revised(_october(27, 14), percent=0, at=_october(28, 16, 40), model=GLITCHED),
        _spent(_november(3, 7), "fal-ai/appears-late", dollars=12, visible_from=_november(3, 22, 30)),
        _spent(_november(9, 8), "fal-ai/appears-in-a-crash", dollars=7, visible_from=_november(9, 8, 10)),
    ),
    outage=(_october(19, 13, 58), _october(19, 19, 58)),
    downtime=(_october(31, 22, 20), _november(1, 1, 20)),
    restarts=(_october(17, 11, 32), _october(27, 14, 5)),
    zone_change=_november(5, 12, 2),
    killed_in_a_transaction=(_october(20, 3, 40), _october(22, 16, 6), _october(25, 1, 4)),
    killed_before_publishing=(_november(9, 8, 19),),
    polled_current={4: 1, 19: 1, 34: 1, 49: 1},
    recent=timedelta(hours=48),
    retention=timedelta(days=14),
    hours=700,
    months=28,
)

_SHORT_END = _november(4, 9, 23)

SIX_DAYS = Story(
    birth=_october(29, 9, 23),
    end=_SHORT_END,
    home=ZoneInfo("America/New_York"),
    history_start=datetime(2026, 9, 1, 4, tzinfo=UTC),
    world=World(
        seed=26,
        size=_SMALLEST,
        pace=Pace(late=12_000, revised=7_500, birth_hours=24, life_hours=48),
        invoiced_months=1,
    ),
    plants=(
        _late(_october(30, 2), until=_october(30, 17)),
        _late(_october(31, 21), until=_november(1, 12), percent_before=20),
        _late(_november(2, 17), until=_november(3, 9)),
        _revised(_october(30, 9), percent=30, at=_october(31, 10, 30)),
        _revised(_october(29, 15), percent=180, at=_november(1, 5, 10)),
        _revised(_october(31, 23), percent=60, at=_november(1, 20, 15)),
        *(_revised(_november(2, hour), percent=20, at=_november(3, 9, 12), product="serverless") for hour in range(24)),
        _revised(_SHORT_END.replace(minute=0) - 30 * HOUR, percent=10, at=_SHORT_END - 20 * MINUTE),
        _spent(_october(30, 14), GLITCHED, dollars=40_500),
        _revised(_october(30, 14), percent=0, at=_october(31, 16, 40), model=GLITCHED),
        _spent(_november(2, 7), "fal-ai/appears-late", dollars=12, visible_from=_november(2, 22, 30)),
        _spent(_november(3, 18), "fal-ai/appears-in-a-crash", dollars=7, visible_from=_november(3, 18, 10)),
    ),
    outage=(_october(30, 19, 58), _october(31, 1, 58)),
    downtime=(_october(31, 23, 20), _november(1, 4, 20)),
    restarts=(_october(29, 15, 32), _october(30, 14, 5)),
    zone_change=_november(2, 12, 2),
    killed_in_a_transaction=(_october(30, 3, 40), _october(31, 16, 6), _november(1, 6, 4)),
    killed_before_publishing=(_november(3, 18, 19),),
    polled_current={4: 1, 19: 3},
    recent=timedelta(hours=24),
    retention=timedelta(days=34),
    hours=120,
    months=4,
)
