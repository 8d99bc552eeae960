"""Files of tokens that admit callers: names and hashes, never the tokens themselves.

A line is `name: sha256:HEX`; blank lines and lines that begin with `#` are nothing. `fal-exporter token` makes both. A
token is 256 random bits, so that a plain hash of it cannot be turned around; words that people choose would need a
slow one, and are not provided for.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import structlog
from pydantic import SecretStr

from exporter.errors import ConfigurationError

_PREFIX = "falx_"
_BYTES = 32
_LARGEST_FILE = 2**20
_NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
_LINE = re.compile(rf"(?P<name>{_NAME})\s*:\s*sha256:(?P<digest>[0-9a-fA-F]{{64}})")


def new_token() -> SecretStr:
    """Return a new token."""
    return SecretStr(_PREFIX + secrets.token_urlsafe(_BYTES))


def token_line(name: str, token: SecretStr) -> str:
    """Return the line of a file that admits a token.

    Raises:
        ValueError: the name is not one.
    """
    if not re.fullmatch(_NAME, name):
        raise ValueError("is not a plain name; use up to 64 letters, digits and . _ @ -")
    return f"{name}: sha256:{_digest(token.get_secret_value()).hex()}"


def read_tokens(path: Path) -> Mapping[str, bytes]:
    """Return the hashes in a file by name.

    Raises:
        ValueError: it is no such file; the predicate says why, without a part of any token.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'input/output error').lower()}") from None
    except UnicodeDecodeError:
        raise ValueError("is not a text file") from None
    if len(text) > _LARGEST_FILE:
        raise ValueError("is larger than 1 MiB; it holds a line for each token")
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        match = _LINE.fullmatch(content)
        if match is None:
            raise ValueError(f"has a line {number} that is not `name: sha256:HEX`; fal-exporter token makes such lines")
        if match["name"] in found:
            raise ValueError(f'has the name "{match["name"]}" twice; give each token its own')
        found[match["name"]] = bytes.fromhex(match["digest"])
    return found


def checked_tokens(path: Path) -> Path:
    """Return the path of a file that admits somebody.

    Raises:
        ValueError: it does not; the predicate says why.
    """
    if not read_tokens(path):
        raise ValueError("holds no token; fal-exporter token makes one and its line")
    return path


class TokenFile:
    """Tells tokens that are admitted, by a file that is read again when it changes.

    A file that vanishes or is damaged later takes no token away; that is logged once, until it is good again. One that
    holds no token admits nobody.

    Raises:
        ConfigurationError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        try:
            self._digests = read_tokens(path)
        except ValueError as error:
            raise ConfigurationError(f'the tokens file "{path}" {error}') from None

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
        seen = self._stamp()
        if seen == self._seen:
            return
        self._seen = seen
        log = structlog.get_logger(__name__)
        try:
            self._digests = read_tokens(self._path)
        except ValueError as error:
            log.warning(
                "the tokens file is unusable, the last good tokens stay in use",
                file=str(self._path),
                problem=str(error),
            )
        else:
            log.info("the tokens file has been read again", file=str(self._path), tokens=len(self._digests))

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_size


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
