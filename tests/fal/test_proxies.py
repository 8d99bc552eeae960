import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fal.conftest import Answer, Bench, Fal, as_json, server
from fal.test_client import PATH, failure, get, silent_server
from local_proxy import LocalProxy, running

from exporter.errors import ConfigurationError
from exporter.fal.errors import BadRequestError, ProxyError, TlsError, UnreachableError

ELSEWHERE = "http://fal.invalid/v1"


@pytest.fixture
def proxy(fal: Fal, monkeypatch: pytest.MonkeyPatch) -> LocalProxy:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    fal.plays(PATH, as_json("here"))
    return LocalProxy(urlsplit(fal.url).port or 0)


async def test_a_socks_proxy_is_used(proxy: LocalProxy, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(proxy):
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{proxy.port}")
        client = bench.client(url=ELSEWHERE)
        assert await get(client) == "here"
        assert proxy.asked == ["fal.invalid:80"]
        await client.aclose()


@pytest.fixture
def encrypted(fal: Fal, tmp_path: Path) -> Iterator[int]:
    """Yield the port of a server that has a certificate of its own for fal.invalid."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=fal", "-addext", "subjectAltName=DNS:fal.invalid"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    listening = server(fal, ssl_certfile=str(certificate), ssl_keyfile=str(key), loop="asyncio")
    yield listening.start()
    listening.stop()


async def test_a_certificate_behind_a_proxy_is_checked_by_the_authorities_that_the_environment_names(
    proxy: LocalProxy, encrypted: int, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.tls = None
    proxy.target = encrypted
    async with running(proxy):
        monkeypatch.setenv("https_proxy", proxy.url)
        await failure(bench.client(url="https://fal.invalid/v1"), TlsError)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        client = bench.client(url="https://fal.invalid/v1")
        assert await get(client) == "here"
        await client.aclose()
    assert proxy.asked == ["CONNECT fal.invalid:443 HTTP/1.1"] * 2


async def test_hosts_on_this_machine_are_reached_without_the_proxy(
    proxy: LocalProxy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(proxy):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert await get(bench.client()) == "here"
        assert proxy.asked == []
        client = bench.client(url=ELSEWHERE)
        assert await get(client) == "here"
        assert [line.split("?")[0] for line in proxy.asked] == ["GET http://fal.invalid/v1/models/usage"]
        await client.aclose()


@pytest.mark.parametrize(("scheme", "variable"), [("http", "HTTP_PROXY"), ("https", "HTTPS_PROXY")])
async def test_a_proxy_that_wants_a_password_says_which_variable_needs_it(
    proxy: LocalProxy, bench: Bench, monkeypatch: pytest.MonkeyPatch, scheme: str, variable: str
) -> None:
    proxy.wants = "somebody:hidden"
    async with running(proxy):
        monkeypatch.setenv(variable, f"http://somebody:wrong-one@127.0.0.1:{proxy.port}")
        error = await failure(bench.client(url=f"{scheme}://fal.invalid/v1"), ProxyError)
    assert error.reason == "proxy"
    assert len(proxy.asked) == 1  # the same password again would be as wrong
    assert f"the proxy of {variable} (127.0.0.1:{proxy.port}) refuses the connection: 407" in str(error)
    assert f"put its user and password into {variable}, as in http://user:password@proxy.example:3128." in str(error)
    assert "wrong-one" not in str(error)


async def test_the_password_in_the_variable_is_sent(
    proxy: LocalProxy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.wants = "somebody:hid den"
    async with running(proxy):
        monkeypatch.setenv("HTTP_PROXY", f"http://somebody:hid%20den@127.0.0.1:{proxy.port}")
        client = bench.client(url=ELSEWHERE)
        assert await get(client) == "here"
        await client.aclose()


async def test_a_proxy_that_refuses_a_host_is_tried_again_and_named(
    proxy: LocalProxy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.status = "503 Not Now"
    async with running(proxy):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = await failure(bench.client(url="https://fal.invalid/v1", attempts=2), ProxyError)
    assert len(proxy.asked) == 2
    assert "503 Not Now; check HTTPS_PROXY, and that the proxy allows connections to the platform URL." in str(error)


@pytest.mark.usefixtures("proxy")
async def test_a_proxy_that_does_not_answer_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with silent_server() as port:
        pass
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    error = await failure(bench.client(url=ELSEWHERE, attempts=1), UnreachableError)
    assert f"the connection to the platform URL through the proxy of http_proxy (127.0.0.1:{port})" in str(error)
    assert "check http_proxy, and list hosts to connect to directly in NO_PROXY" in str(error)


@pytest.mark.usefixtures("proxy")
async def test_407_of_fal_itself_is_not_the_proxy_s(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(b"no", 407))
    assert "fal answered 407" in str(await failure(bench.client(), BadRequestError))


@pytest.mark.usefixtures("proxy")
async def test_wrong_variables_matter_only_where_they_are_needed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.tls = None
    monkeypatch.setenv("SSL_CERT_FILE", "/missing")
    monkeypatch.setenv("ALL_PROXY", "nonsense://")
    assert await get(bench.client()) == "here"
    with pytest.raises(ConfigurationError, match="ALL_PROXY"):
        bench.client(url=ELSEWHERE)
    monkeypatch.delenv("ALL_PROXY")
    with pytest.raises(ConfigurationError, match='SSL_CERT_FILE: "/missing" cannot be read'):
        bench.client(url="https://fal.invalid/v1")
