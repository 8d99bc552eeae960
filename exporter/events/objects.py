"""Places for files: a folder, or an object store of Amazon, Google or Azure. A file is there whole, or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from exporter.errors import EventsError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_UNFINISHED = ".unfinished"

MISSING_EXTRA = (
    "EVENTS needs libraries that are not installed; install fal-exporter[events], or leave FAL_EXPORTER_EVENTS unset"
)


class DamagedFileError(EventsError):
    """A file is not as it was written.

    Args:
        message: a sentence.
        said: by what reads it, with the file's name.
    """

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


class Use(NamedTuple):
    """Use of a place, as sentences about it name it.

    Attributes:
        what: is kept there.
        setting: has the address.
        missing: what is said where the libraries are missing.
    """

    what: str
    setting: str
    missing: str


REQUESTS = Use("the store of requests", "FAL_EXPORTER_EVENTS_URL", MISSING_EXTRA)


class Objects(Protocol):
    """Files by name; a name is a path with slashes below the root.

    Raises:
        EventsError: from every method: the place cannot be read or written.
    """

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below a folder, which ends in a slash; none where there is no such folder."""

    def get(self, name: str) -> bytes | None:
        """Return a file's content; None where there is none."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file, in place of one of that name."""

    def unfinished(self) -> Path:
        """Return a path on this machine at which a file may be made, to be handed to `take`."""

    def take(self, made: Path, name: str) -> None:
        """Give a file that was made its name, in place of one of that name; it is gone from where it was made."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, in this order; one that is not there is passed over."""

    def address(self, name: str) -> str:
        """Return the path or address by which DuckDB reads a file."""

    def attach(self, connection: "DuckDBPyConnection") -> None:
        """Let a connection of DuckDB read these addresses."""


class Placed(Protocol):
    """A place with a use; its text is its address."""

    use: Use


class Folder:
    """A folder on this machine.

    Args:
        root: made where it is missing.
        use: what it is for.
    """

    def __init__(self, root: Path, use: Use = REQUESTS) -> None:
        self._root = root.absolute()
        self.use = use

    def __str__(self) -> str:
        return str(self._root)

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below a folder."""
        with one_sentence(self):
            start = self._root / folder
            return sorted(
                str(Path(path, name).relative_to(self._root))
                for path, _, names in os.walk(start)
                for name in names
                if not name.startswith(".")
            )

    def get(self, name: str) -> bytes | None:
        """Return a file's content."""
        with one_sentence(self):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def put(self, name: str, content: bytes) -> None:
        """Write a file."""
        made = self.unfinished()
        with one_sentence(self):
            made.write_bytes(content)
        self.take(made, name)

    def unfinished(self) -> Path:
        """Return a path beside the store's files, so that giving a file its name is one step."""
        with one_sentence(self):
            place = self._root / _UNFINISHED
            place.mkdir(parents=True, exist_ok=True)
            return place / secrets.token_hex(8)

    def take(self, made: Path, name: str) -> None:
        """Give a file its name once the disk has its content."""
        with one_sentence(self):
            with made.open("rb") as file:
                os.fsync(file.fileno())
            place = self._root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            made.replace(place)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, and folders that are empty then."""
        with one_sentence(self):
            for name in names:
                place = self._root / name
                place.unlink(missing_ok=True)
                if place.parent != self._root and place.parent.is_dir() and not any(place.parent.iterdir()):
                    place.parent.rmdir()

    def address(self, name: str) -> str:
        """Return the path."""
        return str(self._root / name)

    def attach(self, connection: "DuckDBPyConnection") -> None:
        """Nothing is needed: DuckDB reads files."""

    def clean(self) -> None:
        """Delete what earlier processes have left unfinished; only for the one process that writes."""
        shutil.rmtree(self._root / _UNFINISHED, ignore_errors=True)


@contextmanager
def one_sentence(place: Placed) -> Iterator[None]:
    """Turn what goes wrong with files into one sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise EventsError(_sentence(place, error)) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in {"obstore", "pyo3_object_store"}:
            raise
        raise EventsError(_sentence(place, error)) from None


def _sentence(place: Placed, error: Exception) -> str:
    return (
        f"{place.use.what} at {place} cannot be read or written: {first_line(error)}; check that it is there, "
        "has room, and may be read and written by the exporter"
    )


def first_line(error: Exception) -> str:
    """Return what went wrong, in one line."""
    shown = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(shown.splitlines()[:1])[:300]
