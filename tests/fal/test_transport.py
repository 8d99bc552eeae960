from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import structlog
from fal.conftest import KEY, Answer, Bench, Fal, as_json, refused
from pydantic import SecretStr

from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError
from exporter.fal.endpoints import Endpoint, Host
from exporter.fal.errors import ApiError
from exporter.fal.transport import Transport, clock_ahead

CALL = Endpoint(Host.PLATFORM, "/account/focus")
PATH = "/v1/account/focus"


@asynccontextmanager
async def unbounded() -> AsyncIterator[None]:
    yield


NOW = datetime(2026, 11, 21, 14, 37, 12, tzinfo=UTC)


def exchange(
    bench: Bench,
    *,
    platform_url: str = "",
    transport: httpx.AsyncBaseTransport | None = None,
    now: Clock = utc_now,
) -> Transport:
    return Transport(
        account="prod",
        key=lambda: SecretStr(KEY),
        observer=bench.heard,
        platform_url=platform_url or f"{bench.fal.url}/v1",
        reporting_url=bench.fal.url,
        limits=replace(bench.limits, report_bytes=10_000),
        tls=bench.tls,
        transport=transport,
        now=now,
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


def dated(ahead: float) -> Answer:
    """Return an answer by a server whose clock is behind NOW by so many seconds."""
    return as_json({}, date=format_datetime(NOW - timedelta(seconds=ahead), usegmt=True))


async def test_a_clock_that_differs_from_fals_is_told_once_and_when_it_is_right_again(fal: Fal, bench: Bench) -> None:
    made = exchange(bench, now=lambda: NOW)
    fal.plays(PATH, dated(0), dated(45), dated(3600), dated(3600), dated(-7200), dated(0), as_json({}))
    with structlog.testing.capture_logs() as logs:
        for _ in range(7):
            await made.json(CALL, {})
    await made.aclose()
    # A clock that tells whole seconds may be ahead of what it tells by almost one.
    assert bench.heard.skews == [0, 44, 3599, 3599, -7200, 0]
    assert [(log["log_level"], log["event"].partition(";")[0]) for log in logs] == [
        ("warning", "this system's clock differs from fal's"),
        ("info", "this system's clock agrees with fal's again"),
    ]
    assert logs[0]["ahead_seconds"] == 3599


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 21 Nov 2026 25:00:00 GMT", "Sat, 21 Nov 2026 12:00:00"])
async def test_a_date_that_is_none_tells_nothing(fal: Fal, bench: Bench, date: str) -> None:
    made = exchange(bench)
    fal.plays(PATH, as_json({}, date=date))
    await made.json(CALL, {})
    await made.aclose()
    assert bench.heard.skews == []


async def test_an_answer_that_a_cache_has_kept_tells_nothing(fal: Fal, bench: Bench) -> None:
    made = exchange(bench)
    answer = dated(3600)
    fal.plays(PATH, replace(answer, headers=(*answer.headers, ("age", "3600"))))
    await made.json(CALL, {})
    await made.aclose()
    assert bench.heard.skews == []


@pytest.mark.parametrize(
    ("told", "ahead"),
    [(0, 0), (40, 0), (-1, 0), (-31, 30), (41, -1), (140, -100)],
)
def test_a_slow_answer_is_no_wrong_clock(told: int, ahead: int) -> None:
    sent_at = datetime(2026, 11, 21, 12, tzinfo=UTC)
    received_at = sent_at + timedelta(seconds=40)
    assert clock_ahead(sent_at + timedelta(seconds=told), sent_at=sent_at, received_at=received_at) == ahead
