"""Callers without credentials: which of them may see what is spent.

While neither tokens nor users nor client certificates say who may ask, REST, the landing page and MCP answer programs
on this machine alone, which is enough for a first look and for `kubectl port-forward`; scrapes and probes are answered
to everybody, as every exporter does. Whoever wants more says so by a setting.

A page of a hostile site could have its own name resolve to an address of this machine (DNS rebinding), and so ask from
a user's browser; the name in `Host` gives it away.
"""

import ipaddress
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.types import Receive, Scope

from exporter.web.auth import Refusal


class Hosts:
    """The names by which the endpoint may be called.

    A page of a hostile site can have its own name resolve to an address of this machine (DNS rebinding) and then talk
    to the endpoint from a user's browser; the name in `Host` and `Origin` gives it away. An address written in digits
    cannot be rebound, so as a host it is always known; as an origin it is known if it is this machine or the host.

    Args:
        names: further names, `*.example.com` for all below one, `*` for any.
    """

    def __init__(self, names: Iterable[str]) -> None:
        lowered = [name.lower() for name in names]
        self._any = "*" in lowered
        self._names = {"localhost", *lowered}
        self._suffixes = (".localhost", *(name[1:] for name in lowered if name.startswith("*.")))

    def knows_host(self, host: str) -> bool:
        """Return whether a request with this `Host` may be answered."""
        name = _name_of(host)
        return self._is_listed(name) or _address(name) is not None

    def knows_origin(self, origin: str, host: str) -> bool:
        """Return whether a page of this `Origin` may ask."""
        scheme, _, authority = origin.lower().partition("://")
        name = _name_of(authority) if scheme in {"http", "https"} else ""
        address = _address(name)
        return bool(name) and (
            self._is_listed(name) or authority == host.lower() or (address is not None and address.is_loopback)
        )

    def _is_listed(self, name: str) -> bool:
        return self._any or name in self._names or name.endswith(self._suffixes)


_OF_PROXIES = frozenset({b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip"})
"""Headers by which a proxy says that it asks for others; those that begin with `x-forwarded-` as well."""


class Callers:
    """Refuses callers whom nobody has said to be welcome.

    Args:
        what: is not told to everybody, as the subject of a sentence.
        credentials: the settings by which callers have credentials, as the end of a sentence.
        has_credentials: tells whether all callers who get here have shown credentials.
        is_open: whether callers of every machine are answered without.
        hosts: names by which callers may ask; None where those are checked elsewhere.
    """

    def __init__(
        self,
        *,
        what: str,
        credentials: str,
        has_credentials: Callable[[], bool],
        is_open: bool,
        hosts: Hosts | None = None,
    ) -> None:
        self._what = what
        self._credentials = credentials
        self._has_credentials = has_credentials
        self._is_open = is_open
        self._hosts = hosts

    def refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request is refused, or None where it is answered."""
        if self._has_credentials():
            return None
        names = {name for name, _ in scope["headers"]}
        if not self._is_open and not _is_of_this_machine(scope, names):
            return Refusal(
                HTTPStatus.FORBIDDEN,
                f"{self._what}: only requests from this machine are answered; to allow others, set "
                f"{self._credentials}, or set FAL_EXPORTER_OPEN=true to answer anyone who can reach this port",
            )
        host = host_of(scope)
        if self._hosts is not None and not self._hosts.knows_host(host):
            return Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"the host {host[:100]!r} is not allowed; add it to FAL_EXPORTER_ALLOWED_HOSTS",
            )
        return None


def host_of(scope: Scope) -> str:
    """Return the host that a request is for; empty for several, as nobody knows which of them is meant."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return hosts[0] if len(hosts) == 1 else ""


def _is_of_this_machine(scope: Scope, headers: Collection[bytes]) -> bool:
    """Return whether a program on this machine asks for itself; a proxy that says so asks for others."""
    client = scope.get("client")
    address = _address(client[0]) if client else None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address is None or not address.is_loopback:
        return False
    return not any(name in _OF_PROXIES or name.startswith(b"x-forwarded-") for name in headers)


def _name_of(host: str) -> str:
    """Return a host without its port, in lower case; an IPv6 address without its brackets. Empty for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


@lru_cache(maxsize=64)
def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


async def caller_gone(receive: Receive) -> None:
    """Wait until a caller has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
