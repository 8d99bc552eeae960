"""How durations and sizes are written in settings: `90s`, `1h30m`, `30d`; `512KiB`, `64MiB`."""

import re
from datetime import timedelta

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit})?" for unit in _SECONDS))
_LONGEST = timedelta(days=36_500)

_BYTES = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
_SIZE = re.compile(r"(?P<count>[0-9]{1,15}) ?(?P<unit>GiB|MiB|KiB|B)?")


def parse_duration(text: str) -> timedelta:
    """Read a duration: whole numbers with a unit (w, d, h, m, s), each unit at most once, largest first.

    Raises:
        ValueError: the text is none, for instance a number without a unit.
    """
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None:
        raise ValueError("is not a duration; write it like 90s, 5m, 1h30m or 30d")
    seconds = sum(int(match[unit] or 0) * length for unit, length in _SECONDS.items())
    if seconds > _LONGEST.total_seconds():
        raise ValueError("is longer than a hundred years")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Write whole seconds as `parse_duration` reads them, in the fewest units: `48h`, `8d`, `1h30m`."""
    rest = duration // timedelta(seconds=1)
    if 0 < rest <= 3 * _SECONDS["d"] and rest % _SECONDS["h"] == 0:
        return f"{rest // _SECONDS['h']}h"
    text = ""
    for unit, length in _SECONDS.items():
        count, left = divmod(rest, length)
        if count and unit != "w":
            text, rest = f"{text}{count}{unit}", left
    return text or "0s"


def parse_size(text: str) -> int:
    """Read a size as a number of bytes; a number without a unit is bytes.

    Raises:
        ValueError: the text is none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a size; write it like 512KiB, 64MiB or 1GiB")
    return int(match["count"]) * _BYTES[match["unit"] or "B"]


def format_size(size: int) -> str:
    """Write a number of bytes as `parse_size` reads it, in the largest unit that divides it."""
    unit, length = next((unit, length) for unit, length in _BYTES.items() if size % length == 0)
    return f"{size // length}{unit}"
