"""Contact of a replica with fal."""

import asyncio
from datetime import timedelta

import pytest

from exporter.fal.transport import reach
from exporter.replicas.contact import LONGEST_PATIENCE, TRY_SECONDS, Contact


class Network:
    """Answers tries, on a clock that is set by hand."""

    def __init__(self) -> None:
        self.problem = "no route to host"
        self.now = 1000.0
        self.tries = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def reach(self, url: str, seconds: float) -> str:
        assert (url, seconds) == ("https://fal.example/v1", TRY_SECONDS)
        self.tries += 1
        await self.answers.wait()
        return self.problem

    def contact(self, seconds: float = 10) -> Contact:
        return Contact(
            "https://fal.example/v1",
            interval=timedelta(seconds=seconds),
            reach=self.reach,
            monotonic=lambda: self.now,
        )


async def tried(contact: Contact, network: Network) -> None:
    network.now += TRY_SECONDS
    contact.try_again()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_fal_is_lost_after_two_intervals_without_an_answer_to_polls_or_tries() -> None:
    network = Network()
    contact = network.contact()
    assert not contact.is_to_be_tried(None)
    assert not contact.is_to_be_tried(network.now - 9)
    assert contact.is_to_be_tried(network.now - 10)
    since = network.now
    await tried(contact, network)
    assert (contact.reaches, contact.problem) == (False, "no route to host")
    assert not contact.is_lost(since), "its time has not come"
    network.now = since + 20
    assert contact.is_lost(since)
    assert not contact.is_lost(None)
    network.problem = ""
    await tried(contact, network)
    assert contact.reaches
    assert not contact.is_lost(since), "polls fail, but fal answers: another replica would not fare better"


async def test_a_leader_whose_polls_are_never_answered_waits_longer_each_time() -> None:
    contact = Network().contact()
    waits = []
    for _ in range(9):
        waits.append(contact.patience)
        contact.hand_over()
    assert waits == [20, 40, 80, 160, 320, 640, 1280, 2560, 3600]
    contact.answered()
    assert contact.patience == 20
    assert Network().contact(seconds=3600).patience == LONGEST_PATIENCE.total_seconds()


async def test_tries_follow_one_another_and_are_few() -> None:
    network = Network()
    contact = network.contact()
    await tried(contact, network)
    contact.try_again()
    await asyncio.sleep(0)
    assert network.tries == 1, "made just now"
    await tried(contact, network)
    assert network.tries == 2
    network.answers.clear()
    await tried(contact, network)
    await tried(contact, network)
    assert network.tries == 3, "one is under way"
    network.answers.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (contact.reaches, contact.problem) == (False, "no route to host")
    contact.forget()
    assert (contact.reaches, contact.problem) == (None, "")
    await contact.close()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 900\r\n\r\n", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "the response is 503 Service Unavailable"),
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
            "the response is 407 Proxy Authentication Required",
        ),
        (b"", "Server disconnected without sending a response."),
        (None, "no response within 0.2 s"),
    ],
)
async def test_fal_is_reached_where_it_answers_whatever_it_says(answer: bytes | None, problem: str) -> None:
    asked = []
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await silent.wait()
        writer.write(answer or b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await reach(f"http://127.0.0.1:{port}/v1", 0.2 if answer is None else 5) == problem
    silent.set()
    server.close()
    (request,) = asked
    assert request.startswith(b"GET /v1 HTTP/1.1\r\n")
    assert b"authorization" not in request.lower(), "no key leaves for a try"


async def test_a_port_that_nobody_listens_on_is_not_reached() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert "failed" in await reach(f"http://127.0.0.1:{port}/v1", 5)


@pytest.mark.parametrize(
    ("variable", "value"), [("HTTPS_PROXY", "socks9://proxy:1"), ("SSL_CERT_FILE", "/no/such/file")]
)
async def test_a_wrong_variable_is_why_fal_is_not_reached(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv(variable, value)
    assert (await reach("https://fal.example/v1", 5)).startswith(f"{variable}: ")
