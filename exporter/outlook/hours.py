"""What each hour cost, for everything an outlook is made of: a window of hours that moves with the clock."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Generic, TypeVar

from exporter.charges import HOUR, Window

Key = TypeVar("Key", bound=Hashable)


class HourlySpend(Generic[Key]):
    """Nano-USD by key and hour, in a window that only moves forward.

    Attributes:
        versions: by key, how often one of its hours has changed that lay before the window's last two: whoever has
            learnt from those hours learns anew when the number has moved.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.versions: dict[Key, int] = {}
        self._spend: dict[Key, list[int]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._spend

    def __iter__(self) -> Iterator[Key]:
        return iter(self._spend)

    def move_to(self, window: Window) -> None:
        """Leave the hours before a window and take up those after, as free of cost; keys without any cost go."""
        gone = (window.start - self.window.start) // HOUR
        new = (window.end - self.window.end) // HOUR
        if gone < 0 or new < 0:
            raise ValueError(f"a window of hours moves forward, not from {self.window} to {window}")
        for key, hours in list(self._spend.items()):
            del hours[:gone]
            hours.extend([0] * (len(window) - len(hours)))
            if not any(hours):
                del self._spend[key], self.versions[key]
        self.window = window

    def set_hour(self, hour: datetime, spend: Mapping[Key, int]) -> None:
        """Set what an hour of the window cost; keys that are not named have cost nothing."""
        place = (hour - self.window.start) // HOUR
        is_learnt_from = place < len(self.window) - 2
        for key in spend.keys() - self._spend.keys():
            self._spend[key] = [0] * len(self.window)
            self.versions[key] = 0
        for key, hours in self._spend.items():
            amount = spend.get(key, 0)
            if hours[place] != amount:
                hours[place] = amount
                self.versions[key] += is_learnt_from

    def of(self, key: Key) -> Sequence[int]:
        """Return what each hour of the window cost, in order; a key that is not known has cost nothing."""
        return self._spend.get(key) or [0] * len(self.window)

    def total(self, key: Key, window: Window) -> int:
        """Return what the hours of a window cost, those outside the known ones nothing."""
        start, end = ((edge - self.window.start) // HOUR for edge in (window.start, window.end))
        return sum(self.of(key)[max(0, start) : max(0, end)])
