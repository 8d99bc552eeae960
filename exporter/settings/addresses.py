"""The addresses settings hold: where to listen, where fal is, where the ledger lies."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

_LISTEN = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]*)):(?P<port>[0-9]{1,5})")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_HOST_NAME = re.compile(r"\*|(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_LARGEST_PORT = 65_535
_SQLITE_FILE = re.compile(r"sqlite(?:\+pysqlite)?:///(?!:memory:)[^?#]+")
_POSTGRESQL = re.compile(r"postgresql(?:\+psycopg)?://[^/\s]*/[^/\s]+")


class Listen(NamedTuple):
    """An address to listen on.

    Attributes:
        host: a host name or an IP address, an IPv6 one without brackets.
        port: 0 lets the system choose a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> "Listen":
        """The same address as a client on this machine reaches it: a wildcard becomes the loopback address."""
        return Listen({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)  # noqa: S104  named, not bound


def parse_listen(text: str) -> Listen:
    """Read `host:port`, `[::1]:8080`, or `:8080` for all IPv4 addresses.

    Raises:
        ValueError: the text is none of them.
    """
    match = _LISTEN.fullmatch(text.strip())
    if match is None or int(match["port"]) > _LARGEST_PORT:
        raise ValueError("is not an address to listen on; write it like 0.0.0.0:8080, :8080 or [::]:8080")
    return Listen(match["six"] or match["name"] or "0.0.0.0", int(match["port"]))  # noqa: S104  the user wrote `:port`


def parse_base_url(text: str) -> str:
    """Read the base URL of an HTTP interface; it is returned without a trailing slash.

    Raises:
        ValueError: it is not an http(s) URL of just host, port and path.
    """
    try:
        parts = urlsplit(text.strip())
        well_formed = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or re.search(r"\s", text.strip()):
        raise ValueError("is not an http or https URL; write it like https://api.fal.ai/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has user information, which is not supported; the key has settings of its own")
    if parts.query or parts.fragment:
        raise ValueError("has a query or a fragment; a base URL ends with its path")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def check_origins(texts: list[str]) -> tuple[str, ...]:
    """Return the origins of web pages, as browsers send them; `*` alone is every page.

    Raises:
        ValueError: one is not an origin.
    """
    for text in texts:
        if text != "*" and not _ORIGIN.fullmatch(text):
            raise ValueError("is not a list of origins; write them like https://finops.example.com, or * for any")
    return tuple(texts)


def check_host_names(texts: list[str]) -> tuple[str, ...]:
    """Return names of hosts, in lower case; `*.` before one is every name below it, `*` alone is every name.

    Raises:
        ValueError: one is not a name.
    """
    for text in texts:
        if not _HOST_NAME.fullmatch(text):
            raise ValueError("is not a list of host names; write them without port, like mcp.example.com or *.svc")
    return tuple(text.lower() for text in texts)


def check_ledger_url(text: str) -> str:
    """Return the URL of a ledger that outlives the process.

    Raises:
        ValueError: it is not one; the sentence does not repeat it, since a database URL may hold a password.
    """
    if not (_SQLITE_FILE.fullmatch(text.strip()) or _POSTGRESQL.fullmatch(text.strip())):
        raise ValueError(
            "is not the URL of an SQLite file or a PostgreSQL database; write it like "
            "sqlite:////var/lib/fal-exporter/ledger.sqlite (three slashes before a relative path, four before an "
            "absolute one) or postgresql://user:password@host/database"
        )
    return text.strip()
