"""What happens in the thirty days: the world, what fal does late or takes back, and what becomes of the exporter.

The life begins on an October morning in Berlin, goes through the end of summer time (25 October, 01:00 UTC) and the
end of the month, and is told to the minute. All instants are in UTC.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.simulator import GlitchedJob, Pace, PlantedLateness, PlantedRevision, PlantedSpend, World, WorldSize

NANO = 10**9
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def october(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 10, day, hour, minute, tzinfo=UTC)


def november(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


BIRTH = october(16, 9, 23)
END = BIRTH + timedelta(days=30)
"""The instant of the last poll."""

LAST_SCRAPE = END + 8 * MINUTE
"""Long enough for every hold to end, so that nothing that was learnt is still held back."""

HISTORY_START = datetime(2026, 8, 31, 22, tzinfo=UTC)
"""Where September begins in Berlin: the history that is loaded at the birth reaches back to it."""

BERLIN = ZoneInfo("Europe/Berlin")
UNIVERSAL = ZoneInfo("UTC")

OUTAGE = (october(19, 13, 58), october(19, 19, 58))
"""Fal answers every call with an error."""

DOWNTIME = (october(31, 22, 20), november(1, 1, 20))
"""Nobody runs the exporter while the month ends, in Berlin first and then in UTC."""

RESTARTS = (october(17, 11, 32), october(27, 14, 5))
"""The exporter is closed and started anew; the second time inside the hold after a series' birth."""

ZONE_CHANGE = november(5, 12, 2)
"""The user restarts the exporter with months of UTC, to hold them against fal's invoices."""

KILLED_IN_A_TRANSACTION = (october(20, 3, 40), october(22, 16, 6), october(25, 1, 4))
"""The power fails in the middle of a poll's transaction; the last time as clocks go back."""

KILLED_BEFORE_PUBLISHING = (november(9, 8, 19),)
"""The power fails when a poll that brought a new model has been committed, and before a scrape could see it."""

GLITCHED = "fal-ai/glitched-job"
"""The model of a charge that fal takes back whole, and that nobody ever uses again."""

POLLED_CURRENT = (4, 19, 34, 49)
POLLED_RECENT = 6


def world() -> World:
    """Return an account that uses few things, so that a life is short, of which much is late, revised and new."""
    return World(
        seed=26,
        size=WorldSize(models=3, callers=1, apps=2, compute=0, teams=2, api_keys=3),
        pace=Pace(late=4_000, revised=2_500, birth_hours=120, life_hours=240),
        invoiced_months=1,
    )


def plants() -> Iterator[PlantedSpend | PlantedRevision | PlantedLateness]:
    """Yield what is certain to happen beside what the world does by itself.

    Fal does not change a month once its invoice is issued, at 23:00 UTC on the first of the next.
    """
    yield _late(october(18, 10), until=october(19, 2))
    yield _late(october(30, 21), until=november(1, 12), percent_before=20)
    yield _late(november(11, 17), until=november(12, 9))
    yield _revised(october(21, 9), percent=30, at=october(23, 10, 30))
    yield _revised(october(16, 15), percent=180, at=october(29, 5, 10))
    yield _revised(october(31, 23), percent=60, at=november(1, 20, 15))
    for hour in range(24):
        yield _revised(november(2, hour), percent=20, at=november(4, 9, 12), product="serverless")
    yield _revised(END.replace(minute=0) - 30 * HOUR, percent=10, at=END - 20 * MINUTE)
    yield _spent(october(27, 14), GLITCHED, dollars=40_500)
    yield _revised(october(27, 14), percent=0, at=october(28, 16, 40), model=GLITCHED)
    yield _spent(november(3, 7), "fal-ai/appears-late", dollars=12, visible_from=november(3, 22, 30))
    yield _spent(november(9, 8), "fal-ai/appears-in-a-crash", dollars=7, visible_from=november(9, 8, 10))


def jobs_due(now: datetime) -> Iterator[str]:
    """Yield what the schedule runs at a minute, by the names of its jobs."""
    if now.minute in POLLED_CURRENT:
        yield "current"
    if now.minute == POLLED_RECENT:
        yield "recent"
    if now.minute == POLLED_CURRENT[0]:
        yield "balance"
    if (now.hour % 6, now.minute) == (5, POLLED_CURRENT[2]):
        yield "invoices"
    at = {(2, 20): "deep", (3, 40): "months", (4, 50): "retention"}.get((now.hour, now.minute))
    if at:
        yield at


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
