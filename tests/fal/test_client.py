import asyncio
import contextlib
import gzip
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from fal.conftest import KEY, Answer, Bench, Fal, as_json, gzipped, refused, server
from pydantic import SecretStr

from exporter import __version__
from exporter.errors import ConfigurationError
from exporter.fal.client import Client
from exporter.fal.endpoints import Endpoint, Host, Silent
from exporter.fal.errors import (
    ApiError,
    BadRequestError,
    DeadlineError,
    FeatureError,
    KeyRejectedError,
    LockedError,
    NotFoundError,
    NotJsonError,
    RateLimitedError,
    ReadTimeoutError,
    RedirectError,
    ScopeError,
    ServerError,
    TlsError,
    TooLargeError,
    TruncatedError,
    UnreachableError,
)

CALL = Endpoint(Host.PLATFORM, "/models/usage")
PATH = "/v1/models/usage"
MANY = 100_000

Failure = TypeVar("Failure", bound=ApiError)


async def get(client: Client) -> object:
    return await client.get(CALL, {"a": "1", "b": ["2", "3"]}, client.deadline())


async def failure(client: Client, kind: type[Failure]) -> Failure:
    with pytest.raises(kind) as caught:
        await get(client)
    assert type(caught.value) is kind
    return caught.value


async def test_a_call_carries_the_key_the_query_and_who_is_asking(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"x": 1}))
    assert await get(bench.client()) == {"x": 1}
    (request,) = fal.requests
    assert request.headers["authorization"] == f"Key {KEY}"
    assert request.headers["user-agent"] == f"fal-exporter/{__version__}"
    assert request.query == {"a": ["1"], "b": ["2", "3"]}
    assert bench.heard.answers == [("prod", "/models/usage", "200", 0.0)]
    assert bench.heard.retries == []


async def test_the_key_is_asked_for_before_every_request(fal: Fal, bench: Bench) -> None:
    keys = iter(["first:secret-1", "second:secret-2\n"])
    fal.plays(PATH, as_json(1))
    client = bench.client(key=lambda: SecretStr(next(keys)))
    await get(client)
    await get(client)
    assert [request.headers["authorization"] for request in fal.requests] == [
        "Key first:secret-1",
        "Key second:secret-2",
    ]


@pytest.mark.parametrize("key", ["", "id:sec\nret-of-mine", "id:s\u00e9cret-of-mine", "id: secret-of-mine"])
async def test_a_key_that_no_header_can_hold_is_a_wrong_configuration(fal: Fal, bench: Bench, key: str) -> None:
    with pytest.raises(ConfigurationError, match="key of account 'prod'") as caught:
        await get(bench.client(key=key))
    assert "mine" not in str(caught.value)
    assert fal.requests == []


@pytest.mark.parametrize("url", ["", "api.fal.ai/v1", "ftp://api.fal.ai", "https://", "https://[::1"])
def test_a_url_that_is_none_is_a_wrong_configuration(url: str) -> None:
    with pytest.raises(ConfigurationError, match="platform URL of account 'prod'"):
        Client(account="prod", key=lambda: SecretStr(KEY), observer=Silent(), platform_url=url)


REFUSALS = [
    (refused(400, "validation_error", "Invalid request parameters", "r-1"), BadRequestError, "bad_request"),
    (as_json({"detail": [{"msg": "no such field"}]}, 422), BadRequestError, "bad_request"),
    (refused(401, "authorization_error", "Authentication required"), KeyRejectedError, "key_rejected"),
    (refused(403, "authorization_error", "Access denied"), ScopeError, "scope"),
    (refused(403, "authorization_error", "FOCUS is not enabled for this account"), FeatureError, "feature"),
    (refused(501, "not_implemented", "Soon"), FeatureError, "feature"),
    (as_json({"detail": "User is locked. Reason: Exhausted balance. Top up."}, 403), LockedError, "locked"),
    (refused(404, "not_found", "Resource not found"), NotFoundError, "not_found"),
    (refused(429, "rate_limited", "Rate limit exceeded"), RateLimitedError, "rate_limited"),
    (refused(500, "server_error", "An unexpected error occurred"), ServerError, "server_error"),
    (Answer(b"<html>Bad gateway</html>", 502, (("content-type", "text/html"),)), ServerError, "server_error"),
]


@pytest.mark.parametrize(("answer", "kind", "reason"), REFUSALS)
async def test_refusals_are_told_apart(
    fal: Fal, bench: Bench, answer: Answer, kind: type[ApiError], reason: str
) -> None:
    fal.plays(PATH, answer)
    error = await failure(bench.client(attempts=1), kind)
    assert error.reason == reason
    assert (error.account, error.call, error.status) == ("prod", "/models/usage", answer.status)
    assert str(answer.status) in str(error)
    assert bench.heard.codes == [str(answer.status)]


async def test_a_refusal_says_what_fal_said_and_what_to_do(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(403, "authorization_error", "Access denied", "req-77"))
    error = await failure(bench.client(), ScopeError)
    assert (error.fal_type, error.fal_message, error.request_id) == ("authorization_error", "Access denied", "req-77")
    assert str(error) == (
        "GET /models/usage of account 'prod' failed: fal answered 403, 'authorization_error: Access denied' (request "
        "req-77); use a key with admin scope for the account; a key with API scope can read only the credit balance."
    )


async def test_the_older_hosts_errors_and_a_header_with_the_request_id_are_read(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"detail": "No such thing"}, 404, x_request_id="req-78"))
    error = await failure(bench.client(), NotFoundError)
    assert (error.fal_message, error.request_id) == ("No such thing", "req-78")


async def test_a_lock_is_told_with_its_reason_and_heard_of_once(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"detail": "User is locked. Reason: Admin lock"}, 403))
    client = bench.client()
    assert (await failure(client, LockedError)).lock == "admin_lock"
    await failure(client, LockedError)
    assert client.locks.reasons == {"admin_lock"}
    fal.plays(PATH, as_json(1))
    await get(client)
    assert client.locks.reasons == set()
    assert bench.heard.locks == ["prod locked: admin_lock", "prod unlocked"]


async def test_a_lock_met_in_passing_is_not_remembered(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"detail": "User is locked. Reason: TOP_UP"}, 403))
    client = bench.client()
    with pytest.raises(LockedError):
        await client.get(CALL, {}, client.deadline(), track_lock=False)
    assert client.locks.reasons == set()


async def test_a_redirect_is_not_followed_with_the_key(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(status=307, headers=(("location", f"{fal.url}/elsewhere"),)))
    error = await failure(bench.client(), RedirectError)
    assert f"{fal.url}/elsewhere" in str(error)
    assert [request.path for request in fal.requests] == [PATH]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_passing_failure_is_tried_again_with_growing_waits(fal: Fal, bench: Bench, status: int) -> None:
    fal.plays(PATH, *[refused(status)] * 3, as_json("at last"))
    assert await get(bench.client()) == "at last"
    assert bench.time.slept == [0.25, 0.5, 1.0]
    assert bench.heard.codes == [str(status)] * 3 + ["200"]
    assert bench.heard.retries == [("prod", "/models/usage")] * 3


async def test_waits_are_spread_by_chance_and_bounded(fal: Fal, bench: Bench) -> None:
    chances = iter([0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0])
    fal.plays(PATH, refused(500))
    client = bench.client(attempts=7, longest_backoff=timedelta(seconds=4))
    client._jitter = lambda: next(chances)
    await failure(client, ServerError)
    assert bench.time.slept == [0.25, 1.0, 1.5, 4.0, 4.0, 4.0]


async def test_attempts_end(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(500))
    await failure(bench.client(attempts=3), ServerError)
    assert len(fal.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_refusal_that_stays_is_not_tried_again(fal: Fal, bench: Bench, status: int) -> None:
    fal.plays(PATH, refused(status))
    with pytest.raises(ApiError):
        await get(bench.client())
    assert len(fal.requests) == 1


async def test_retry_after_in_seconds_is_honoured(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(429, retry_after="17"), as_json(1))
    await get(bench.client())
    assert bench.time.slept == [17.0]


async def test_retry_after_as_a_date_is_counted_from_the_answers_own_date(fal: Fal, bench: Bench) -> None:
    dates = {"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry_after": "Wed, 21 Oct 2015 07:28:21 GMT"}
    fal.plays(PATH, refused(503, **dates), as_json(1))
    await get(bench.client())
    assert bench.time.slept == [21.0]


async def test_a_retry_after_beyond_the_deadline_ends_the_poll_at_once(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(429, retry_after="240"))
    error = await failure(bench.client(), RateLimitedError)
    assert error.retry_after == 240
    assert bench.time.slept == []


async def test_requests_of_one_poll_share_a_deadline(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(503, retry_after="50"), as_json(1))
    client = bench.client(deadline=timedelta(seconds=60))
    deadline = client.deadline()
    await client.get(CALL, {}, deadline)
    fal.plays(PATH, refused(503, retry_after="50"), as_json(1))
    with pytest.raises(ServerError):
        await client.get(CALL, {}, deadline)
    bench.time.elapsed += 10
    with pytest.raises(DeadlineError, match="did not finish within 60 s"):
        await client.get(CALL, {}, deadline)
    assert len(fal.requests) == 3


async def test_silence_is_a_timeout_and_tried_again(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(hangs=True))
    error = await failure(bench.client(read_timeout=timedelta(milliseconds=50), attempts=2), ReadTimeoutError)
    assert error.reason == "timeout"
    assert bench.heard.codes == ["error", "error"]


async def test_silence_in_the_middle_of_an_answer_is_a_timeout(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(b'{"a": 1}', chunk=4, pause=0.3))
    await failure(bench.client(read_timeout=timedelta(milliseconds=100), attempts=1), ReadTimeoutError)


async def test_an_answer_that_drips_ends_at_the_deadline(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(b"[" + b" " * MANY, chunk=1, pause=0.01))
    error = await failure(bench.client(deadline=timedelta(milliseconds=200)), DeadlineError)
    assert error.reason == "deadline"
    assert bench.heard.codes == ["error"]


async def test_a_closed_port_is_no_connection(bench: Bench) -> None:
    async with silent_server() as port:
        pass
    error = await failure(bench.client(url=f"http://127.0.0.1:{port}", attempts=2), UnreachableError)
    assert error.reason == "connection"
    assert "platform URL" in str(error)
    assert len(bench.heard.retries) == 1


async def test_a_connection_that_breaks_before_an_answer_is_no_connection(bench: Bench) -> None:
    async with silent_server() as port:
        await failure(bench.client(url=f"http://127.0.0.1:{port}", attempts=1), UnreachableError)


async def test_tls_with_a_server_that_speaks_none_is_a_tls_error(fal: Fal, bench: Bench) -> None:
    error = await failure(bench.client(url=fal.url.replace("http:", "https:")), TlsError)
    assert error.reason == "tls"
    assert bench.heard.retries == []


async def test_a_certificate_that_nobody_vouches_for_is_a_tls_error(bench: Bench, untrusted: str) -> None:
    error = await failure(bench.client(url=untrusted), TlsError)
    assert "certificate" in str(error).lower()


async def test_a_certificate_whose_authority_the_environment_names_is_trusted(
    fal: Fal, bench: Bench, untrusted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    bench.tls = None
    fal.plays("/models/usage", as_json("here"))
    client = bench.client(url=untrusted)
    assert await get(client) == "here"
    await client.aclose()  # before its server ends


async def test_the_proxy_of_the_environment_is_used_but_for_hosts_that_it_excepts(
    fal: Fal, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fal.plays(PATH, as_json("here"))
    monkeypatch.setenv("HTTP_PROXY", fal.url)
    assert await get(bench.client(url="http://fal.invalid/v1")) == "here"
    assert fal.requests[0].headers["host"] == "fal.invalid"
    async with silent_server() as port:
        pass
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    # This machine, too, but no loopback address, which would not go through a proxy anyway.
    url = fal.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104  asked, not bound
    await failure(bench.client(url=f"{url}/v1", attempts=1), UnreachableError)
    monkeypatch.setenv("NO_PROXY", "0.0.0.0/8")
    assert await get(bench.client(url=f"{url}/v1")) == "here"


async def test_a_body_cut_on_the_wire_is_truncated_and_tried_again(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(b'{"time_series": [', promised=5000), as_json("whole"))
    assert await get(bench.client()) == "whole"
    fal.plays(PATH, Answer(b'{"time_series": [', promised=5000))
    error = await failure(bench.client(attempts=1), TruncatedError)
    assert error.reason == "truncated"


async def test_json_that_ends_too_early_is_truncated(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(b'{"time_series": [{"bucket"'))
    await failure(bench.client(), TruncatedError)


@pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>", b"{'a': 1}", b"\xff\xfe", b'{"a": NaN}'])
async def test_a_body_that_is_no_json_is_told_apart(fal: Fal, bench: Bench, body: bytes) -> None:
    fal.plays(PATH, Answer(body))
    error = await failure(bench.client(), NotJsonError)
    assert error.reason == "not_json"
    assert len(fal.requests) == 1


async def test_a_compressed_answer_is_unpacked(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, gzipped(b'{"a": 1}'))
    assert await get(bench.client()) == {"a": 1}


async def test_a_broken_compression_is_no_json(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(b"no gzip", headers=(("content-encoding", "gzip"),)))
    await failure(bench.client(), NotJsonError)


@pytest.mark.parametrize("answer", [Answer(b"[" + b" " * MANY + b"]"), gzipped(b"[" + b" " * MANY + b"]")])
async def test_an_answer_is_not_taken_in_beyond_its_limit(fal: Fal, bench: Bench, answer: Answer) -> None:
    fal.plays(PATH, answer)
    error = await failure(bench.client(answer_bytes=MANY), TooLargeError)
    assert error.reason == "too_large"
    assert len(fal.requests) == 1
    assert await get(bench.client(answer_bytes=MANY + 2)) == []


async def test_an_answer_that_is_larger_on_the_wire_than_unpacked_is_bounded_there(fal: Fal, bench: Bench) -> None:
    body = b"[" + b" " * MANY + b"]"
    fal.plays(PATH, Answer(gzip.compress(body, 0), headers=(("content-encoding", "gzip"),)))
    await failure(bench.client(answer_bytes=len(body)), TooLargeError)


async def test_no_more_requests_at_once_than_allowed(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(b"1", pause=0.01))
    client = bench.client(requests_at_once=3)
    await asyncio.gather(*(get(client) for _ in range(12)))
    assert fal.most_at_once == 3


async def test_a_cancelled_call_is_cancelled_and_not_tried_again(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, Answer(hangs=True))
    task = asyncio.create_task(get(bench.client()))
    async with asyncio.timeout(5):
        while not fal.requests:  # noqa: ASYNC110  the server runs in another thread
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(fal.requests) == 1


async def test_a_transport_can_be_passed_in() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=str(request.url)))
    client = Client(account="a", key=lambda: SecretStr(KEY), observer=Silent(), transport=transport)
    assert await get(client) == "https://api.fal.ai/v1/models/usage?a=1&b=2&b=3"
    await client.aclose()


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Yield the port of a server that hangs up on everyone."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listening:
        yield int(listening.sockets[0].getsockname()[1])


@pytest.fixture
def untrusted(fal: Fal, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a server whose certificate is signed by itself."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    running = server(fal, ssl_certfile=str(certificate), ssl_keyfile=str(key))
    port = running.start()
    yield f"https://127.0.0.1:{port}"
    running.stop()
