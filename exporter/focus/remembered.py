"""A memory of what has been read from texts, of bounded size."""

from typing import TypeVar

_MOST = 16 << 20
"""Bytes, or characters, of texts that are remembered."""

_LONGEST = 4_000

TextT = TypeVar("TextT", bytes, str)


class Remembered(dict[tuple[TextT, ...], tuple[object, ...]]):
    """Readings by the texts from which they come; it forgets all of them when it is full."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def remember(self, texts: tuple[TextT, ...], reading: tuple[object, ...]) -> None:
        """Keep a reading, unless its texts are long."""
        size = sum(map(len, texts))
        if size > _LONGEST:
            return
        self._size += size
        if self._size > _MOST:
            self.clear()
            self._size = size
        self[texts] = reading
