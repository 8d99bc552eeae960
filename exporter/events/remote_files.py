"""Objects of an object store as files, which DuckDB reads by ranges."""

from datetime import datetime
from typing import TYPE_CHECKING

import obstore
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore

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


def remote_files(store: "ObjectStore") -> AbstractFileSystem:
    """Return an object store as a file system of fsspec."""
    return _RemoteFiles(store)
