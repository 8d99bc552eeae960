import asyncio
from pathlib import Path

import pytest
from e2e.processes import free_port
from pydantic import SecretStr
from web.conftest import AT, served

from exporter.app.operations.status import StatusError, page_of, run_status
from exporter.cli import main
from exporter.overview import AccountOverview, Overview
from exporter.publication import Exposition, Publication
from exporter.web.application import Application


@pytest.fixture
def application() -> Application:
    application = Application(clock=lambda: AT)
    overview = Overview("1.2.3", (AccountOverview("studio", (), locked="no credit."),))
    application.publish(Publication(1, AT, Exposition(), overview, ready=True))
    return application


async def test_it_prints_what_the_page_shows(application: Application, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(application) as client:
        address = str(client.base_url).removeprefix("http://")
        assert await asyncio.to_thread(run_status, address, watch=None, token=None) == 0
        shown = capsys.readouterr().out
        html = (await client.get("/", headers={"accept": "text/html,text/plain;q=0.9"})).text
        anything = await client.get("/")
    assert shown.startswith("fal-exporter 1.2.3: ready, as of 2026-11-21 22:00:00 UTC\n")
    assert "! studio: Locked by fal: no credit.\n" in shown
    assert "\x1b" not in shown
    assert html.startswith("<!doctype html>")
    assert anything.headers["content-type"].startswith("text/html")


async def test_it_sends_its_token_and_keeps_a_path_before_the_page() -> None:
    seen: list[tuple[str, str]] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append((head.split()[1], head.lower().partition("authorization: ")[2].partition("\r")[0]))
        body = b"figures\n"
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 8\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/tools/fal"
        assert await asyncio.to_thread(page_of, url, SecretStr("falx_abc")) == "figures\n"
    assert seen == [("/tools/fal/", "bearer falx_abc")]


@pytest.mark.parametrize("url", ["ftp://localhost", "http://localhost:port", "http://"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(StatusError, match="is not an address; write it like http://localhost:8080"):
        page_of(url, None)


def test_an_exporter_that_does_not_answer_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(
        StatusError, match=f"{url} does not answer .*; is fal-exporter serve running there.*as an argument"
    ):
        page_of(url, None)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("401 Unauthorized", "needs a token; set it with --token-file or FAL_REST_TOKEN"),
        ("200 OK", "answers 200 and no figures"),
        ("404 Not Found", "answers 404 and no figures"),
    ],
)
async def test_an_answer_without_figures_is_explained(answer: str, sentence: str) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {answer}\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StatusError, match=sentence):
            await asyncio.to_thread(page_of, f"http://127.0.0.1:{port}", None)


def test_the_command_takes_its_token_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--token-file", str(tmp_path / "none")]) == 2
    assert "cannot be read: No such file or directory." in capsys.readouterr().err
