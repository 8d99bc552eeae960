"""Files that are being made: whole under their name or not there, and gone with the process however it ends."""

import fcntl
import os
import secrets
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from types import TracebackType
from typing import BinaryIO

_MARK = ".fal-exporter-scratch"
"""End of the names of scratch folders: nobody else's folder is taken for one."""

_begun: set[Path] = set()
"""Files of this process that have not taken their names yet."""

_held: "weakref.WeakSet[ScratchFolder]" = weakref.WeakSet()
"""Scratch folders of this process."""


def abandon() -> None:
    """Remove all that this process has begun and not finished, before it ends without unwinding.

    Nothing is to be made after it. What cannot be removed stays.
    """
    for path in tuple(_begun):
        with suppress(OSError):
            path.unlink(missing_ok=True)
    for folder in tuple(_held):
        folder.close()


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name at the end of the block; after a failure what had that name is still there.

    It is written beside its place, with a name that starts with a dot. Through a symbolic link the file that the link
    names is replaced. A pipe or a device is written to as it is, since a file of its name would take its place.

    Raises:
        OSError: the file cannot be written.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    whole = path.resolve()
    unfinished = whole.with_name(f".{whole.name}.{secrets.token_hex(4)}")
    _begun.add(unfinished)
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(whole)
    finally:
        unfinished.unlink(missing_ok=True)
        _begun.discard(unfinished)


class ScratchFolder:
    """A folder for files of this process alone, readable by its user only.

    It goes when it is closed, when nobody holds it any more, and when Python ends. A process that is killed leaves its
    folder, and the next one that makes a scratch folder at the same place removes it: the system lets go of the lock
    on a folder with its process, so that those of living processes are told apart, also of another container that
    shares the place. Where a file system knows no locks on folders, what is left stays.

    Args:
        inside: where it is made; None for the system's temporary folder.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, inside: Path | None = None) -> None:
        place = Path(gettempdir()) if inside is None else inside
        _remove_abandoned(place)
        self.path, lock = _made(place)
        self._finalizer = weakref.finalize(self, _remove, self.path, lock)
        _held.add(self)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder and what is in it; more than once does no harm."""
        self._finalizer()


def _made(place: Path) -> tuple[Path, int]:
    """Make a folder, and return it with the descriptor that holds its lock."""
    while True:
        path = Path(mkdtemp(prefix=".", suffix=_MARK, dir=place))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # another process has taken it for an abandoned one before it was locked
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(path, descriptor):
            return path, descriptor
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Return whether a path names the folder that a descriptor has opened."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_abandoned(place: Path) -> None:
    """Remove the scratch folders of processes that have ended without doing so."""
    with suppress(OSError):
        for path in place.glob(f".*{_MARK}"):
            with suppress(OSError):
                # Nobody else's, and never by way of a link.
                if path.lstat().st_uid == os.geteuid():
                    _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)  # its process lives, or nobody can tell
    else:
        _remove(path, descriptor)


def _remove(path: Path, lock: int) -> None:
    """Remove a folder while its lock is held, and let go of that."""
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
