"""The seeded world: the requests of every hour, and when they become visible, as a function of seed and time.

An hour's record of a line is a count of equal requests, spread evenly over the hour. An instant sees a prefix of them:
those made a little while before, at most as many as the record's phase allows. A late charge, a revision and a refund
are phases, so every amount at any instant has a closed form and nothing is stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random
from struct import unpack
from typing import NamedTuple

from exporter.simulator.world.exact import HOUR, NANO, SECOND, instant_of, microseconds, month_of, months_after
from exporter.simulator.world.lines import (
    LOGINS,
    PHASES,
    ApiKey,
    IdleSpan,
    Line,
    Pace,
    WorldSize,
    api_keys,
    lines_of,
    preview_line,
    team_names,
)

ISSUED_AFTER = 23 * HOUR
"""An invoice is issued on the first of the following month at 23:00 UTC; nothing of its month changes afterwards."""

_DAY = (380, 330, 300, 290, 300, 350, 460, 640, 860, 1080, 1240, 1330, 1370, 1400, 1430, 1450, 1440, 1390, 1300)
_EVENING = (1180, 1020, 840, 660, 500)
_HOURS_OF_DAY = _DAY + _EVENING
_WEEKEND_PERMILLE = 620
_LATENESS = (300, 600, 1_200, 2_400, 3_600, 7_200, 14_400, 28_800, 50_000)
_INCIDENT_SPAN = 240
_MIXED = 1_024_000
_FIRST_KEY = 54 * 365 * 24
_UNUSED_KEY_EVERY = 60 * 24
_USUAL_SIZE, _USUAL_PACE = WorldSize(), Pace()


class Phase(NamedTuple):
    """From `start` (microseconds) on, at most `cap` requests are charged, at `percent` discount."""

    start: int
    cap: int
    percent: int | None


class Record(NamedTuple):
    """Requests of a line in an hour: equal ones of `size` nano-units each, and the phases in order."""

    line: Line
    requests: int
    size: int
    phases: tuple[Phase, ...]


class Charge(NamedTuple):
    """Cost of a line over a span: requests, nano-units of quantity, nano-USD before discount and of discount."""

    line: Line
    percent: int | None
    requests: int
    quantity: int
    subtotal: int
    discount: int

    @property
    def cost(self) -> int:
        """Charged nano-USD."""
        return self.subtotal - self.discount

    @property
    def gpu_seconds(self) -> int:
        """Nano-seconds of GPU time."""
        return self.quantity * self.line.gpus


@dataclass(frozen=True)
class World:
    """Whole life of an account; equal worlds have equal charges.

    Attributes:
        seed: any integer.
        size: number of lines; pace: speed of the account.
        prepaid: credit is bought in advance and falls with spend; otherwise the balance is 0.
        invoiced_months: number of past months with invoices.
        tax_percent, monthly_credit: added to and subtracted from an invoice (percent, nano-USD).
        top_up: credit bought whenever it runs low, in nano-USD for each step of the pace.
        idle: when runners of apps are idle for more of their time than usual.
    """

    seed: int = 1
    size: WorldSize = _USUAL_SIZE
    pace: Pace = _USUAL_PACE
    prepaid: bool = True
    invoiced_months: int = 3
    tax_percent: int = 0
    monthly_credit: int = 0
    top_up: int = 10_000 * NANO
    idle: tuple[IdleSpan, ...] = ()

    @classmethod
    def of_lines(cls, seed: int, lines: int) -> "World":
        """Return a world of `lines` models with a line each, for measurements, without credit and invoices."""
        size = WorldSize(models=lines, callers=1, apps=0, compute=0, teams=5, api_keys=20)
        return cls(seed=seed, size=size, pace=Pace(busy=2), prepaid=False, invoiced_months=0)

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Permanent lines; preview models come and go besides."""
        return lines_of(self.seed, self.size, self.pace)

    @cached_property
    def keys(self) -> tuple[ApiKey, ...]:
        """Keys of the callers."""
        return api_keys(self.seed, self.size)

    @cached_property
    def created_keys(self) -> tuple[tuple[ApiKey, int], ...]:
        """Keys of the callers, oldest first, with the hour (since 1970) of their creation."""
        return tuple((key, _FIRST_KEY + 24 * 17 * number) for number, key in enumerate(self.keys))

    def unused_keys(self, hour: int) -> Iterator[tuple[ApiKey, int]]:
        """Yield keys that were created before an hour and are never used: a new one every two months, for four."""
        newest = hour // _UNUSED_KEY_EVERY
        for number in (newest - 1, newest):
            chance = Random(f"{self.seed}:unused:{number}")  # noqa: S311  reproducible, no secrets
            team, login = self.teams[number % len(self.teams)], LOGINS[number % len(LOGINS)]
            yield (
                ApiKey(f"{chance.getrandbits(48):012x}", f"trial key {number}", team, login),
                number * _UNUSED_KEY_EVERY,
            )

    @cached_property
    def teams(self) -> tuple[str, ...]:
        """Team usernames, the root of the organization first."""
        return team_names(self.size)

    @cached_property
    def _previews(self) -> dict[int, Line]:
        return {}

    def previews(self, hour: int) -> Iterator[Line]:
        """Yield the preview models in use in an hour (hours since 1970)."""
        pace, known = self.pace, self._previews
        newest = hour // pace.birth_hours
        for number in range(newest - pace.life_hours // pace.birth_hours - 1, newest + 1):
            line = known.get(number)
            if line is None:
                line = known[number] = preview_line(self.seed, number, self.keys, pace)
            if line.born <= hour < line.dies:
                yield line

    def records(self, hour: int) -> list[Record]:
        """Return the final records of every line in the hour that starts `hour` hours after 1970."""
        lines = (*self.lines, *self.previews(hour))
        noise = Random(f"{self.seed}:{hour}").randbytes(8 * len(lines))  # noqa: S311  reproducible, no secrets
        rhythm = _rhythm(hour)
        end, issue = (hour + 1) * HOUR, issued_at(hour) - SECOND
        incident = self.incident(hour)
        late, eventful = self.pace.late, self.pace.late + self.pace.revised
        records = []
        for line, drawn in zip(lines, unpack(f"<{len(lines)}Q", noise), strict=True):
            weighted = line.rate * rhythm[line.phase] * (512 + (drawn & 1023))
            count = (weighted + ((drawn >> 10) & 0xFFFFF)) // _MIXED
            if not count:
                continue
            record = Record(line, count, line.size + line.step * ((drawn >> 30) % 3), (Phase(0, count, line.percent),))
            event = drawn >> 48
            if event < eventful:
                details = Random(drawn)  # noqa: S311  reproducible, no secrets
                record = (_late if event < late else self._revised)(details, record, end, issue)
            elif incident:
                record = _arriving(record, count // 3, min(end + incident, issue))
            records.append(record)
        return records

    def incident(self, hour: int) -> int:
        """Return the delay of an hour's charges in microseconds: 0, except for some hours every ten days."""
        span, position = divmod(hour, _INCIDENT_SPAN)
        chance = Random(f"{self.seed}:incident:{span}")  # noqa: S311  reproducible, no secrets
        first, hours = chance.randrange(_INCIDENT_SPAN - 12), 3 + chance.randrange(4)
        return (15 - hours - chance.randrange(6)) * HOUR if first <= position < first + hours else 0

    def _revised(self, details: Random, record: Record, end: int, issue: int) -> Record:
        when = min(end + details.randrange(60, self.pace.revised_within) * SECOND, issue)
        kind, fewer = details.randrange(3), record.requests * details.randrange(60, 95) // 100
        before = record.phases[0]
        if kind == 0:
            return record._replace(phases=(before, Phase(when, fewer, before.percent)))
        if kind == 1:
            return _arriving(record, fewer, when)
        return record._replace(phases=(before, Phase(when, record.requests, (before.percent or 0) + 10)))


def _late(details: Random, record: Record, end: int, issue: int) -> Record:
    wait = details.choice(_LATENESS) + details.randrange(240)
    seen = record.requests * details.randrange(80) // 100
    return _arriving(record, seen, min(end + wait * SECOND, issue))


def _arriving(record: Record, seen: int, when: int) -> Record:
    """Return a record of which only `seen` requests are visible before an instant."""
    whole = record.phases[-1]
    return record._replace(phases=(Phase(0, seen, whole.percent), whole._replace(start=when)))


def _rhythm(hour: int) -> dict[int, int]:
    """Return the load of an hour in permille of the usual, for every phase of a line."""
    weekend = (hour // 24 + 3) % 7 >= 5  # noqa: PLR2004  1970 began on a Thursday
    week = _WEEKEND_PERMILLE if weekend else 1000
    return {phase: _HOURS_OF_DAY[(hour + phase) % 24] * week // 1000 for phase in PHASES}


def issued_at(hour: int) -> int:
    """Return the instant (microseconds) at which the invoice with an hour (since 1970) is issued."""
    return microseconds(months_after(month_of(instant_of(hour * HOUR)), 1)) + ISSUED_AFTER


def made_before(record: Record, hour: int, instant: int) -> int:
    """Return the number of requests of an hour's record made before an instant (microseconds)."""
    spread = record.line.spread
    passed = instant - hour * HOUR
    if passed >= spread:
        return record.requests
    if passed <= 0:
        return 0
    return max(0, min(record.requests, -((spread - 2 * record.requests * passed) // (2 * spread))))


def made_at(record: Record, hour: int, number: int) -> int:
    """Return the instant (microseconds) of the request with an index in a record."""
    return hour * HOUR + (2 * number + 1) * record.line.spread // (2 * record.requests)


def phase_at(record: Record, instant: int) -> Phase:
    """Return the phase of a record at an instant (microseconds)."""
    current = record.phases[0]
    for phase in record.phases[1:]:
        if phase.start <= instant:
            current = phase
    return current


def visible_requests(record: Record, hour: int, span: tuple[int, int], as_of: int) -> tuple[int, int, int | None]:
    """Return the requests `[first, last)` of a span that are charged as of an instant, and their discount."""
    phase = phase_at(record, as_of)
    last = min(phase.cap, made_before(record, hour, min(span[1], as_of - record.line.lag)))
    return min(last, made_before(record, hour, span[0])), last, phase.percent


def charge_of(record: Record, first: int, last: int, percent: int | None) -> Charge:
    """Return the charge of the requests `[first, last)`; consecutive ranges add up to the nano-dollar."""
    unit = record.line.price * record.size
    until, before = unit * last // NANO, unit * first // NANO
    share = percent or 0
    discount = until * share // 100 - before * share // 100
    return Charge(record.line, percent, last - first, (last - first) * record.size, until - before, discount)


def known_from(records: list[Record], hour: int) -> int:
    """Return the instant (microseconds) from which an hour no longer changes."""
    end = (hour + 1) * HOUR
    return max((max(record.phases[-1].start, end + record.line.lag) for record in records), default=end)
