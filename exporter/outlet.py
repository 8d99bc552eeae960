"""Standard error that never holds up who writes to it: what nobody takes is dropped and counted.

A pipe whose reader has stopped, a journal that hangs and a terminal with Ctrl-S all have room for 64 KiB or less, and
whoever writes more waits for ever: an exporter that says so much would answer no scrape any more. So its processes
write without waiting.
"""

import io
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

_WAIT = 0.01
"""Seconds that a reader who has kept up so far is given: a burst may come faster than anybody reads."""

_ATOMIC = select.PIPE_BUF
"""Bytes that a pipe takes as a whole or not at all."""


class _Dropping(io.RawIOBase):
    """Bytes for a file that may be full; what it does not take is dropped.

    Args:
        descriptor: of the file.
        write: writes some bytes without waiting and returns how many; raises BlockingIOError where there is no room.
        let_go: closes what `write` writes to, unless that is the file itself.
    """

    def __init__(self, descriptor: int, write: Callable[[bytes], int], let_go: Callable[[], None]) -> None:
        self.name = "<stderr>"
        self._descriptor = descriptor
        self._write = write
        self._let_go = let_go
        self._is_full = False
        self._is_torn = False
        self.lost = 0
        """Texts that were dropped, whole or in part, and have not been told of."""

    def fileno(self) -> int:
        """Return the descriptor that was given."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def close(self) -> None:
        """Write no more; the file stays open."""
        if not self.closed:
            self._let_go()
        super().close()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # a text's encoding is bytes
        """Write what there is room for; all of it counts as written."""
        # The rest of a text was dropped: the next one begins a line of its own.
        rest = b"\n" + data if self._is_torn else data
        size = len(rest)
        while rest:
            try:
                rest = rest[self._write(rest[:_ATOMIC]) :]
            except OSError as error:
                if isinstance(error, BlockingIOError) and not self._is_full:
                    self._is_full = True
                    if select.select((), (self._descriptor,), (), _WAIT)[1]:
                        continue
                self._is_torn = self._is_torn or len(rest) < size
                self.lost += 1
                return len(data)
            self._is_torn = False
        self._is_full = False
        return len(data)


class DroppingText(io.TextIOWrapper):
    """Text for a file that may be full, as `_Dropping` has it."""

    def __init__(self, raw: _Dropping, encoding: str) -> None:
        super().__init__(raw, encoding, "backslashreplace", write_through=True)
        self._raw = raw

    def take_lost(self) -> int:
        """Return how many texts have been dropped since this was asked last."""
        lost, self._raw.lost = self._raw.lost, 0
        return lost

    def give_back(self, lost: int) -> None:
        """Count texts again, as it could not be told that they were dropped."""
        self._raw.lost += lost


def without_waiting(stream: TextIO) -> TextIO:
    """Return what drops texts for which a stream has no room; what was written to the stream before is in it.

    A file on a disk always has room, or the system says at once that it has none; it is returned as it is. So is None,
    which stands for a standard error that the process was started without.
    """
    try:
        descriptor = stream.fileno()
        kind = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):
        return stream
    if stat.S_ISREG(kind):
        return stream
    stream.flush()
    return DroppingText(_Dropping(descriptor, *_writer(descriptor, kind)), stream.encoding)


def _writer(descriptor: int, kind: int) -> tuple[Callable[[bytes], int], Callable[[], None]]:
    """Return what writes to a file without waiting, while others who have it open wait as they like, and its end."""
    if stat.S_ISSOCK(kind):
        connection = socket.socket(fileno=os.dup(descriptor))
        return lambda data: connection.send(data, socket.MSG_DONTWAIT), connection.close
    with suppress(OSError):
        # Opened once more, as not to wait is a property that is shared with all who have inherited the descriptor.
        ours = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        return lambda data: os.write(ours, data), lambda: os.close(ours)

    def write(data: bytes) -> int:
        # It is another user's, or the system has no such names. Where there is room, it is for this many bytes.
        if not select.select((), (descriptor,), (), 0)[1]:
            raise BlockingIOError
        return os.write(descriptor, data)

    return write, lambda: None
