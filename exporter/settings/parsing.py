"""Names of settings and the texts that users write, read without the library that checks settings as a whole.

A process that is handed settings needs no more than this. Each reader says in a predicate what is wrong with a text
("is not a duration; write it like ..."); `exporter.settings.loading` completes it with the name of the setting and the
value.
"""

import re
from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from exporter.logs import redact_loosely

ENVIRONMENT_PREFIX = "FAL_EXPORTER_"

_FAL_NAMES = {"key": "FAL_KEY", "key_file": "FAL_KEY_FILE"}
"""Settings that go by the names fal's own clients use."""

FILE_ONLY = frozenset({"entries", "budgets"})
"""Settings with a structure that only a file can give."""

NEVER_A_FLAG = frozenset({"key", "remote_write_password", "remote_write_token", "remote_write_headers"}) | FILE_ONLY
"""A key on a command line would be visible to every user of the machine."""

NEVER_IN_FILE = frozenset({"config_file"})

_LIKENESS = 0.62
"""Below it two names, of all that end in `_file` for example, are not alike enough to be taken for each other."""


def environment_name(field: str) -> str:
    """Return the environment variable of a setting."""
    return _FAL_NAMES.get(field) or ENVIRONMENT_PREFIX + field.upper()


def file_name(field: str) -> str:
    """Return the key of a setting in the configuration file."""
    return "accounts" if field == "entries" else field


def flag_name(field: str) -> str:
    """Return the flag of a setting."""
    return "--" + field.replace("_", "-")


def nearest(name: str, known: list[str]) -> str | None:
    """Return the known name that an unknown one was probably meant to be."""
    matches = get_close_matches(name, known, n=1, cutoff=_LIKENESS)
    return matches[0] if matches else None


class Origins(dict[str, str]):
    """Names under which the user wrote each setting, by field; one not written goes by its environment variable."""

    def __missing__(self, field: str) -> str:
        return file_name(field) if field in FILE_ONLY else environment_name(field)


_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit})?" for unit in _SECONDS))
_LONGEST = timedelta(days=36_500)

_BYTES = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
_SIZE = re.compile(r"(?P<count>[0-9]{1,15}) ?(?P<unit>GiB|MiB|KiB|B)?")


def parse_duration(text: str) -> timedelta:
    """Read a duration: whole numbers with a unit (w, d, h, m, s), each unit at most once, largest first.

    Raises:
        ValueError: the text is not a duration, for instance a number without a unit.
    """
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None:
        raise ValueError("is not a duration; write it like 90s, 5m, 1h30m or 30d")
    seconds = sum(int(match[unit] or 0) * length for unit, length in _SECONDS.items())
    if seconds > _LONGEST.total_seconds():
        raise ValueError("is longer than a hundred years")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Write whole seconds as `parse_duration` reads them, in the fewest units: `48h`, `8d`, `1h30m`."""
    rest = duration // timedelta(seconds=1)
    if 0 < rest <= 3 * _SECONDS["d"] and rest % _SECONDS["h"] == 0:
        return f"{rest // _SECONDS['h']}h"
    text = ""
    for unit, length in _SECONDS.items():
        count, left = divmod(rest, length)
        if count and unit != "w":
            text, rest = f"{text}{count}{unit}", left
    return text or "0s"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by a name or an address that leads nowhere else."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def parse_size(text: str) -> int:
    """Read a size as a number of bytes; a number without a unit is bytes.

    Raises:
        ValueError: the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a size; write it like 512KiB, 64MiB or 1GiB")
    return int(match["count"]) * _BYTES[match["unit"] or "B"]


def format_size(size: int) -> str:
    """Write a number of bytes as `parse_size` reads it, in the largest unit that divides it."""
    unit, length = next((unit, length) for unit, length in _BYTES.items() if size % length == 0)
    return f"{size // length}{unit}"


_LISTEN = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]*)):(?P<port>[0-9]{1,5})")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_HOST_NAME = re.compile(r"\*|(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_LARGEST_PORT = 65_535
_SQLITE_FILE = re.compile(r"sqlite(?:\+pysqlite)?:///(?!:memory:)[^?#]+")
_SERVER = r"(?:\[[^\]\s]+\]|[^/\s?:,@\[\]]*)(?::\d{1,5})?"
_POSTGRESQL = re.compile(rf"postgres(?:ql)?(?:\+psycopg)?://(?:[^/\s?]*@)?{_SERVER}(?:,{_SERVER})*/[^/\s?]+(?:\?\S*)?")


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
        ValueError: the text is not one of them.
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
        raise ValueError("contains user information, which is not supported; set the key with its own setting")
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


_EVENTS_URL = re.compile(
    r"file:///[^?#\s]*|(?:s3|gs|az)://[^/\s?#]+(?:/[^?#\s]*)?|clickhouses?://(?:[^/\s@]*@)?[^/\s@?#]+(?:/[^/\s?#]+)?"
)


def check_events_url(text: str) -> str:
    """Return the URL of a store of requests.

    Raises:
        ValueError: it is not one; the sentence does not repeat it, since it may hold a password.
    """
    try:
        is_port = urlsplit(text.strip()).port != 0
    except ValueError:
        is_port = False
    if not (is_port and _EVENTS_URL.fullmatch(text.strip())):
        raise ValueError(
            "is not the URL of a folder, an object store or a ClickHouse database; write it like "
            "file:///var/lib/fal-exporter/requests, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or "
            "clickhouse://user:password@host:8123/database"
        )
    return text.strip()


_PUSH_URL = re.compile(r"file:///[^?#\s]*|(?:s3|gs|az)://[^/\s?#@]+(?:/[^?#\s]*)?")


def check_push_url(text: str) -> str:
    """Return the URL of the destination of FOCUS files; credentials are no part of it.

    Raises:
        ValueError: it is not one.
    """
    if not _PUSH_URL.fullmatch(text.strip()):
        raise ValueError(
            "is not the URL of a folder or an object store; write it like file:///var/lib/fal-exporter/focus, "
            "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, and give credentials in the environment"
        )
    return text.strip()


COST_SERVICES = ("datadog", "vantage")
"""Services that months are uploaded to."""

PUSH_FORMATS = ("csv", "csv.gz", "csv.zst", "parquet")
PUSH_VERSIONS = ("1.2", "1.3", "1.4")
"""Formats of FOCUS files that are pushed."""

SOURCES = ("models", "serverless", "compute", "organization", "reporting", "focus")
"""The primary sources, by name."""

LABELS = ("account", "team", "product", "model", "app", "environment", "gpu_class", "api_key", "member", "surge")
"""The dimensions of a charge that may be labels, in the order in which they are published."""

DEFAULT_LABELS = ("account", "team", "product", "model", "app", "gpu_class")


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+(?: +[\x21-\x7e]+)*")
_OUR_HEADERS = frozenset({"authorization", "content-type", "content-encoding", "content-length", "host", "user-agent"})
_LABEL_NAME = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")


def parse_headers(text: str) -> dict[str, str]:
    """Read headers of requests, `Name=value` separated by commas.

    Raises:
        ValueError: one is not a header, or it is written by the exporter itself; no value is repeated.
    """
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.partition("=")
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise ValueError("is not a list of headers; write them like X-Scope-OrgID=team,X-Other=value")
        if name.lower() in _OUR_HEADERS or name.lower().startswith("x-prometheus-remote-write"):
            raise ValueError(f"contains {name}, which is written by the exporter; leave it out")
        found[name] = value
    return found


def parse_extra_labels(texts: Iterable[str]) -> tuple[str, ...]:
    """Read labels, `name=value` each, other than those of charges.

    Raises:
        ValueError: one is not a label, or its name is one of a charge's labels.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (_LABEL_NAME.fullmatch(name) and value):
            raise ValueError("is not a list of labels; write them like cluster=prod,region=eu")
        if name in {*LABELS, "unit"}:
            raise ValueError(f"contains {name}, which is a label of charges; choose another name")
        found[name] = value
    return tuple(f"{name}={value}" for name, value in found.items())


_ENDPOINT = re.compile(r"[\w.-]+(?:/[\w.-]+)+")


def choose_sources(names: Iterable[str]) -> tuple[str, ...] | None:
    """Return the named sources in their fixed order, or None for `auto`: chosen by what the key can read.

    Raises:
        ValueError: a name is unknown or repeated, none is given, or two sources hold the same charges.
    """
    chosen = list(names)
    if chosen == ["auto"]:
        return None
    _check_names(chosen, SOURCES, "source", "auto alone, or any of ")
    for alone in ("reporting", "focus"):
        if alone in chosen and len(chosen) > 1:
            raise ValueError(
                f"combines {alone} with another source; each reports the same spend, so charges would be counted "
                f"twice: keep either {alone} or the others"
            )
    if "organization" in chosen and len(chosen) > 1:
        raise ValueError(
            "combines organization with models, serverless or compute; organization contains what they report, so "
            "charges would be counted twice: keep either organization or the others"
        )
    return tuple(source for source in SOURCES if source in chosen)


def choose_services(names: Iterable[str]) -> tuple[str, ...]:
    """Return the named cost services in their fixed order.

    Raises:
        ValueError: a name is unknown or repeated.
    """
    chosen = list(names)
    if chosen:
        _check_names(chosen, COST_SERVICES, "cost service", "any of ")
    return tuple(name for name in COST_SERVICES if name in chosen)


def choose_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Return the named labels in their fixed order.

    Raises:
        ValueError: a name is unknown or repeated, or `account` is missing.
    """
    chosen = list(names)
    _check_names(chosen, LABELS, "label", "some of ")
    if "account" not in chosen:
        raise ValueError("leaves out account, which distinguishes the accounts; add it")
    return tuple(label for label in LABELS if label in chosen)


def choose_endpoints(names: Iterable[str]) -> tuple[str, ...]:
    """Return the named model endpoints, each once.

    Raises:
        ValueError: a name is not that of an endpoint.
    """
    chosen = tuple(dict.fromkeys(names))
    if not all(_ENDPOINT.fullmatch(name) for name in chosen):
        raise ValueError("names something that is not a model endpoint; write them like fal-ai/flux/dev")
    return chosen


def _check_names(chosen: list[str], known: tuple[str, ...], noun: str, choice: str) -> None:
    if not chosen:
        raise ValueError(f"names no {noun}; choose {choice}{', '.join(known)}")
    for name in chosen:
        if name not in known:
            raise ValueError(
                f'names the unknown {noun} "{redact_loosely(name)[:40]}"; choose {choice}{", ".join(known)}'
            )
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"names a {noun} twice; name each once")
