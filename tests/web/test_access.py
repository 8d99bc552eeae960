import logging
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest
import structlog
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from exporter.web.application import Application
from exporter.web.mcp.endpoint import Gate, Hosts
from exporter.web.server import AccessLog

Serve = Callable[[ASGIApp], Awaitable[httpx.AsyncClient]]
KEY = "3f1c:planted-secret"


@pytest.fixture(autouse=True)
def _structlog_as_it_comes() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def _info() -> Iterator[None]:
    logger = logging.getLogger("exporter.web.server")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


@pytest.mark.usefixtures("_info")
@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/healthz", 200), ("/-/ready", 503), ("/nothing", 404)]
)
async def test_a_request_is_one_structured_line(serve: Serve, path: str, status: int) -> None:
    with capture_logs() as lines:
        client = await serve(Application(access_level=logging.INFO))
        await client.get(path)
    (line,) = lines
    seconds = line.pop("seconds")
    assert 0 < seconds < 10
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": path,
        "status": status,
        "client": "127.0.0.1",
    }


@pytest.mark.usefixtures("_info")
@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/mcp", 405), ("POST", "/mcp", 404), ("GET", "/", 404)])
async def test_what_agents_ask_is_logged_too_whether_it_is_answered_or_refused(
    serve: Serve, method: str, path: str, status: int
) -> None:
    with capture_logs() as lines:
        client = await serve(Gate(Application(), Hosts(()), access=AccessLog(logging.INFO)))
        await client.request(method, path)
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [(method, path, status)]


@pytest.mark.usefixtures("_info")
async def test_keys_in_headers_and_queries_stay_out_of_the_log(serve: Serve) -> None:
    with capture_logs() as lines:
        client = await serve(Application(access_level=logging.INFO))
        for path in ("/metrics", "/", "/nothing"):
            await client.get(path, params={"key": KEY}, headers={"authorization": f"Key {KEY}", "referer": KEY})
    assert len(lines) == 3
    assert "planted-secret" not in str(lines)


@pytest.mark.usefixtures("_info")
async def test_an_endless_path_is_cut(serve: Serve) -> None:
    with capture_logs() as lines:
        await (await serve(Application(access_level=logging.INFO))).get("/" + "x" * 5000)
    assert len(lines[0]["path"]) == 200


@pytest.mark.usefixtures("_info")
async def test_below_the_level_of_the_logger_nothing_is_written(serve: Serve) -> None:
    with capture_logs() as lines:
        await (await serve(Application(access_level=logging.DEBUG))).get("/metrics")
    assert lines == []
