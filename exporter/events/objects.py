"""Places for files: a folder, or an object store of Amazon, Google or Azure. A file is there whole, or not at all."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from exporter.errors import ConfigurationError, EventsError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from obstore.store import ObjectStore

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
        with _clear(self):
            start = self._root / folder
            return sorted(
                str(Path(path, name).relative_to(self._root))
                for path, _, names in os.walk(start)
                for name in names
                if not name.startswith(".")
            )

    def get(self, name: str) -> bytes | None:
        """Return a file's content."""
        with _clear(self):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def put(self, name: str, content: bytes) -> None:
        """Write a file."""
        made = self.unfinished()
        with _clear(self):
            made.write_bytes(content)
        self.take(made, name)

    def unfinished(self) -> Path:
        """Return a path beside the store's files, so that giving a file its name is one step."""
        with _clear(self):
            place = self._root / _UNFINISHED
            place.mkdir(parents=True, exist_ok=True)
            return place / secrets.token_hex(8)

    def take(self, made: Path, name: str) -> None:
        """Give a file its name once the disk has its content."""
        with _clear(self):
            with made.open("rb") as file:
                os.fsync(file.fileno())
            place = self._root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            made.replace(place)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, and folders that are empty then."""
        with _clear(self):
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


class Bucket:
    """An object store: a bucket or container, and a prefix in it.

    Args:
        url: `s3://bucket/prefix`, `gs://...` or `az://...`; credentials come from the environment, as with the
            providers' own tools.
        use: what it is for.

    Raises:
        ConfigurationError: the libraries are missing, or the address or the credentials cannot be used.
    """

    def __init__(self, url: str, use: Use = REQUESTS) -> None:
        try:
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError:
            raise ConfigurationError(use.missing) from None
        self._url = url
        self.use = use
        self._made: Path | None = None
        try:
            self._store: ObjectStore = from_url(
                url, client_options={"allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"}
            )
        except (BaseError, ValueError) as error:
            raise ConfigurationError(
                f"{use.setting} ({url}) cannot be used: {_first_line(error)}; check the address and the "
                "credentials in the environment"
            ) from None

    def __str__(self) -> str:
        return self._url

    def names(self, folder: str) -> list[str]:
        """Return the names of all objects below a folder."""
        import obstore

        with _clear(self):
            # A prefix without its slash: stores treat it as a whole path segment.
            pages = obstore.list(self._store, prefix=folder.rstrip("/") or None)
            return sorted(str(entry["path"]) for page in pages for entry in page)

    def get(self, name: str) -> bytes | None:
        """Return an object's content."""
        import obstore

        with _clear(self):
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except FileNotFoundError:
                return None

    def put(self, name: str, content: bytes) -> None:
        """Write an object, in one request."""
        import obstore

        with _clear(self):
            obstore.put(self._store, name, content, use_multipart=False)

    def unfinished(self) -> Path:
        """Return a path in a folder of this process."""
        if self._made is None or not self._made.is_dir():
            self._made = Path(tempfile.mkdtemp(prefix="fal-exporter-"))
        return self._made / secrets.token_hex(8)

    def take(self, made: Path, name: str) -> None:
        """Write a file as an object: it is there once the last byte has come."""
        import obstore

        with _clear(self):
            obstore.put(self._store, name, made)
            made.unlink()

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects."""
        import obstore

        with _clear(self):
            for name in names:
                try:
                    obstore.delete(self._store, name)
                except FileNotFoundError:
                    continue

    def address(self, name: str) -> str:
        """Return an address of the file system that `attach` has made known."""
        return f"requests://{name}"

    def attach(self, connection: "DuckDBPyConnection") -> None:
        """Make the store known to DuckDB, which reads the parts of files that it needs."""
        from exporter.events.remote_files import remote_files

        connection.register_filesystem(remote_files(self._store))


def open_objects(url: str, use: Use = REQUESTS) -> Folder | Bucket:
    """Open the place with an address.

    Raises:
        ConfigurationError: it is none, or its libraries are missing.
    """
    parts = urlsplit(url)
    return Folder(Path(unquote(parts.path)), use) if parts.scheme == "file" else Bucket(url, use)


@contextmanager
def _clear(place: Folder | Bucket) -> Iterator[None]:
    """Turn what goes wrong with files into one sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise EventsError(_sentence(place, error)) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in {"obstore", "pyo3_object_store"}:
            raise
        raise EventsError(_sentence(place, error)) from None


def _sentence(place: Folder | Bucket, error: Exception) -> str:
    return (
        f"{place.use.what} at {place} cannot be read or written: {_first_line(error)}; check that it is there, "
        "has room, and may be read and written by the exporter"
    )


def _first_line(error: Exception) -> str:
    shown = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(shown.splitlines()[:1])[:300]
