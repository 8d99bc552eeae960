from datetime import UTC, datetime
from decimal import Decimal

import pytest
from fal.conftest import Bench, Fal, as_json, refused

from exporter.charges import ApiKey, Team, UnitPrice, hour_of
from exporter.fal.errors import NotFoundError, PagingError, ScopeError, ShapeError
from exporter.fal.listings import read_api_keys, read_list_prices, read_teams

KEYS, TEAMS = "/v1/keys", "/v1/organization/teams"
CREATED = datetime(2025, 1, 15, 12, tzinfo=UTC)


def key_row(**changes: object) -> dict[str, object]:
    row = {
        "key_id": "abc123",
        "alias": "Production Key",
        "scope": "API",
        "created_at": "2025-01-15T12:00:00Z",
        "creator_nickname": "developer",
        "creator_email": "developer@example.com",
    }
    return {name: value for name, value in (row | changes).items() if value != "absent"}


def keys_page(*rows: object, cursor: str | None = None) -> dict[str, object]:
    return {"keys": list(rows), "next_cursor": cursor, "has_more": cursor is not None}


async def test_keys_are_read_through_all_pages_with_their_creators_and_without_addresses(
    fal: Fal, bench: Bench
) -> None:
    fal.plays(KEYS, as_json(keys_page(key_row(), cursor="Mg==")), as_json(keys_page(key_row(key_id="x", alias=" b "))))
    found = await read_api_keys(bench.client())
    assert tuple(found) == (
        ApiKey("prod", "abc123", "Production Key", "developer", CREATED),
        ApiKey("prod", "x", "b", "developer", CREATED),
    )
    assert [request.query for request in fal.requests] == [
        {"expand": ["creator_info"]},
        {"expand": ["creator_info"], "cursor": ["Mg=="]},
    ]
    assert "example.com" not in repr(found)


async def test_a_key_that_cannot_be_read_is_left_out_and_a_field_that_is_missing_is_empty(
    fal: Fal, bench: Bench
) -> None:
    rows = [
        key_row(key_id="absent"),
        key_row(key_id=5),
        "text",
        key_row(created_at="soon"),
        key_row(alias=None, creator_nickname="absent", created_at="absent"),
    ]
    fal.plays(KEYS, as_json(keys_page(*rows)))
    found = await read_api_keys(bench.client())
    assert tuple(found) == (ApiKey("prod", "abc123", "", "", None),)
    assert sum(found.rejected.values()) == 4


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(403, "authorization_error", "Access denied"), ScopeError),
        (as_json({"has_more": False, "next_cursor": None}), ShapeError),
        (as_json(keys_page(key_row(), cursor="c")), PagingError),
    ],
)
async def test_keys_that_cannot_be_listed_are_an_error(
    fal: Fal, bench: Bench, answer: object, error: type[Exception]
) -> None:
    fal.plays(KEYS, answer)  # type: ignore[arg-type]  # one of the parameters above
    with pytest.raises(error):
        await read_api_keys(bench.client())


async def test_teams_have_usernames_and_names(fal: Fal, bench: Bench) -> None:
    rows = [
        {"username": "acme", "name": "Acme", "is_org_root": True},
        {"username": "acme-ml", "name": None},
        {"name": 1},
    ]
    fal.plays(TEAMS, as_json({"teams": rows}))
    found = await read_teams(bench.client())
    assert tuple(found) == (Team("prod", "acme", "Acme"), Team("prod", "acme-ml", ""))
    assert sum(found.rejected.values()) == 1


@pytest.mark.parametrize("answer", [{"teams": []}, {"teams": None}, [], {"teams": [{"name": "x"}]}])
async def test_an_answer_without_teams_is_none(fal: Fal, bench: Bench, answer: object) -> None:
    fal.plays(TEAMS, as_json(answer))
    with pytest.raises(ShapeError):
        await read_teams(bench.client())


PRICES = "/v1/models/pricing"
FLUX = {"endpoint_id": "fal-ai/flux/dev", "unit": "image", "unit_price": Decimal("0.025"), "currency": "USD"}


async def test_list_prices_are_of_now_and_without_a_discount(fal: Fal, bench: Bench) -> None:
    fal.plays(PRICES, as_json({"prices": [FLUX], "has_more": False, "next_cursor": None}))
    client = bench.client()
    prices, rejected = await read_list_prices(client, ["fal-ai/flux/dev"])
    hour = hour_of(client.now())
    assert prices == (UnitPrice("prod", "model_apis", "fal-ai/flux/dev", "", "", "image", hour, 25_000_000, 0),)
    assert rejected == {}


async def test_endpoints_are_asked_for_fifty_at_a_time(fal: Fal, bench: Bench) -> None:
    fal.plays(PRICES, as_json({"prices": []}))
    await read_list_prices(bench.client(), [f"fal-ai/model-{number}" for number in range(120)])
    assert [len(request.query["endpoint_id"]) for request in fal.asked(PRICES)] == [50, 50, 20]


async def test_a_row_that_is_not_understood_is_left_out_and_counted(fal: Fal, bench: Bench) -> None:
    rows = [FLUX | {"currency": "EUR"}, FLUX | {"unit_price": -1}, "x", FLUX]
    fal.plays(PRICES, as_json({"prices": rows}))
    prices, rejected = await read_list_prices(bench.client(), ["fal-ai/flux/dev"])
    assert len(prices) == 1
    assert sum(rejected.values()) == 3


async def test_an_endpoint_that_fal_does_not_know_and_another_shape_are_failures(fal: Fal, bench: Bench) -> None:
    fal.plays(PRICES, refused(404, "not_found", "Endpoint 'x' was not found."), as_json([FLUX]))
    client = bench.client()
    with pytest.raises(NotFoundError, match="'x' was not found"):
        await read_list_prices(client, ["x"])
    with pytest.raises(ShapeError, match="`prices` is not a list"):
        await read_list_prices(client, ["x"])
