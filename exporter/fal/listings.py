"""Listings: the API keys of an account and the teams of its organization, by the names that people know them by."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Generic, Self, TypeVar

from exporter.charges import ApiKey, Team
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host
from exporter.fal.platform_usage import pages
from exporter.fal.rows import RejectedError, Row, instant, optional_text, row_of, text

KEYS = Endpoint(Host.PLATFORM, "/keys")
TEAMS = Endpoint(Host.PLATFORM, "/organization/teams")

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
