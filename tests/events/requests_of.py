"""Requests for tests: short to write, each field as it is wanted."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.charges import NANO, BilledRequest
from exporter.events.questions import StoredRequest

HOUR_13 = datetime(2026, 11, 27, 13, tzinfo=UTC)


def request(
    number: int,
    cost: int = 25_000_000,
    *,
    hour: datetime = HOUR_13,
    model: str = "fal-ai/flux/dev",
    tags: str = "{}",
    **fields: Any,  # noqa: ANN401  as the fields take them
) -> BilledRequest:
    """Return the request `id-number`, charged for so many seconds after the hour began."""
    made = BilledRequest(
        request_id=f"id-{number}",
        at=hour + timedelta(seconds=number),
        model=model,
        team="",
        api_key="key-1",
        member="ada",
        quantity=NANO,
        unit_price=cost,
        discount_percent=None,
        list_cost=cost,
        discount=0,
        cost=cost,
        tags=tags,
    )
    return made._replace(**fields)


def costs(found: Iterable[StoredRequest]) -> dict[str, int]:
    """Return the costs by request id."""
    return {one.request.request_id: one.request.cost for one in found}
