"""Listings: the API keys of an account and the teams of its organization by their names, and the prices of models."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, Self, TypeVar

from exporter.charges import ApiKey, Team, UnitPrice, hour_of
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host, Parameters, Scope
from exporter.fal.paging import pages
from exporter.fal.rows import RejectedError, Row, amount, in_dollars, instant, optional_text, row_of, text

KEYS = Endpoint(Host.PLATFORM, "/keys")
TEAMS = Endpoint(Host.PLATFORM, "/organization/teams")
PRICES = Endpoint(Host.PLATFORM, "/models/pricing", Scope.API)

_MOST_KEYS = 100_000

Listed = TypeVar("Listed")


class Listing(tuple[Listed, ...], Generic[Listed]):  # noqa: SLOT001  a tuple's subclass can have no slots of its own
    """Names in a listing.

    Attributes:
        rejected: how many rows were not understood, by reason (one of `REJECTIONS`).
    """

    rejected: Mapping[str, int]

    def __new__(cls, listed: Iterable[Listed], rejected: Mapping[str, int]) -> Self:
        """Keep both."""
        made = super().__new__(cls, listed)
        made.rejected = rejected
        return made


async def read_api_keys(client: Client, deadline: Deadline | None = None) -> Listing[ApiKey]:
    """Read all API keys of the account; one that is not understood is left out and counted.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    found: dict[str, ApiKey] = {}
    rejected: Counter[str] = Counter()
    # Asked so seldom that a lock it met would be taken back hours after the others.
    async for page in pages(
        client,
        KEYS,
        {"expand": "creator_info"},
        deadline or client.deadline(),
        rows="keys",
        limited=False,
        track_lock=False,
        most_rows=_MOST_KEYS,
    ):
        for row in page:
            try:
                key = _api_key(client.account, row_of(row))
            except RejectedError as error:
                client.rejections.reject(rejected, "keys", error.reason, row)
            else:
                found[key.id] = key
    return Listing(found.values(), dict(rejected))


def _api_key(account: str, row: Row) -> ApiKey:
    created_at = row.get("created_at")
    return ApiKey(
        account=account,
        id=text(row.get("key_id")),
        alias=optional_text(row.get("alias")).strip(),
        creator=optional_text(row.get("creator_nickname")),
        created_at=None if created_at is None else instant(created_at),
    )


async def read_teams(client: Client, deadline: Deadline | None = None) -> Listing[Team]:
    """Read the teams of the organization, its root among them; one that is not understood is left out and counted.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    answer = await client.get(TEAMS, {}, deadline or client.deadline(), track_lock=False)
    rows = answer.get("teams") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not rows:
        raise client.misshapen(TEAMS, "`teams` is not a list of teams")
    found: dict[str, Team] = {}
    rejected: Counter[str] = Counter()
    for row in rows:
        try:
            fields = row_of(row)
            username = text(fields.get("username"))
            found[username] = Team(client.account, username, optional_text(fields.get("name")))
        except RejectedError as error:
            client.rejections.reject(rejected, "teams", error.reason, row)
    if not found:
        raise client.misshapen(TEAMS, "`teams` names no team")
    return Listing(found.values(), dict(rejected))


_PRODUCT = "model_apis"
_ENDPOINTS_PER_CALL = 50


class ListPrices(NamedTuple):
    """The prices, and how many were not understood, by reason."""

    prices: tuple[UnitPrice, ...]
    rejected: Mapping[str, int]


async def read_list_prices(client: Client, endpoints: Sequence[str]) -> ListPrices:
    """Read what endpoints cost now, before any discount; one that is not understood is left out and counted.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`. That fal does not know an endpoint is one.
    """
    deadline = client.deadline()
    hour = hour_of(client.now())
    prices: list[UnitPrice] = []
    rejected: Counter[str] = Counter()
    for first in range(0, len(endpoints), _ENDPOINTS_PER_CALL):
        query: Parameters = {"endpoint_id": list(endpoints[first : first + _ENDPOINTS_PER_CALL])}
        answer = await client.get(PRICES, query, deadline, track_lock=False)
        rows = answer.get("prices") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise client.misshapen(PRICES, "`prices` is not a list")
        for item in rows:
            try:
                row = row_of(item)
                in_dollars(row.get("currency"))
                model, unit, price = text(row.get("endpoint_id")), text(row.get("unit")), amount(row.get("unit_price"))
            except RejectedError as error:
                client.rejections.reject(rejected, "prices", error.reason, item)
            else:
                prices.append(UnitPrice(client.account, _PRODUCT, model, "", "", unit, hour, price, 0))
    return ListPrices(tuple(prices), dict(rejected))
