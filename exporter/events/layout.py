"""Layout of the store: names of its files, and which of them count.

The files of a day lie in one folder, named as Hive partitions are, so that Athena, BigQuery, ClickHouse, Spark and
DuckDB read them without this program:

    account=default/day=2026-11-27/hour-13-20261127T141003120000Z.parquet      an hour, read to its end
    account=default/day=2026-11-27/part-14-20261127T143000000000Z-00000.parquet  a part of an hour still being read
    account=default/day=2026-11-26/day-20261128T030000000000Z.parquet          a whole day, compacted

The stamp says when the reading began. A complete reading of an hour replaces every earlier one of the same hour: so
late requests come in, changed ones change, and what fal has taken back goes. Which files count follows from their names
alone, and files are written whole. So whatever the order of readings, however often they are repeated and wherever a
process ends between two steps, the same requests count.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from urllib.parse import quote, unquote

Kind = Literal["hour", "part", "day"]

_STAMP = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(
    r"account=(?P<account>[^/]+)/day=(?P<day>\d{4}-\d{2}-\d{2})/"
    r"(?:day-(?P<of_day>\d{8}T\d{12}Z)"
    r"|hour-(?P<hour>[01]\d|2[0-3])-(?P<of_hour>\d{8}T\d{12}Z)"
    r"|part-(?P<part_hour>[01]\d|2[0-3])-(?P<of_part>\d{8}T\d{12}Z)-(?P<number>\d{5}))\.parquet"
)


def folder_of(account: str, day: date | None = None) -> str:
    """Return the folder of an account, or of one of its days, with a slash at its end."""
    folder = f"account={quote(account, safe='-_.')}/"
    return folder if day is None else f"{folder}day={day.isoformat()}/"


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of requests.

    Attributes:
        read_at: when the reading began whose outcome this is; of a day, the latest of what is in it.
        hour: 0 to 23; None for a day.
        number: of a part within its reading.
    """

    kind: Kind
    account: str
    day: date
    read_at: datetime
    hour: int | None = None
    number: int = 0

    @property
    def name(self) -> str:
        """The name below the root of the store."""
        stamp = self.read_at.astimezone(UTC).strftime(_STAMP)
        folder = folder_of(self.account, self.day)
        if self.kind == "day":
            return f"{folder}day-{stamp}.parquet"
        if self.kind == "hour":
            return f"{folder}hour-{self.hour:02d}-{stamp}.parquet"
        return f"{folder}part-{self.hour:02d}-{stamp}-{self.number:05d}.parquet"


def hour_piece(account: str, hour: datetime, read_at: datetime) -> Piece:
    """Return the file of an hour that has been read to its end."""
    return Piece("hour", account, hour.date(), read_at, hour.hour)


def part_piece(account: str, hour: datetime, read_at: datetime, number: int) -> Piece:
    """Return the file of a part of an hour."""
    return Piece("part", account, hour.date(), read_at, hour.hour, number)


def piece_of(name: str) -> Piece | None:
    """Return the file with this name below the root; None where it is not a file of requests."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    account, day = unquote(found["account"]), date.fromisoformat(found["day"])
    if found["of_day"]:
        return Piece("day", account, day, _instant(found["of_day"]))
    if found["of_hour"]:
        return Piece("hour", account, day, _instant(found["of_hour"]), int(found["hour"]))
    return Piece("part", account, day, _instant(found["of_part"]), int(found["part_hour"]), int(found["number"]))


def _instant(stamp: str) -> datetime:
    return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DayFiles:
    """Files of one account and day, sorted out.

    Attributes:
        whole: the compacted day; None where there is none.
        hours: the file of every hour that replaces what the compacted day has of it, or that it lacks.
        parts: parts of hours that have not been read to their end, oldest first; a request may be in several.
        stale: what no longer counts, oldest first: may be deleted at any time.
    """

    whole: Piece | None
    hours: tuple[Piece, ...]
    parts: tuple[Piece, ...]
    stale: tuple[Piece, ...]

    @property
    def counted(self) -> tuple[Piece, ...]:
        """All files that count."""
        return (*((self.whole,) if self.whole else ()), *self.hours, *self.parts)

    def without(self, lost: Collection[Piece]) -> "DayFiles":
        """Return the same without some files that cannot be read."""
        if not lost:
            return self
        return replace(
            self,
            whole=None if self.whole in lost else self.whole,
            hours=tuple(piece for piece in self.hours if piece not in lost),
            parts=tuple(piece for piece in self.parts if piece not in lost),
        )

    @property
    def is_compact(self) -> bool:
        """True if one file or none counts, and no other is there."""
        return len(self.counted) <= 1 and not self.stale and not self.parts and not self.hours


def _by_age(piece: Piece) -> tuple[datetime, int, int, str]:
    return piece.read_at, -1 if piece.hour is None else piece.hour, piece.number, piece.kind


def sort_out(pieces: Iterable[Piece]) -> DayFiles:
    """Return which files of one account and day count.

    Args:
        pieces: all files of the day; parts of a reading under way are among them.
    """
    ordered = sorted(pieces, key=_by_age)
    whole = next((piece for piece in reversed(ordered) if piece.kind == "day"), None)
    newest: dict[int | None, Piece] = {
        piece.hour: piece
        for piece in ordered
        if piece.kind == "hour" and (whole is None or piece.read_at > whole.read_at)
    }
    hours = tuple(newest[hour] for hour in sorted(newest, key=lambda hour: hour or 0))
    parts = tuple(piece for piece in ordered if piece.kind == "part" and piece.hour not in newest and whole is None)
    counted = {whole, *hours, *parts}
    stale = tuple(piece for piece in ordered if piece not in counted and not _is_under_way(piece, whole, newest))
    return DayFiles(whole, hours, parts, stale)


def _is_under_way(piece: Piece, whole: Piece | None, newest: dict[int | None, Piece]) -> bool:
    """Return whether a part may belong to a reading that will replace what counts now."""
    if piece.kind != "part":
        return False
    replaced = newest.get(piece.hour) or whole
    return replaced is not None and piece.read_at > replaced.read_at


def days_between(start: datetime, end: datetime) -> tuple[date, ...]:
    """Return the days of UTC that a half-open span touches."""
    first, last = start.astimezone(UTC).date(), (end - timedelta(microseconds=1)).astimezone(UTC).date()
    return tuple(first + timedelta(days=number) for number in range((last - first).days + 1))
