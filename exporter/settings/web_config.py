"""The web configuration: TLS, users, headers and a rate limit, in the file format that Prometheus exporters share.

The format is that of Prometheus' exporter-toolkit (`docs/web-configuration.md` there), so that one file and one habit
serve every exporter of a house. A file is read strictly: an unknown key, a value of the wrong kind and a combination
that cannot work are each told with the line. Two things differ, as Python's TLS has no such thing: client certificates
are verified or not asked for, and only Python 3.15 and later can offer more than one curve.
"""

import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from exporter.logs import Secret
from exporter.settings.credentials import HiddenText, open_regular
from exporter.settings.parsing import parse_duration

if TYPE_CHECKING:
    import yaml
    from typing_extensions import TypeIs

LARGEST_FILE = 2**20
"""Bytes; a certificate chain and a thousand users fit well."""

_T = TypeVar("_T")

CLIENT_AUTHENTICATION: Mapping[str, ssl.VerifyMode] = MappingProxyType(
    {
        "NoClientCert": ssl.CERT_NONE,
        "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
        "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
    }
)
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert")

VERSIONS: Mapping[str, ssl.TLSVersion] = MappingProxyType(
    {
        "TLS10": ssl.TLSVersion.TLSv1,
        "TLS11": ssl.TLSVersion.TLSv1_1,
        "TLS12": ssl.TLSVersion.TLSv1_2,
        "TLS13": ssl.TLSVersion.TLSv1_3,
    }
)

CURVES: Mapping[str, str] = MappingProxyType(
    {
        "CurveP256": "prime256v1",
        "CurveP384": "secp384r1",
        "CurveP521": "secp521r1",
        "X25519": "X25519",
        "X25519MLKEM768": "X25519MLKEM768",
    }
)
"""OpenSSL's name of each curve."""

CIPHERS: Mapping[str, str] = MappingProxyType(
    {
        "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
        "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
        "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
        "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_AES_128_GCM_SHA256": "",
        "TLS_AES_256_GCM_SHA384": "",
        "TLS_CHACHA20_POLY1305_SHA256": "",
    }
)
"""OpenSSL's name of each cipher suite; empty for those of TLS 1.3, which are always offered."""

HEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Content-Security-Policy": (),
        "Strict-Transport-Security": (),
        "X-Content-Type-Options": ("nosniff",),
        "X-Frame-Options": ("deny", "sameorigin"),
        "X-XSS-Protection": (),
    }
)
"""Headers that can be set, and the values that are allowed; any where none is named."""


_DESCRIPTORS = Path("/proc/self/fd")


class _LineError(ValueError):
    """A predicate on the file, which names the line."""


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate or key: the file that holds it, or the text itself."""

    path: Path | None = None
    text: Secret | None = None


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Encryption of connections.

    Attributes:
        client_ca: who signs the certificates of clients; None where clients need none.
        allowed_sans: of these names one must be in a client's certificate; empty for any.
        ciphers: in OpenSSL's names, for TLS 1.2 and below; empty for OpenSSL's own choice.
        curves: in OpenSSL's names; empty for OpenSSL's own choice.
    """

    certificate: Pem
    key: Pem
    client_authentication: ssl.VerifyMode = ssl.CERT_NONE
    client_ca: Pem | None = None
    allowed_sans: frozenset[str] = frozenset()
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    server_prefers: bool = True
    curves: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it names."""
        named = (self.certificate, self.key, self.client_ca)
        return tuple(pem.path for pem in named if pem is not None and pem.path is not None)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests that are answered: one in each interval, and so many at once after a pause."""

    interval: timedelta
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """A web configuration; what is absent in the file is absent here.

    Attributes:
        users: bcrypt hashes by user name.
    """

    tls: TlsConfig | None = None
    users: Mapping[str, Secret] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None


def read_web_config(path: Path) -> WebConfig:
    """Read a web configuration; relative paths in it are relative to its folder.

    Raises:
        ValueError: it cannot be used. The sentence is a predicate on the file, which names the line where one is at
            fault, and quotes no hash and no key.
    """
    try:
        with open_regular(path) as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'input/output error').lower()}") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if len(text) > LARGEST_FILE:
        raise ValueError("is larger than 1 MiB")
    from exporter.settings.yaml_text import compose  # noqa: PLC0415  only where there is such a file

    root = compose(text)
    if root is None or _is_null(root):
        return WebConfig()
    sections = _Section(root, "the file", path.parent)
    found = WebConfig(
        tls=sections.section("tls_server_config", _tls),
        users=sections.section("basic_auth_users", _users) or {},
        headers=sections.section("http_server_config", _headers) or {},
        rate_limit=sections.section("rate_limit", _rate_limit),
    )
    sections.finish()
    return found


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """Return what connections are encrypted with.

    Raises:
        ValueError: a certificate or key cannot be used; the sentence says which, and nothing of what it holds.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = config.oldest, config.newest
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if config.server_prefers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    with _as_file(config.certificate) as certificate, _as_file(config.key) as key:
        _load(context, certificate, key, config)
    context.verify_mode = config.client_authentication
    if config.client_ca is not None:
        with _as_file(config.client_ca) as authority:
            try:
                open_regular(authority).close()
                context.load_verify_locations(authority)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"names the client CA {_named(config.client_ca)}, {_why(error)}") from None
    if config.ciphers:
        context.set_ciphers(":".join(config.ciphers))
    if len(config.curves) == 1:
        context.set_ecdh_curve(config.curves[0])
    elif config.curves:
        context.set_groups(":".join(config.curves))  # type: ignore[attr-defined]  # of Python 3.15; refused before
    context.set_alpn_protocols(["http/1.1"])
    return context


def checked_web_config(path: Path) -> Path:
    """Return the path of a web configuration that can be used now.

    Raises:
        ValueError: it cannot; see `read_web_config` and `tls_context`.
    """
    config = read_web_config(path)
    if config.tls is not None:
        tls_context(config.tls)
    return path


class _Section:
    """A mapping of the file, of which every key must be asked for."""

    def __init__(self, node: "yaml.Node", name: str, folder: Path) -> None:
        if not _is_mapping(node):
            _fail(node, f"{name} is not a mapping of keys to values")
        self.node, self.name, self.folder = node, name, folder
        self._values: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        self._known: list[str] = []
        for key, value in node.value:
            if not _is_scalar(key):
                _fail(key, f"{name} has a key that is not a plain word")
            if key.value in self._values:
                _fail(key, f"{key.value} is given twice")
            self._values[key.value] = (key, value)

    def line(self, name: str) -> "yaml.Node":
        """Return where a key stands, or the section where it does not."""
        return self._values[name][0] if name in self._values else self.node

    def section(self, name: str, read: "Callable[[_Section], _T]") -> _T | None:
        """Return what a section below says; None where it is absent or empty."""
        node = self._node(name)
        if node is None:
            return None
        section = _Section(node, name, self.folder)
        found = read(section)
        section.finish()
        return found

    def text(self, name: str) -> str:
        """Return a text; empty where it is absent."""
        node = self._node(name)
        if node is None:
            return ""
        if not _is_scalar(node):
            _fail(node, f"{name} is not a text")
        return str(node.value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; empty where it is absent."""
        node = self._node(name)
        if node is None:
            return ()
        if not _is_sequence(node) or any(not _is_scalar(item) for item in node.value):
            _fail(node, f"{name} is not a list of texts")
        return tuple(item.value for item in node.value)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a truth value."""
        text = self.text(name)
        if text.lower() not in {"", "true", "false"}:
            _fail(self.line(name), f"{name} is neither true nor false")
        return default if not text else text.lower() == "true"

    def choice(self, name: str, choices: Mapping[str, _T], default: _T) -> _T:
        """Return what the word of a key means."""
        text = self.text(name)
        return self._meaning(name, text, choices) if text else default

    def choices(self, name: str, choices: Mapping[str, _T]) -> tuple[_T, ...]:
        """Return what each word of a list means."""
        return tuple(self._meaning(name, text, choices) for text in self.texts(name))

    def pem(self, name: str) -> Pem | None:
        """Return a certificate or key, from the key `NAME_file` or `NAME`; None where neither is given."""
        path, text = self.text(f"{name}_file"), self.text(name)
        if path and text:
            _fail(self.line(name), f"{name} and {name}_file are both set; keep only one of them")
        if path:
            return Pem(path=self.folder / path)
        return Pem(text=HiddenText(text)) if text else None

    def items(self) -> "Iterator[tuple[str, yaml.Node, str]]":
        """Yield every key, where it stands, and its text."""
        for name, (key, _) in self._values.items():
            yield name, key, self.text(name)

    def finish(self) -> None:
        """Refuse keys that nobody has asked for."""
        for name, (key, _) in self._values.items():
            if name not in self._known:
                _fail(key, f"{name} is not a key of {self.name}, which has {', '.join(self._known)}")

    def _node(self, name: str) -> "yaml.Node | None":
        if name not in self._known:
            self._known.append(name)
        found = self._values.get(name)
        return None if found is None or _is_null(found[1]) else found[1]

    def _meaning(self, name: str, text: str, choices: Mapping[str, _T]) -> _T:
        if text not in choices:
            _fail(self.line(name), f"{name} has the unknown value {text[:60]!r}; it can be {', '.join(choices)}")
        return choices[text]


def _tls(section: _Section) -> TlsConfig:
    certificate, key = section.pem("cert"), section.pem("key")
    authority = section.pem("client_ca")
    sans = section.texts("client_allowed_sans")
    kind = section.text("client_auth_type")
    if kind in _UNVERIFIED:
        _fail(
            section.line("client_auth_type"),
            f"client_auth_type {kind} takes any certificate without verifying it, which proves nothing and is not "
            "offered here; use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
        )
    verify = section.choice("client_auth_type", CLIENT_AUTHENTICATION, ssl.CERT_NONE)
    oldest = section.choice("min_version", VERSIONS, ssl.TLSVersion.TLSv1_2)
    newest = section.choice("max_version", VERSIONS, ssl.TLSVersion.TLSv1_3)
    suites = section.choices("cipher_suites", CIPHERS)
    prefers = section.flag("prefer_server_cipher_suites", default=True)
    curves = section.choices("curve_preferences", CURVES)
    if certificate is None:
        _fail(section.node, "tls_server_config has neither cert_file nor cert")
    if key is None:
        _fail(section.node, "tls_server_config has neither key_file nor key")
    if authority is not None and verify == ssl.CERT_NONE:
        _fail(section.node, "a client CA is set, but client_auth_type does not request client certificates")
    if authority is None and verify != ssl.CERT_NONE:
        _fail(section.line("client_auth_type"), f"client_auth_type {kind} needs client_ca_file or client_ca")
    if sans and verify == ssl.CERT_NONE:
        _fail(
            section.line("client_allowed_sans"),
            "client_allowed_sans is set, but client_auth_type does not request client certificates",
        )
    if oldest > newest:
        _fail(section.line("min_version"), "min_version is newer than max_version, so no client could connect")
    if len(curves) > 1 and not hasattr(ssl.SSLContext, "set_groups"):
        _fail(
            section.line("curve_preferences"),
            "curve_preferences has more than one curve, which Python 3.15 and later can offer; name one, or leave it "
            "out for OpenSSL's own order",
        )
    ciphers = tuple(name for name in suites if name)
    if suites and not ciphers and newest < ssl.TLSVersion.TLSv1_3:
        _fail(
            section.line("cipher_suites"), "cipher_suites contains only those of TLS 1.3, but max_version is below that"
        )
    return TlsConfig(certificate, key, verify, authority, frozenset(sans), oldest, newest, ciphers, prefers, curves)


_BCRYPT = re.compile(r"\$2[abxy]?\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}")
_COSTS = range(4, 32)


def _users(section: _Section) -> Mapping[str, Secret]:
    found: dict[str, Secret] = {}
    for name, where, text in section.items():
        match = _BCRYPT.fullmatch(text)
        if not name or ":" in name:
            _fail(where, "a user name is empty or has a colon, which no client can send")
        if match is None or int(match["cost"]) not in _COSTS:
            _fail(where, f"the password of {name!r} is not a bcrypt hash; create one with `htpasswd -nBC 10 {name}`")
        found[name] = HiddenText(text)
    return found


def _headers(section: _Section) -> Mapping[str, str]:
    # HTTP/2 is an offer that no client has to take, and none is made here.
    section.flag("http2", default=True)
    return section.section("headers", _each_header) or {}


def _each_header(section: _Section) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, where, text in section.items():
        if name not in HEADERS:
            _fail(where, f"the header {name} cannot be set; those that can are {', '.join(HEADERS)}")
        allowed = HEADERS[name]
        if allowed and text.lower() not in allowed:
            _fail(where, f"the header {name} can be {' or '.join(allowed)}")
        if not text.isascii() or not text.isprintable():
            _fail(where, f"the header {name} has characters that no header can have")
        if text:
            found[name] = text
    return found


def _rate_limit(section: _Section) -> RateLimit | None:
    interval, burst = section.text("interval"), section.text("burst")
    length = timedelta(0)
    if interval:
        try:
            length = _interval(interval)
        except ValueError as error:
            _fail(section.line("interval"), f"interval {error}")
    if burst and not (burst.isascii() and burst.isdecimal() and int(burst) > 0):
        _fail(section.line("burst"), "burst is not a whole number above 0")
    return RateLimit(length, int(burst) if burst else 20) if length else None


_MILLISECONDS = re.compile(r"(?P<count>[0-9]{1,9})ms")


def _interval(text: str) -> timedelta:
    match = _MILLISECONDS.fullmatch(text.strip())
    return timedelta(milliseconds=int(match["count"])) if match else parse_duration("0s" if text == "0" else text)


def _is_mapping(node: "yaml.Node") -> "TypeIs[yaml.MappingNode]":
    return type(node).__name__ == "MappingNode"


def _is_sequence(node: "yaml.Node") -> "TypeIs[yaml.SequenceNode]":
    return type(node).__name__ == "SequenceNode"


def _is_scalar(node: "yaml.Node") -> "TypeIs[yaml.ScalarNode]":
    return type(node).__name__ == "ScalarNode"


def _is_null(node: "yaml.Node") -> bool:
    return _is_scalar(node) and node.tag == "tag:yaml.org,2002:null"


def _fail(node: "yaml.Node", sentence: str) -> NoReturn:
    raise _LineError(f"has an error in line {node.start_mark.line + 1}: {sentence}")


def _load(context: ssl.SSLContext, certificate: Path, key: Path, config: TlsConfig) -> None:
    for pem, path, kind in ((config.certificate, certificate, "certificate"), (config.key, key, "key")):
        try:
            open_regular(path).close()
        except OSError as error:
            raise ValueError(f"names the {kind} {_named(pem)}, {_why(error)}") from None
    try:
        # A pass phrase would be asked for at the terminal otherwise.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(
                f"names the key {_named(config.key)}, which does not belong to the certificate "
                f"{_named(config.certificate)}"
            ) from None
        raise ValueError(
            f"names the certificate {_named(config.certificate)} and the key {_named(config.key)}, one of which is "
            "not a PEM file, or has a passphrase"
        ) from None


def _named(pem: Pem) -> str:
    return "in the text" if pem.path is None else f'"{pem.path}"'


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "which is not a PEM file with a certificate"
    return f"which cannot be read: {(error.strerror or 'input/output error').lower()}"


@contextmanager
def _as_file(pem: Pem) -> Iterator[Path]:
    """Lend a PEM as a file, as the TLS library takes no other key: in memory, or one that only its owner can read."""
    if pem.path is not None:
        yield pem.path
        return
    if hasattr(os, "memfd_create") and _DESCRIPTORS.is_dir():
        # A container may have no folder that can be written to; and a key on a disk may stay there.
        with os.fdopen(os.memfd_create("pem"), "w", encoding="ascii", errors="replace") as file:
            file.write("" if pem.text is None else pem.text.get_secret_value())
            file.flush()
            yield _DESCRIPTORS / str(file.fileno())
        return
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="ascii", errors="replace") as file:
        file.write("" if pem.text is None else pem.text.get_secret_value())
        file.flush()
        yield Path(file.name)


def names_of(certificate: Mapping[str, object]) -> Sequence[str]:
    """Return the subject's alternative names of a certificate, as `ssl.SSLSocket.getpeercert` gives it."""
    found = certificate.get("subjectAltName", ())
    return [str(name) for _, name in found] if isinstance(found, tuple) else []
