import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterable

import httpx
import pytest
from fal.conftest import Answer, Bench, Fal, gzipped
from hypothesis import given
from hypothesis import strategies as st

from exporter.fal.bodies import (
    BOMB_RATIO,
    MOST_OF_A_REFUSAL,
    PIECE,
    CutOffError,
    EncodingError,
    OversizeError,
    beginning,
    check_parsed_size,
    unpacked,
)
from exporter.fal.endpoints import Endpoint, Host
from exporter.fal.errors import NotJsonError, RefusalError, TooLargeError, TruncatedError

MEGABYTE = 2**20
CALL = Endpoint(Host.PLATFORM, "/models/usage")
PATH = "/v1/models/usage"


class Wire(httpx.AsyncByteStream):
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.sent += len(chunk)
            yield chunk


def response(chunks: Iterable[bytes], coding: str = "", **headers: str) -> httpx.Response:
    fields = {"content-encoding": coding, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.Response(200, headers=fields, stream=Wire(chunks))


async def body_of(answer: httpx.Response, limit: int = 64 * MEGABYTE, *, may_be_a_bomb: bool = True) -> bytes:
    return b"".join([piece async for piece in unpacked(answer, limit, may_be_a_bomb=may_be_a_bomb)])


def cut(data: bytes, step: int) -> list[bytes]:
    return [data[at : at + step] for at in range(0, len(data), step)]


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "identity": lambda data: data,
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
}


@given(st.binary(max_size=2000), st.sampled_from(sorted(CODINGS)), st.integers(1, 300))
async def test_a_body_is_unpacked_however_it_is_cut(data: bytes, coding: str, step: int) -> None:
    data *= 97
    assert await body_of(response(cut(CODINGS[coding](data), step), coding)) == data


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate,gzip"])
async def test_a_coding_that_was_not_asked_for_is_refused(coding: str) -> None:
    with pytest.raises(EncodingError, match="which was not asked for"):
        await body_of(response([gzip.compress(gzip.compress(b"x"))], coding))


async def test_what_is_compressed_and_ends_too_early_is_cut_off() -> None:
    with pytest.raises(CutOffError):
        await body_of(response([gzip.compress(b"abc" * 999)[:-9]], "gzip"))
    with pytest.raises(EncodingError):
        await body_of(response([b"this is no gzip"], "gzip"))


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_a_body_is_refused_while_it_comes_in(coding: str) -> None:
    data = bytes(8 * MEGABYTE) if coding else b"\n" * 8 * MEGABYTE
    answer = response(cut(CODINGS[coding](data), PIECE // 8), coding)
    with pytest.raises(OversizeError, match="larger than 1048576 bytes"):
        await body_of(answer, MEGABYTE)
    assert isinstance(answer.stream, Wire)
    assert answer.stream.sent <= MEGABYTE + PIECE


async def test_a_body_that_announces_its_size_is_refused_before_it_comes_in() -> None:
    answer = response([b"x"], content_length="2000")
    with pytest.raises(OversizeError, match="2000 bytes long, and may be 1999"):
        await body_of(answer, 1999)
    assert isinstance(answer.stream, Wire)
    assert not answer.stream.sent


async def test_a_report_that_unpacks_to_hundreds_of_times_its_size_is_a_bomb() -> None:
    bomb = gzip.compress(bytes(64 * MEGABYTE))
    with pytest.raises(OversizeError, match="decompression bomb"):
        await body_of(response(cut(bomb, PIECE), "gzip"), 10**12, may_be_a_bomb=False)
    lines = b"".join(b"%s,%d\n" % (b"fal,Usage,Models" * 62, number) for number in range(20_000))
    packed = gzip.compress(lines)
    assert 150 < len(lines) / len(packed) < BOMB_RATIO
    assert await body_of(response(cut(packed, PIECE), "gzip"), 10**12, may_be_a_bomb=False) == lines


async def test_a_bomb_takes_no_more_memory_than_a_piece() -> None:
    bomb = gzip.compress(bytes(64 * MEGABYTE))
    tracemalloc.start()
    try:
        with pytest.raises(OversizeError):
            async for _ in unpacked(response([bomb], "gzip"), 50 * MEGABYTE):
                pass
        assert tracemalloc.get_traced_memory()[1] < MEGABYTE
    finally:
        tracemalloc.stop()


async def test_of_a_refusal_the_beginning_is_read() -> None:
    assert await beginning(response(cut(gzip.compress(bytes(9 * MEGABYTE)), 100), "gzip")) == bytes(MOST_OF_A_REFUSAL)
    assert await beginning(response([b"plain"])) == b"plain"
    assert await beginning(response([b"no gzip"], "gzip")) == b""
    assert await beginning(response([b"?"], "br")) == b""


@pytest.mark.parametrize("value", [b"0.1", b"[]", b"{}", b'{"":0.1}', b"[0.1]"])
def test_small_values_that_take_much_memory_are_refused_before_they_are_parsed(value: bytes) -> None:
    limit = MEGABYTE
    count = 1 + limit // (len(value) + 1)
    body = b"[" + b",".join([value] * (count - 2)) + b"]"
    assert len(body) <= limit
    with pytest.raises(OversizeError, match="bytes of memory"):
        check_parsed_size(body, limit)
    check_parsed_size(body[: len(body) // 16], limit)


async def test_the_client_refuses_what_would_fill_the_memory(fal: Fal, bench: Bench) -> None:
    client = bench.client(answer_bytes=MEGABYTE, attempts=1)
    for answer, kind in (
        (gzipped(b"[" + b" " * 9 * MEGABYTE + b"]"), TooLargeError),
        (Answer(b"[" + b"0.1," * (MEGABYTE // 5) + b"0]"), TooLargeError),
        (Answer(b"x", headers=(("content-encoding", "br"),)), NotJsonError),
        (Answer(gzip.compress(b"[1]" * 9)[:-3], headers=(("content-encoding", "gzip"),)), TruncatedError),
    ):
        fal.plays(PATH, answer)
        with pytest.raises(kind):
            await client.get(CALL, {}, client.deadline())
    fal.plays(PATH, Answer(b'{"detail": "' + b"n" * MEGABYTE + b'"}', 400))
    with pytest.raises(RefusalError):
        await client.get(CALL, {}, client.deadline())
    assert fal.requests[0].headers["accept-encoding"] == "gzip, deflate"
