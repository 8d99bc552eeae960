"""Calls that another exporter makes: its answers are read as fal's own, and no key is in what is carried."""

import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import httpx
import pytest
from pydantic import SecretStr

from exporter.errors import ConfigurationError
from exporter.fal import ApiError, Client, Limits, Silent
from exporter.fal.carriage import Answer, Errand, Send
from exporter.fal.endpoints import Endpoint, Host, Parameters
from exporter.fal.errors import (
    ReadTimeoutError,
    RefusalError,
    TlsError,
    TooLargeError,
    TruncatedError,
    UnreachableError,
)

KEY = "an-id:a-secret-of-many-characters"
CALL = Endpoint(Host.PLATFORM, "/models/{name}")
QUERY: Parameters = {"limit": "1", "expand": ["a b", "c&d"]}
Answering = Callable[[httpx.Request], httpx.Response]


class Elsewhere:
    """Has every call made by another exporter, with the same key."""

    def __init__(self, answering: Answering, *, limit: int = 1 << 20) -> None:
        self.client = client(answering, limit=limit)
        self.errands: list[Errand] = []
        self.answers: list[Answer] = []

    async def send(self, request: httpx.Request, errand: Errand, direct: Send) -> httpx.Response:
        """Make a call elsewhere."""
        del direct
        self.errands.append(errand)
        self.answers.append(await self.client.fetch(errand))
        return self.answers[-1].response(request)


def client(answering: Answering, *, carrier: Elsewhere | None = None, limit: int = 1 << 20) -> Client:
    return Client(
        account="acme",
        key=lambda: SecretStr(KEY),
        observer=Silent(),
        platform_url="https://fal.example/v1",
        limits=Limits(attempts=1, answer_bytes=limit),
        transport=httpx.MockTransport(answering),
        carrier=carrier,
    )


def unused(request: httpx.Request) -> httpx.Response:
    raise AssertionError(request.url)


async def asked(elsewhere: Elsewhere) -> object:
    """Return what the leader reads of a call that is made elsewhere."""
    leader = client(unused, carrier=elsewhere)
    try:
        return await leader.get(CALL.of(name="fal-ai/x y"), QUERY, leader.deadline(timedelta(seconds=10)))
    finally:
        await leader.aclose()
        await elsewhere.client.aclose()


async def failed(elsewhere: Elsewhere) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await asked(elsewhere)
    assert KEY.partition(":")[2] not in str(caught.value)
    return caught.value


async def test_a_call_is_made_elsewhere_as_it_would_be_here() -> None:
    requests: list[httpx.Request] = []

    def answering(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"is": "there"})

    there, here = Elsewhere(answering), client(answering)
    assert await asked(there) == {"is": "there"}
    await here.get(CALL.of(name="fal-ai/x y"), QUERY, here.deadline())
    await here.aclose()
    first, second = requests
    assert first.url == second.url
    assert first.headers == second.headers
    assert first.method == "GET"


async def test_no_key_is_carried_even_where_fal_repeats_it() -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        said = request.headers["Authorization"]
        return httpx.Response(401, headers={"x-fal-said": said, "set-cookie": said}, json={"detail": f"Invalid {said}"})

    there = Elsewhere(answering)
    assert isinstance(await failed(there), RefusalError)
    assert "a-secret" not in repr(there.errands) + repr(there.answers)
    assert there.errands[0].key_hash == there.client.key_hash()


@pytest.mark.parametrize(
    ("error", "kind", "lacks_contact"),
    [
        (httpx.ConnectError("no route"), UnreachableError, True),
        (httpx.ConnectTimeout("late"), ReadTimeoutError, True),
        (httpx.ProxyError("407 no"), UnreachableError, True),
        (httpx.ReadTimeout("late"), ReadTimeoutError, False),
        (httpx.RemoteProtocolError("nonsense"), UnreachableError, False),
    ],
)
async def test_a_failure_elsewhere_is_what_it_would_be_here(
    error: httpx.TransportError, kind: type[ApiError], *, lacks_contact: bool
) -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        del request
        raise error

    there = Elsewhere(answering)
    assert type(await failed(there)) is kind
    assert there.answers[0].lacks_contact is lacks_contact


async def test_a_handshake_that_fails_elsewhere_is_one_of_tls() -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("certificate verify failed", request=request) from ssl.SSLError("certificate")

    assert isinstance(await failed(Elsewhere(answering)), TlsError)


async def test_a_refusal_says_when_to_come_back() -> None:
    refusal = await failed(Elsewhere(lambda _: httpx.Response(429, headers={"retry-after": "17"}, text="slowly")))
    assert refusal.retry_after == 17
    assert "slowly" in str(refusal)


class Broken(httpx.AsyncByteStream):
    """A body that breaks off."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"is": '
        raise httpx.ReadError("gone")


async def test_a_body_that_breaks_off_elsewhere_is_cut_off() -> None:
    assert isinstance(await failed(Elsewhere(lambda _: httpx.Response(200, stream=Broken()))), TruncatedError)


class Endless(httpx.AsyncByteStream):
    """A body without an end."""

    def __init__(self) -> None:
        self.pieces = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.pieces += 1
            yield bytes(1000)


async def test_no_more_of_a_body_is_carried_than_its_reader_takes() -> None:
    endless = Endless()
    there = Elsewhere(lambda _: httpx.Response(200, stream=endless), limit=1 << 20)
    assert isinstance(await failed(there), TooLargeError)
    assert endless.pieces < 1100
    promised = Elsewhere(lambda _: httpx.Response(200, headers={"content-length": "99999999"}, stream=Endless()))
    assert isinstance(await failed(promised), TooLargeError)
    assert promised.answers[0].body == b""


async def test_a_name_of_no_failure_of_a_transport_is_taken_for_one_that_broke_off() -> None:
    request = httpx.Request("GET", "https://fal.example")
    for name in ("Client", "HTTPStatusError", "no such", "get"):
        with pytest.raises(httpx.ReadError):
            Answer(failure=name, detail="words").response(request)


async def test_an_errand_without_a_key_that_can_be_one_is_refused() -> None:
    keyless = Client(account="acme", key=lambda: SecretStr(" "), observer=Silent())
    with pytest.raises(ConfigurationError):
        await keyless.fetch(Errand("acme", "platform", "/x", "application/json", ""))
    await keyless.aclose()
