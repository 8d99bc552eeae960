"""An object store of Amazon, Google or Azure as a place for files, which DuckDB reads by ranges.

Its libraries come with the extra `events`; `exporter.events.objects` opens it, and says so where they are missing.
"""

import os
import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile
from obstore.exceptions import BaseError
from obstore.store import from_url

from exporter.errors import ConfigurationError
from exporter.events.objects import REQUESTS, Use, first_line, one_sentence
from exporter.unfinished import ScratchFolder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from obstore.store import ObjectStore


class Bucket:
    """An object store: a bucket or container, and a prefix in it.

    Args:
        url: `s3://bucket/prefix`, `gs://...` or `az://...`; credentials come from the environment, as with the
            providers' own tools.
        use: what it is for.

    Raises:
        ConfigurationError: the address or the credentials cannot be used.
    """

    def __init__(self, url: str, use: Use = REQUESTS) -> None:
        self._url = url
        self.use = use
        self._made: ScratchFolder | None = None
        try:
            self._store: ObjectStore = from_url(
                url, client_options={"allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"}
            )
        except (BaseError, ValueError) as error:
            raise ConfigurationError(
                f"{use.setting} ({url}) cannot be used: {first_line(error)}; check the address and the "
                "credentials in the environment"
            ) from None

    def __str__(self) -> str:
        return self._url

    def names(self, folder: str) -> list[str]:
        """Return the names of all objects below a folder."""
        with one_sentence(self):
            # A prefix without its slash: stores treat it as a whole path segment.
            pages = obstore.list(self._store, prefix=folder.rstrip("/") or None)
            return sorted(str(entry["path"]) for page in pages for entry in page)

    def get(self, name: str) -> bytes | None:
        """Return an object's content."""
        with one_sentence(self):
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except FileNotFoundError:
                return None

    def put(self, name: str, content: bytes) -> None:
        """Write an object, in one request."""
        with one_sentence(self):
            obstore.put(self._store, name, content, use_multipart=False)

    def unfinished(self) -> Path:
        """Return a path in a folder of this process."""
        if self._made is None or not self._made.path.is_dir():
            self._made = ScratchFolder()
        return self._made.path / secrets.token_hex(8)

    def take(self, made: Path, name: str) -> None:
        """Write a file as an object: it is there once the last byte has come."""
        with one_sentence(self):
            obstore.put(self._store, name, made)
            made.unlink()

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects."""
        with one_sentence(self):
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
        connection.register_filesystem(_RemoteFiles(self._store))


_BLOCK = 2**18
"""Bytes that are read ahead: a footer of a file fits, and the columns of some row groups."""


class _RemoteFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(obstore.get_range(self.fs.store, self.path, start=start, end=end))


class _RemoteFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    protocol = "requests"
    cachable = False

    def __init__(self, store: "ObjectStore") -> None:
        super().__init__()
        self.store = store

    def info(self, path: str, **_: object) -> dict[str, object]:
        name = self._strip_protocol(path)
        return {"name": name, "size": obstore.head(self.store, name)["size"], "type": "file"}

    def modified(self, path: str) -> datetime:
        modified: datetime = obstore.head(self.store, self._strip_protocol(path))["last_modified"]
        return modified

    def glob(self, path: str, **_: object) -> list[str]:
        # Names are always given in full.
        return [self._strip_protocol(path)]

    def _open(self, path: str, mode: str = "rb", **_: object) -> _RemoteFile:
        return _RemoteFile(self, path, mode=mode, block_size=_BLOCK, cache_type="readahead")
