from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from fal.conftest import KEY, Answer, Bench, Fal, as_json, refused
from pydantic import SecretStr

from exporter.charges import utc_now
from exporter.errors import ConfigurationError
from exporter.fal.endpoints import Endpoint, Host
from exporter.fal.errors import ApiError
from exporter.fal.transport import Transport

CALL = Endpoint(Host.PLATFORM, "/account/focus")
PATH = "/v1/account/focus"


@asynccontextmanager
async def unbounded() -> AsyncIterator[None]:
    yield


def exchange(bench: Bench, *, platform_url: str = "", transport: httpx.AsyncBaseTransport | None = None) -> Transport:
    return Transport(
        account="prod",
        key=lambda: SecretStr(KEY),
        observer=bench.heard,
        platform_url=platform_url or f"{bench.fal.url}/v1",
        reporting_url=bench.fal.url,
        limits=replace(bench.limits, report_bytes=10_000),
        tls=bench.tls,
        transport=transport,
        now=utc_now,
        monotonic=bench.time.monotonic,
    )


async def csv(made: Transport) -> list[bytes]:
    async with aclosing(made.csv(CALL, {}, unbounded)) as pieces:
        return [piece async for piece in pieces]


async def test_each_request_asks_for_what_it_can_read_and_is_made_once(fal: Fal, bench: Bench) -> None:
    made = exchange(bench)
    fal.plays(PATH, as_json({"a": 1}), Answer(b"BilledCost\n1.0\n"))
    assert await made.json(CALL, {}) == {"a": 1}
    assert b"".join(await csv(made)) == b"BilledCost\n1.0\n"
    assert [request.headers["accept"] for request in fal.requests] == ["application/json", "text/csv"]
    assert {request.headers["authorization"] for request in fal.requests} == {f"Key {KEY}"}
    assert bench.heard.codes == ["200", "200"]
    await made.aclose()


async def test_a_refusal_is_told_from_a_report_whatever_its_body(fal: Fal, bench: Bench) -> None:
    made = exchange(bench)
    fal.plays(PATH, refused(503, "server_error", f"key {KEY} is tired"))
    with pytest.raises(ApiError) as caught:
        await csv(made)
    assert caught.value.reason == "server_error"
    assert KEY.partition(":")[2] not in str(caught.value)
    assert bench.heard.codes == ["503"]
    await made.aclose()


async def test_a_connection_is_given_back_when_the_rest_is_not_wanted(fal: Fal, bench: Bench) -> None:
    made = exchange(bench)
    fal.plays(PATH, Answer(b"BilledCost\n" + b"1.0\n" * 2000, chunk=100))
    async with aclosing(made.csv(CALL, {}, unbounded)) as pieces:
        assert await anext(pieces)
    assert bench.heard.codes == ["200"]
    assert await csv(made)
    await made.aclose()


@pytest.mark.parametrize("url", ["ftp://api.fal.ai", "api.fal.ai", "http://", "http://[::1"])
async def test_a_url_that_is_none_is_a_wrong_configuration(bench: Bench, url: str) -> None:
    with pytest.raises(ConfigurationError, match="platform URL of account 'prod'"):
        exchange(bench, platform_url=url)
