"""Proxies and certificate authorities that the environment names.

Every HTTP client of the exporter asks here instead of leaving the variables to its library: a wrong variable is
reported in one sentence before anything is sent, `NO_PROXY` takes networks, and a loopback address never goes through
a proxy.
"""

import importlib.util
import os
import re
import ssl
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from exporter.errors import ConfigurationError
from exporter.logs import redact_loosely

_SOCKS = frozenset({"socks5", "socks5h"})
_SCHEMES = frozenset({"http", "https"}) | _SOCKS
_DEFAULT_PORTS = {"http": 80, "https": 443}
_EXCEPTION = re.compile(
    r"(?:(?P<scheme>\w+)://)?(?:\[(?P<six>[^\]]*)\](?P<bits>/\d+)?|(?P<rest>[^\[\]]*?))(?::(?P<port>\d+))?"
)


class Proxy(NamedTuple):
    """A proxy.

    Attributes:
        variable: the environment variable that names it.
        url: its URL, which may hold a password.
    """

    variable: str
    url: str

    @property
    def is_tls(self) -> bool:
        """The connection to the proxy itself is encrypted."""
        return self.url.startswith("https:")

    def __str__(self) -> str:
        address = urlsplit(self.url).netloc.rpartition("@")[2]
        return f"the proxy of {self.variable} ({address})"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for requests to a URL, or None where they go directly.

    Raises:
        ConfigurationError: a variable that has to be read for this URL is wrong.
    """
    try:
        target = urlsplit(url)
        host, port = target.hostname, target.port or _DEFAULT_PORTS.get(target.scheme)
    except ValueError:
        return None  # the client itself says what is wrong with the URL
    if not host or is_loopback(host):
        return None
    for scheme in (target.scheme, "all"):
        variable, value = _variable(f"{scheme}_proxy")
        if value:
            return None if _is_excepted(target, host, port) else Proxy(variable, _proxy_url(variable, value))
    return None


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def named_authorities() -> ssl.SSLContext | None:
    """Return a context that trusts the certificate authorities of `SSL_CERT_FILE` or `SSL_CERT_DIR`.

    None where neither is set.

    Raises:
        ConfigurationError: a variable names no certificates.
    """
    if file := os.environ.get("SSL_CERT_FILE"):
        return _authorities_of(file)
    if folders := os.environ.get("SSL_CERT_DIR"):
        if not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
            raise ConfigurationError(
                f'SSL_CERT_DIR: "{redact_loosely(folders)}" is not a directory; name a directory of certificates '
                'prepared by "openssl rehash", or set SSL_CERT_FILE to a file'
            )
        return ssl.create_default_context(capath=folders)
    return None


def _authorities_of(file: str) -> ssl.SSLContext:
    named = f'SSL_CERT_FILE: "{redact_loosely(file)}"'
    if Path(file).is_dir():
        raise ConfigurationError(
            f"{named} is a directory; name a file of certificates, or set SSL_CERT_DIR to the directory"
        )
    try:
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ConfigurationError(
            f"{named} contains no certificate in PEM format; name a file that contains -----BEGIN CERTIFICATE-----"
        ) from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "it is not a path").lower()
        raise ConfigurationError(
            f"{named} cannot be read: {reason}; name a file of certificate authorities, or unset the variable"
        ) from None


def _variable(name: str) -> tuple[str, str]:
    """Return a variable's name as it is set, and its value; the lower-case name goes first, as everywhere."""
    written = name if name in os.environ else name.upper()
    return written, os.environ.get(written, "").strip()


def _proxy_url(variable: str, value: str) -> str:
    """Check the URL of a proxy. No message repeats it, since it may hold a password.

    Raises:
        ConfigurationError: it is not one, or needs an extra that is not installed.
    """
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        well_formed = bool(parts.hostname) and parts.port != 0 and not re.search(r"[\s\x00-\x1f\x7f]", url)
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ConfigurationError(f"{variable}: is not the URL of a proxy; write it like http://proxy.example:3128")
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"{variable}: names a proxy with the unsupported scheme {parts.scheme[:20]}; write it like "
            "http://proxy.example:3128 or socks5://proxy.example:1080"
        )
    if parts.scheme in _SOCKS and importlib.util.find_spec("socksio") is None:
        raise ConfigurationError(
            f"{variable}: names a SOCKS proxy, which needs the extra socks; install fal-exporter[socks], or name an "
            "HTTP proxy"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _is_excepted(target: SplitResult, host: str, port: int | None) -> bool:
    """Return whether `NO_PROXY` lists a host: by name, by the domain above it, by address or by network.

    Raises:
        ConfigurationError: an entry is neither.
    """
    variable, value = _variable("no_proxy")
    # Every entry is read, so that a wrong one is reported whatever stands before it.
    matches = [_matches(variable, entry, target.scheme, host, port) for entry in re.split(r"[,\s]+", value) if entry]
    return any(matches)


def _matches(variable: str, entry: str, scheme: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    try:
        return _entry_matches(entry.lower(), scheme, host, port)
    except ValueError:
        raise ConfigurationError(
            f'{variable}: "{redact_loosely(entry)[:60]}" is not a host, an address or a network; write entries like '
            "fal.ai, 10.0.0.0/8, fe80::/10 or [fd00::1]:8443, separated by commas"
        ) from None


def _entry_matches(entry: str, scheme: str, host: str, port: int | None) -> bool:
    """Compare a host with an entry.

    Raises:
        ValueError: it looks like an address or a network and is not one.
    """
    bare = entry.rpartition("://")[2]
    if bare.count(":") > 1 and "[" not in bare:  # an IPv6 address, which has no port without brackets
        return _address_matches(bare, host)
    read = _EXCEPTION.fullmatch(entry)
    if read is None:
        raise ValueError(entry)
    if (read["scheme"] or "all") not in {"all", scheme} or (read["port"] and int(read["port"]) != port):
        return False
    if read["six"] is not None:
        return _address_matches(read["six"] + (read["bits"] or ""), host)
    name = read["rest"]
    if re.fullmatch(r"\d+(?:\.\d+){3}(?:/.*)?", name):
        return _address_matches(name, host)
    name = name.partition("/")[0].removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _address_matches(network: str, host: str) -> bool:
    within = ip_network(network.partition("%")[0], strict=False)
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address in within
