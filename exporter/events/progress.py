"""Progress of an account's readings: what has been read, what is to be read next, and where a reading stopped.

Three kinds of reading. A *whole* one reads an hour that is over, to its end, and replaces what was known of it. A
*tail* reads on in the running hour, so that a request is known minutes after it was made. A *repeated* one reads an
hour again: at set ages, since late requests are normal at fal, and whenever its sum is not what the ledger charges.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from exporter.charges import HOUR, hour_of

LAG = timedelta(minutes=10)
"""Time after its end at which an hour is read whole."""

_OVERLAP = timedelta(minutes=5)
"""Requests become known up to so much later than their own stamp; what was read before is read again by as much."""

_FIRST_AGE = timedelta(hours=6)
_LEAST_WAIT = timedelta(hours=1)
_SHARE_OF_AGE = 4
"""An hour that differs is read again after a quarter of its age: soon at first, then ever more seldom."""

RETRY = timedelta(hours=24)
"""Time after which a call that refused is tried again."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading under way.

    Attributes:
        hour: whose requests are read.
        start, end: the window asked for; a tail's ends at the present.
        read_at: when it began; the pages of a reading that was resumed belong to the same.
        cursor: fal's, of the page to ask for next; None before the first page.
        parts: files that hold the pages before it.
        rejected: rows of the pages before it that could not be read.
        is_whole: whether the hour is replaced at its end.
    """

    hour: datetime
    start: datetime
    end: datetime
    read_at: datetime
    cursor: str | None = None
    parts: int = 0
    is_whole: bool = True
    rejected: int = 0

    def after(self, cursor: str | None, parts: int, rejected: int = 0) -> "Reading":
        """Return the reading after some pages have been kept, with this many rejected rows in all of them."""
        return replace(self, cursor=cursor, parts=parts, rejected=rejected)

    def from_start(self) -> "Reading":
        """Return the reading from its first page, for a cursor that fal no longer knows."""
        return replace(self, cursor=None, parts=0, rejected=0)


@dataclass(frozen=True, slots=True)
class Progress:
    """State of an account.

    Attributes:
        since, through: the hours in [since, through) have been read whole.
        tail: until when the running hour has been read.
        reading: one that was begun and not ended.
        off_until: when to ask fal again after it has refused; None while it answers.
        off_reason: its refusal, in a sentence.
        tagged: whether fal answers with tags; None before it was asked.
    """

    since: datetime
    through: datetime
    tail: datetime
    reading: Reading | None = None
    off_until: datetime | None = None
    off_reason: str = ""
    tagged: bool | None = None

    def begin(self, reading: Reading) -> "Progress":
        """Return the state in which a reading is under way."""
        return replace(self, reading=reading)

    def done(self, reading: Reading) -> "Progress":
        """Return the state after a reading has ended."""
        ended = replace(self, reading=None, off_until=None, off_reason="")
        if not reading.is_whole:
            return replace(ended, tail=max(self.tail, reading.end))
        if reading.hour == self.through:
            ended = replace(ended, through=reading.hour + HOUR, tail=max(self.tail, reading.hour + HOUR))
        if reading.hour + HOUR == self.since:
            ended = replace(ended, since=reading.hour)
        return ended

    def switched_off(self, reason: str, until: datetime) -> "Progress":
        """Return the state in which fal is not asked until an instant; a reading under way goes on from its cursor."""
        return replace(self, off_until=until, off_reason=reason)


def first_progress(now: datetime) -> Progress:
    """Return the state before the first reading: everything is read from the last hour that is over."""
    hour = hour_of(now - LAG)
    return Progress(since=hour, through=hour, tail=hour)


def is_due_again(hour: datetime, read_at: datetime, now: datetime, settle: timedelta, *, differs: bool) -> bool:
    """Return whether an hour is to be read again."""
    end = hour + HOUR
    if any(read_at < end + age <= now for age in (min(_FIRST_AGE, settle), settle)):
        return True
    return differs and now - read_at >= max(_LEAST_WAIT, (now - end) / _SHARE_OF_AGE)


def next_reading(
    progress: Progress,
    now: datetime,
    *,
    history_from: datetime,
    tail_every: timedelta,
    settle: timedelta,
    read: Mapping[datetime, datetime],
    differing: Collection[datetime],
    missing: Collection[datetime] = (),
) -> Reading | None:
    """Return what is to be read now; None where nothing is.

    Args:
        progress: what has been read.
        now: an aware instant.
        history_from: the first hour wanted.
        tail_every: time between two looks at the running hour.
        settle: age from which an hour is not expected to change.
        read: when the hours that are compared with the ledger were read last.
        differing: the hours among them whose sums differ.
        missing: hours in [since, through) whose requests have been lost.
    """
    if progress.reading is not None:
        return progress.reading
    if progress.through + HOUR + LAG <= now:
        return _whole(progress.through, now)
    tail = max(progress.tail, progress.through)
    hour = hour_of(tail)
    end = min(now, hour + HOUR)
    if end - tail >= min(tail_every, hour + HOUR - tail) and end > tail:
        return Reading(hour, max(hour, tail - _OVERLAP), end, now, is_whole=False)
    for again in sorted(read, reverse=True):
        if is_due_again(again, read[again], now, settle, differs=again in differing):
            return _whole(again, now)
    history = [progress.since - HOUR] if progress.since - HOUR >= history_from else []
    return _whole(max(missing or history), now) if missing or history else None


def _whole(hour: datetime, now: datetime) -> Reading:
    return Reading(hour, hour, hour + HOUR, now)


def written(progress: Progress) -> bytes:
    """Return the state as a JSON document."""
    return json.dumps(asdict(progress), default=datetime.isoformat, separators=(",", ":")).encode()


def read_progress(document: bytes) -> Progress:
    """Read a document that `written` has made.

    Raises:
        ValueError: the document is not valid.
    """
    try:
        fields = json.loads(document)
        reading = fields["reading"]
        return Progress(
            since=_instant(fields["since"]),
            through=_instant(fields["through"]),
            tail=_instant(fields["tail"]),
            reading=None
            if reading is None
            else Reading(
                hour=_instant(reading["hour"]),
                start=_instant(reading["start"]),
                end=_instant(reading["end"]),
                read_at=_instant(reading["read_at"]),
                cursor=reading["cursor"],
                parts=int(reading["parts"]),
                is_whole=bool(reading["is_whole"]),
                rejected=int(reading.get("rejected", 0)),
            ),
            off_until=None if fields["off_until"] is None else _instant(fields["off_until"]),
            off_reason=str(fields["off_reason"]),
            tagged=fields["tagged"],
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a document of progress: {error!r}") from None


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
