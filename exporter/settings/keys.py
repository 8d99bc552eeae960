"""Keys of fal accounts: their shape, and where they are read from.

A key is asked for whenever a request needs it, through a `KeySource`, so that a rotated key is used without a restart.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import SecretStr

from exporter.errors import ConfigurationError

KeySource = Callable[[], SecretStr]
"""Returns the key to use now."""

_LARGEST_FILE = 4096


def checked_key(text: str) -> SecretStr:
    """Return a key whose shape is plausible: `key_id:key_secret`, surrounding blanks and newlines taken off.

    Raises:
        ValueError: the shape is wrong; the sentence says how, without a part of the key.
    """
    key = text.strip()
    if not key:
        raise ValueError("is empty; a fal key looks like key_id:key_secret")
    if key[0] in "\"'" or key[-1] in "\"'":
        raise ValueError("has quotes around the key; give the key without them")
    if re.match(r"(?:authorization:\s*)?(?:key|bearer)\s", key, re.IGNORECASE):
        raise ValueError('starts with the word of a header, like "Key"; give the key alone, key_id:key_secret')
    if re.search(r"\s", key):
        raise ValueError("has blanks or line breaks inside the key; give one key, key_id:key_secret")
    identity, colon, secret = key.partition(":")
    if not (identity and colon and secret and key.isascii() and key.isprintable()):
        raise ValueError("is not a fal key; it looks like key_id:key_secret")
    return SecretStr(key)


@dataclass(frozen=True, slots=True)
class FixedKey:
    """A key that was given as a value and stays the same."""

    key: SecretStr

    def __call__(self) -> SecretStr:
        """Return the key."""
        return self.key


def read_key(path: Path) -> SecretStr:
    """Return the key in a file.

    Raises:
        ValueError: there is none; the sentence says why, without a part of the key.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE)
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'input/output error').lower()}") from None
    except UnicodeDecodeError:
        raise ValueError("is not a text file") from None
    try:
        return checked_key(text)
    except ValueError as error:
        raise ValueError(f"is a file whose content {error}") from None


class KeyFile:
    """A key in a file, read again when the file changes.

    A file that vanishes or holds no key for a moment (a secret being rotated) does not take the last good key away;
    that is logged once, until the file is good again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: SecretStr | None = None
        self._seen: tuple[int, ...] | None = None

    def __call__(self) -> SecretStr:
        """Return the file's key as it is now, else the last good one.

        Raises:
            ConfigurationError: there is no good key, and never was.
        """
        seen = self._stamp()
        if self._key is not None and seen == self._seen:
            return self._key
        self._seen = seen
        try:
            self._key = read_key(self._path)
        except ValueError as error:
            if self._key is None:
                raise ConfigurationError(f'the key file "{self._path}" {error}') from None
            structlog.get_logger(__name__).warning(
                "the key file is unusable, the last good key stays in use", file=str(self._path), problem=str(error)
            )
        return self._key

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_size
