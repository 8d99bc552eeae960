import importlib.util
import ssl
from pathlib import Path

import certifi
import pytest

from exporter.errors import ConfigurationError
from exporter.network import Proxy, named_authorities, proxy_for

FAL = "https://api.fal.ai/v1"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def sentence_of(url: str = FAL) -> str:
    with pytest.raises(ConfigurationError) as caught:
        proxy_for(url)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_proxy_of_the_scheme_goes_before_that_of_all_and_lower_case_before_upper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert proxy_for(FAL) is None
    monkeypatch.setenv("ALL_PROXY", "all.example:1")
    assert proxy_for(FAL) == Proxy("ALL_PROXY", "http://all.example:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://upper.example:2/")
    assert proxy_for(FAL) == Proxy("HTTPS_PROXY", "http://upper.example:2")
    monkeypatch.setenv("https_proxy", "https://user:secret@lower.example:3")
    proxy = proxy_for(FAL)
    assert proxy == Proxy("https_proxy", "https://user:secret@lower.example:3")
    assert str(proxy) == "the proxy of https_proxy (lower.example:3)"
    assert proxy_for("http://api.fal.ai") == Proxy("ALL_PROXY", "http://all.example:1")
    monkeypatch.setenv("https_proxy", "")
    assert proxy_for(FAL) == Proxy("ALL_PROXY", "http://all.example:1")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "fal.localhost", "127.0.0.1", "127.8.9.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_a_loopback_address_never_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128")
    assert proxy_for(f"http://{host}:8080/x") is None
    monkeypatch.setenv("ALL_PROXY", "nonsense://")
    assert proxy_for(f"http://{host}:8080/x") is None


@pytest.mark.parametrize(
    ("entry", "direct", "proxied"),
    [
        ("*", "https://api.fal.ai", None),
        ("fal.ai", "https://api.fal.ai", "https://notfal.ai"),
        ("FAL.ai", "https://fal.ai", "https://fal.ai.example"),
        (".fal.ai", "https://api.fal.ai", "https://fal.ai"),
        ("*.fal.ai", "https://api.fal.ai", "https://fal.ai"),
        ("fal.ai:8443", "https://api.fal.ai:8443", "https://api.fal.ai"),
        ("fal.ai:443", "https://api.fal.ai", "https://api.fal.ai:444"),
        ("http://fal.ai", "http://api.fal.ai", "https://api.fal.ai"),
        ("all://fal.ai/", "http://api.fal.ai", "https://fal.example"),
        ("10.1.2.3", "https://10.1.2.3", "https://10.1.2.4"),
        ("10.1.2.3:80", "http://10.1.2.3", "https://10.1.2.3"),
        ("10.0.0.0/8", "https://10.1.2.3", "https://11.1.2.3"),
        ("192.168.7.9/16", "https://192.168.1.1", "https://fal.ai"),
        ("fe80::/10", "https://[fe80::1]", "https://[fd00::1]"),
        ("fe80::/10", "https://[fe80::1%25eth0]", "https://10.1.2.3"),
        ("[fe80::]/10", "https://[febf::1]", "https://[fec0::1]"),
        ("[fd00::1]", "https://[fd00:0::1]:8443", "https://[fd00::2]"),
        ("[fd00::1]:8443", "https://[fd00::1]:8443", "https://[fd00::1]"),
        ("fd00::1", "https://[fd00::1]", "https://fal.ai"),
        ("a.example, fal.ai b.example", "https://fal.ai", "https://c.example"),
    ],
)
def test_no_proxy_takes_names_ports_addresses_and_networks(
    monkeypatch: pytest.MonkeyPatch, entry: str, direct: str, proxied: str | None
) -> None:
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", entry)
    assert proxy_for(direct) is None
    if proxied:
        assert proxy_for(proxied) == Proxy("ALL_PROXY", "http://proxy.example:3128")


@pytest.mark.parametrize("entry", ["fe80::/200", "[fe80::1", "[fe80::xyz]", "10.0.0.0/40", "10.0.0.300", "a::b::c"])
@pytest.mark.parametrize("before", ["", "*,", "fal.ai,"])
def test_an_entry_of_no_proxy_that_is_not_one_is_named(
    monkeypatch: pytest.MonkeyPatch, before: str, entry: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", before + entry)
    assert sentence_of() == (
        f'no_proxy: "{entry}" is not a host, an address or a network; write entries like fal.ai, 10.0.0.0/8, fe80::/10 '
        "or [fd00::1]:8443, separated by commas"
    )


@pytest.mark.parametrize("value", ["http://", "http://u:secret@h:port", "http://h:0", "http://[::1", "a secret:1"])
def test_what_is_not_the_url_of_a_proxy_is_said_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert sentence_of() == "HTTPS_PROXY: is not the URL of a proxy; write it like http://proxy.example:3128"


def test_a_kind_of_proxy_that_is_not_spoken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks4://proxy.example:1080")
    assert sentence_of().startswith("ALL_PROXY: names a proxy with the unsupported scheme socks4; write it like ")


def test_a_socks_proxy_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://proxy.example:1080")
    assert proxy_for(FAL) == Proxy("ALL_PROXY", "socks5h://proxy.example:1080")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "socksio" else pytest.fail(name))
    assert sentence_of() == (
        "ALL_PROXY: names a SOCKS proxy, which needs the extra socks; install fal-exporter[socks], or name an HTTP "
        "proxy"
    )


def test_authorities_are_those_of_the_file_or_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert named_authorities() is None
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    context = named_authorities()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509_ca"] > 50
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", f"/missing:{tmp_path}")
    folder = named_authorities()
    assert folder is not None
    assert folder.cert_store_stats()["x509_ca"] == 0  # read when they are needed


@pytest.mark.parametrize(
    ("name", "variable", "predicate"),
    [
        ("missing.pem", "SSL_CERT_FILE", "cannot be read: no such file or directory; name a file of certificate"),
        (".", "SSL_CERT_FILE", "is a directory; name a file of certificates, or set SSL_CERT_DIR to the directory"),
        ("empty.pem", "SSL_CERT_FILE", "contains no certificate in PEM format; name a file that "),
        ("binary.pem", "SSL_CERT_FILE", "contains no certificate in PEM format; name a file that "),
        ("missing", "SSL_CERT_DIR", "is not a directory; name a directory of certificates prepared by "),
        ("empty.pem", "SSL_CERT_DIR", "is not a directory; name a directory of certificates prepared by "),
    ],
)
def test_a_variable_that_names_no_authorities_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, variable: str, predicate: str
) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "binary.pem").write_bytes(b"\x30\x82\x00\xff")
    monkeypatch.setenv(variable, str(tmp_path / name))
    with pytest.raises(ConfigurationError) as caught:
        named_authorities()
    assert str(caught.value).startswith(f'{variable}: "{tmp_path / name}" {predicate}')
    assert caught.value.exit_code == 2
