"""Secrets: keys of fal accounts and tokens of callers, their shape and where they are read from.

A key is asked for whenever a request needs it, through a `KeySource`, so that a rotated key is used without a restart.

A line is `name: sha256:HEX`; blank lines and lines that begin with `#` are nothing. `fal-exporter token` makes both. A
token is 256 random bits, so that a plain hash of it cannot be turned around; words that people choose would need a
slow one, and are not provided for.
"""

import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import structlog

from exporter.errors import ConfigurationError
from exporter.logs import Secret

KeySource = Callable[[], Secret]
"""Returns the key to use now."""

_LARGEST_KEY_FILE = 4096


def open_regular(path: Path) -> TextIO:
    """Open a file to read its text, UTF-8 with or without a byte order mark.

    Of a pipe the opening alone could take for ever, and what was read would be gone for the next reader.

    Raises:
        OSError: it cannot be opened, or it is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "not a regular file, which can be read again; write it to one")
    return os.fdopen(descriptor, encoding="utf-8-sig")


class HiddenText:
    """Text that is not shown unasked; for processes that do not load pydantic and its `SecretStr`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return f"{type(self).__name__}('**********')"

    def __str__(self) -> str:
        return "**********"

    def __eq__(self, other: object) -> bool:
        return hasattr(other, "get_secret_value") and other.get_secret_value() == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def checked_key(text: str) -> Secret:
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
        raise ValueError('starts with an authorization scheme such as "Key"; give only the key, key_id:key_secret')
    if re.search(r"\s", key):
        raise ValueError("contains spaces or line breaks; give a single key, key_id:key_secret")
    identity, colon, secret = key.partition(":")
    if not (identity and colon and secret and key.isascii() and key.isprintable()):
        raise ValueError("is not a fal key; it looks like key_id:key_secret")
    return HiddenText(key)


@dataclass(frozen=True, slots=True)
class FixedKey:
    """A key that was given as a value and stays the same."""

    key: Secret

    def __call__(self) -> Secret:
        """Return the key."""
        return self.key


def read_key(path: Path) -> Secret:
    """Return the key in a file.

    Raises:
        ValueError: there is none; the sentence says why, without a part of the key.
    """
    try:
        with open_regular(path) as file:
            text = file.read(_LARGEST_KEY_FILE)
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'input/output error').lower()}") from None
    except UnicodeDecodeError:
        raise ValueError("is not a text file") from None
    try:
        return checked_key(text)
    except ValueError as error:
        raise ValueError(f"is a file whose content {error}") from None


FileStamp = tuple[int, ...]


def stamp_of(path: Path) -> FileStamp | None:
    """Return what changes with a file at a path, whether it is written to or replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_size


class KeyFile:
    """A key in a file, read again when the file changes.

    A file that vanishes or holds no key for a moment (a secret being rotated) does not take the last good key away;
    that is logged once, until the file is good again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: Secret | None = None
        self._seen: FileStamp | None = None

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same file, whatever is in it now."""
        return isinstance(other, KeyFile) and self._path == other._path

    def __hash__(self) -> int:
        return hash(self._path)

    def __call__(self) -> Secret:
        """Return the file's key as it is now, else the last good one.

        Raises:
            ConfigurationError: there is no good key, and never was.
        """
        seen = stamp_of(self._path)
        if self._key is not None and seen == self._seen:
            return self._key
        self._seen = seen
        try:
            self._key = read_key(self._path)
        except ValueError as error:
            if self._key is None:
                raise ConfigurationError(f'the key file "{self._path}" {error}') from None
            structlog.get_logger(__name__).warning(
                "the key file cannot be used; the last good key stays in use", file=str(self._path), problem=str(error)
            )
        return self._key


@dataclass(frozen=True)
class Account:
    """One fal account.

    Attributes:
        name: the value of the `account` label; unique.
        sources: the primary sources to poll, or None where they are chosen by what the key can read.
        key: returns the key to use now.
        credit_floor: the balance at which fal locks the account, in nano-USD.
    """

    name: str
    sources: tuple[str, ...] | None
    key: KeySource
    credit_floor: int = 0


_PREFIX = "falx_"
_BYTES = 32
_LARGEST_TOKEN_FILE = 2**20
_NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
_LINE = re.compile(rf"(?P<name>{_NAME})\s*:\s*sha256:(?P<digest>[0-9a-fA-F]{{64}})")


def new_token() -> Secret:
    """Return a new token."""
    return HiddenText(_PREFIX + secrets.token_urlsafe(_BYTES))


def token_line(name: str, token: Secret) -> str:
    """Return the line of a file that admits a token.

    Raises:
        ValueError: the name is not one.
    """
    if not re.fullmatch(_NAME, name):
        raise ValueError("is not a plain name; use up to 64 letters, digits and . _ @ -")
    return f"{name}: sha256:{_digest(token.get_secret_value()).hex()}"


_MOST_PROBLEMS = 3


def read_tokens(path: Path) -> Mapping[str, bytes]:
    """Return the hashes in a file by name.

    Raises:
        ValueError: it is no such file, or one of its lines is not valid; the predicate says why, without a part of any
            token.
    """

    def refuse(problem: str) -> None:
        raise ValueError(problem)

    return _tokens_in(path, refuse)


def _tokens_in(path: Path, refuse: Callable[[str], None]) -> Mapping[str, bytes]:
    try:
        with open_regular(path) as file:
            text = file.read(_LARGEST_TOKEN_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'input/output error').lower()}") from None
    except UnicodeDecodeError:
        raise ValueError("is not a text file") from None
    if len(text) > _LARGEST_TOKEN_FILE:
        raise ValueError("is larger than 1 MiB; a tokens file has one short line per token")
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        match = _LINE.fullmatch(content)
        if match is None:
            refuse(f"has a malformed line {number}; a line is `name: sha256:HEX`, as fal-exporter token prints it")
        elif match["name"] in found:
            refuse(f'has the name "{match["name"]}" twice; give each token its own name')
        else:
            found[match["name"]] = bytes.fromhex(match["digest"])
    return found


def checked_tokens(path: Path) -> Path:
    """Return the path of a file that admits somebody.

    Raises:
        ValueError: it does not; the predicate says why.
    """
    if not read_tokens(path):
        raise ValueError("contains no token; create one with fal-exporter token")
    return path


class TokenFile:
    """Tokens that are admitted, from a file that is read again when it changes.

    What the file no longer grants is refused at once: a line with an error admits nobody, and a file that is gone or
    cannot be read admits nobody at all. That is logged, and told by `problem` until the file is good again.

    Raises:
        ConfigurationError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = stamp_of(self._path)
        self._problem = ""
        try:
            self._digests = read_tokens(path)
        except ValueError as error:
            raise ConfigurationError(f'the tokens file "{path}" {error}') from None

    @property
    def problem(self) -> str:
        """Why the file as it is now cannot be used as a whole; empty while it can."""
        self._refresh()
        return self._problem

    def name_of(self, token: str) -> str | None:
        """Return the name that a token goes by, or None for a stranger's.

        It is compared with every hash, each in a time that does not depend on where they differ.
        """
        self._refresh()
        digest = _digest(token)
        name = None
        for known, expected in self._digests.items():
            if hmac.compare_digest(digest, expected):
                name = known
        return name

    def _refresh(self) -> None:
        seen = stamp_of(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        log = structlog.get_logger(__name__)
        problems: list[str] = []
        try:
            self._digests = _tokens_in(self._path, problems.append)
        except ValueError as error:
            self._digests = {}
            problems.append(str(error))
        self._problem = "; ".join(problems[:_MOST_PROBLEMS])
        if problems:
            log.error(
                "the tokens file has errors; only the tokens of its good lines are admitted",
                file=str(self._path),
                problem=self._problem,
                tokens=len(self._digests),
            )
        else:
            log.info("the tokens file was reloaded", file=str(self._path), tokens=len(self._digests))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
