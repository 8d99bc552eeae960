"""Commands under the variables for proxies and certificate authorities, most of them in a process of their own."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from e2e.processes import PATIENCE, Fal, free_port
from local_proxy import LocalProxy, running

from exporter.cli import main
from exporter.simulator import ADMIN_KEY

ELSEWHERE = {
    "FAL_EXPORTER_PLATFORM_URL": "http://fal.invalid/v1",
    "FAL_EXPORTER_REPORTING_URL": "http://fal.invalid",
    "FAL_EXPORTER_ALLOW_HTTP": "true",
}
TLS = {"FAL_EXPORTER_PLATFORM_URL": "https://fal.invalid/v1", "FAL_EXPORTER_REPORTING_URL": "https://fal.invalid"}
NAMES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}


def surroundings(tmp_path: Path, given: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.upper() not in NAMES}
    ours = {
        "FAL_KEY": ADMIN_KEY,
        "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite'}",
        "FAL_EXPORTER_REQUEST_ATTEMPTS": "1",
        "FAL_EXPORTER_LISTEN": "127.0.0.1:0",
        "FAL_EXPORTER_MCP_LISTEN": "off",
    }
    return kept | ours | given


async def run(tmp_path: Path, *arguments: str, **given: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "exporter", *arguments),
        env=surroundings(tmp_path, given),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(), errors.decode()


@pytest.fixture
def proxy(fal: Fal) -> LocalProxy:
    return LocalProxy(int(fal.running.url.rpartition(":")[2]))


@pytest.mark.parametrize("scheme", ["http", pytest.param("socks5", marks=pytest.mark.long)])
async def test_check_passes_through_a_proxy_beside_an_ipv6_network_and_a_bracketed_address(
    proxy: LocalProxy, tmp_path: Path, scheme: str
) -> None:
    async with running(proxy):
        url = proxy.url.replace("http", scheme)
        code, output, errors = await run(
            tmp_path, "check", **ELSEWHERE, ALL_PROXY=url, NO_PROXY="localhost,fe80::/10,[fd00::1],10.0.0.0/8"
        )
    assert code == 0, output + errors
    assert "All configured sources work." in output
    assert len(proxy.asked) > 3
    assert all("fal.invalid" in line for line in proxy.asked)


@pytest.mark.long
async def test_check_says_that_the_proxy_wants_a_password(proxy: LocalProxy, tmp_path: Path) -> None:
    proxy.wants = "somebody:hidden"
    async with running(proxy):
        code, output, errors = await run(tmp_path, "check", **ELSEWHERE, HTTP_PROXY=proxy.url)
    assert code == 1
    assert f"the proxy of HTTP_PROXY (127.0.0.1:{proxy.port}) refuses the connection: 407" in output
    assert "put its user and password into HTTP_PROXY" in output
    assert "unexpected" not in output + errors


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ALL_PROXY": "socks4://x:1"}, "ALL_PROXY: names a proxy with the unsupported scheme socks4; write it like "),
        ({"HTTPS_PROXY": "http://x:port"}, "HTTPS_PROXY: is not the URL of a proxy; write it like "),
        ({"HTTPS_PROXY": "x:1", "NO_PROXY": "fe80::/300"}, 'NO_PROXY: "fe80::/300" is not a host, an address or a '),
        ({"SSL_CERT_FILE": "/missing.pem"}, 'SSL_CERT_FILE: "/missing.pem" cannot be read: no such file or directory'),
        ({"SSL_CERT_FILE": "/"}, 'SSL_CERT_FILE: "/" is a directory; name a file of certificates'),
        (
            {"SSL_CERT_FILE": os.devnull},
            'SSL_CERT_FILE: "/dev/null" contains no certificate in PEM format; name a file',
        ),
        ({"SSL_CERT_DIR": "/missing"}, 'SSL_CERT_DIR: "/missing" is not a directory; name a directory of certificates'),
    ],
)
def test_a_wrong_variable_is_one_sentence_and_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    given: dict[str, str],
    sentence: str,
) -> None:
    for name in os.environ:
        if name.upper() in NAMES:
            monkeypatch.delenv(name)
    for name, value in surroundings(tmp_path, TLS | given).items():
        monkeypatch.setenv(name, value)
    code = main(["check"])
    is_one_sentence(code, capfd.readouterr().err, sentence)


@pytest.mark.long
async def test_a_wrong_variable_ends_serve_whose_collector_reads_it_with_one_sentence_and_code_2(
    tmp_path: Path,
) -> None:
    given = {"HTTPS_PROXY": "x:1", "NO_PROXY": "fe80::/300"}
    listening = {"FAL_EXPORTER_LISTEN": "127.0.0.1:0", "FAL_EXPORTER_MCP_LISTEN": "off"}
    code, _, errors = await run(tmp_path, "serve", **(TLS | listening | given))
    is_one_sentence(code, errors, 'NO_PROXY: "fe80::/300" is not a host, an address or a ')


def is_one_sentence(code: int | None, errors: str, sentence: str) -> None:
    """Check that a command ended with one sentence on the variables it was given."""
    told = [line for line in errors.splitlines() if line.startswith("fal-exporter: ")]
    assert len(told) == 1, errors
    assert told[0].startswith(f"fal-exporter: {sentence}")
    assert code == 2
    assert "Traceback" not in errors
    assert "unexpected" not in errors


@pytest.mark.long
async def test_the_demo_needs_no_proxy_and_no_authority(tmp_path: Path) -> None:
    wrong = {
        "HTTP_PROXY": f"http://127.0.0.1:{free_port()}",
        "ALL_PROXY": "nonsense://",
        "NO_PROXY": "fe80::/300",
        "SSL_CERT_FILE": "/missing.pem",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "exporter", "demo", "--listen", "127.0.0.1:0", "--days", "1"),
        env=surroundings(tmp_path, wrong | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told = ""
    try:
        assert process.stdout
        async with asyncio.timeout(PATIENCE):
            # The live line tells figures once fal has answered.
            while "charges in" not in told:
                piece = await process.stdout.read(4096)
                assert piece, told
                told += piece.decode()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    assert "failing" not in told


@pytest.mark.long
async def test_the_bridge_of_mcp_names_the_variable_of_its_proxy(proxy: LocalProxy, tmp_path: Path) -> None:
    proxy.wants = "somebody:hidden"
    async with running(proxy):
        code, _, errors = await run(tmp_path, "mcp", "--url", "http://exporter.invalid/mcp", HTTP_PROXY=proxy.url)
        assert code == 1
        assert errors == (
            f"fal-exporter: --url: the proxy of HTTP_PROXY (127.0.0.1:{proxy.port}) refuses the connection to "
            "http://exporter.invalid/mcp: 407; put its user and password into HTTP_PROXY, or list the host in "
            "NO_PROXY\n"
        )
