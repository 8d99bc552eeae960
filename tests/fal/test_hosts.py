"""The reporting interface at its two addresses."""

import asyncio

import pytest
from fal.conftest import Answer, Bench, Fal, as_json, refused

from exporter.fal.account import USER_BALANCE
from exporter.fal.client import Client
from exporter.fal.errors import ApiError, NotFoundError, ServerError, UnreachableError

PATH = USER_BALANCE.path
FIRST, SECOND = f"/first{PATH}", f"/second{PATH}"
NOBODY = "http://127.0.0.1:1"


def client_of(bench: Bench, fal: Fal, first: str = "") -> Client:
    return bench.client(reporting=(first or f"{fal.url}/first", f"{fal.url}/second"), attempts=1)


async def asked(client: Client) -> object:
    return await client.get(USER_BALANCE, {}, client.deadline())


@pytest.mark.parametrize("status", [404, 410, 421])
async def test_the_other_address_is_used_while_it_works(fal: Fal, bench: Bench, status: int) -> None:
    fal.plays(FIRST, refused(status), as_json(1))
    fal.plays(SECOND, as_json(2), as_json(3), refused(status))
    client = client_of(bench, fal)
    assert client.reporting_url == f"{fal.url}/first"
    assert [await asked(client), await asked(client)] == [2, 3]
    assert client.reporting_url == f"{fal.url}/second"
    assert len(fal.asked(FIRST)) == 1
    assert await asked(client) == 1
    assert client.reporting_url == f"{fal.url}/first"


async def test_an_address_where_nobody_listens_gives_way(fal: Fal, bench: Bench) -> None:
    fal.plays(SECOND, as_json(2))
    client = client_of(bench, fal, NOBODY)
    assert await asyncio.gather(*(asked(client) for _ in range(4))) == [2] * 4
    assert client.reporting_url == f"{fal.url}/second"


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (refused(500), as_json(2), ServerError),
        (refused(404), refused(404), NotFoundError),
        (refused(404), refused(401), NotFoundError),
    ],
)
async def test_the_other_address_is_not_used_where_it_is_no_better(
    fal: Fal, bench: Bench, first: Answer, second: Answer, kind: type[ApiError]
) -> None:
    fal.plays(FIRST, first)
    fal.plays(SECOND, second)
    client = client_of(bench, fal)
    with pytest.raises(kind):
        await asked(client)
    assert client.reporting_url == f"{fal.url}/first"


async def test_an_address_of_ones_own_has_no_other(bench: Bench) -> None:
    with pytest.raises(UnreachableError):
        await asked(bench.client(url=NOBODY, attempts=1))
