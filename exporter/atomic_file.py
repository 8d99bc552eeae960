"""Files that appear under their name only when they are whole."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(whole)
    finally:
        unfinished.unlink(missing_ok=True)
