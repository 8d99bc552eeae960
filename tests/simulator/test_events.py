from collections.abc import Awaitable, Callable
from decimal import Decimal

import httpx
import pytest

Pages = Callable[..., Awaitable[list[dict[str, object]]]]
START, END = "2026-11-20T09:17:00Z", "2026-11-20T14:40:00Z"
PATH = "/v1/models/billing-events"


@pytest.mark.parametrize("limit", ["97", "10000"])
async def test_events_add_up_to_the_usage_to_the_nano_dollar(
    pages: Pages, truth: Callable[..., Decimal], limit: str
) -> None:
    found = [event for page in await pages(PATH, start=START, end=END, limit=limit) for event in page["billing_events"]]
    assert len({event["request_id"] for event in found}) == len(found)
    assert sum(event["cost_total"] for event in found) == truth(START, END, source="models")
    assert sum(event["cost_estimate_nano_usd"] for event in found) == truth(START, END, source="models").scaleb(9)
    for event in found:
        assert START[:-1] <= event["timestamp"] < END[:-1]
        assert event["cost_subtotal"] - event["cost_discount"] == event["cost_total"]


async def test_events_of_the_running_hour_are_those_charged(pages: Pages, truth: Callable[..., Decimal]) -> None:
    start, end = "2026-11-21T12:00:00Z", "2026-11-21T15:00:00Z"
    found = [event for page in await pages(PATH, start=start, end=end) for event in page["billing_events"]]
    assert sum(event["cost_total"] for event in found) == truth(start, end, source="models")


async def test_an_event_is_found_by_its_id_key_and_endpoint(ask: Pages) -> None:
    expand = {"expand": "auth_method,auth_method_structured"}
    event = (await ask(PATH, start=START, end=END, **expand))["billing_events"][7]
    by_id = await ask(PATH, start=START, end=END, request_id=event["request_id"], **expand)
    assert by_id["billing_events"] == [event]
    key = event["auth_method_structured"]["api_key_id"]
    by_key = await ask(PATH, start=START, end=END, api_key_id=key, endpoint_id=event["endpoint_id"], **expand)
    assert {other["auth_method_structured"]["api_key_id"] for other in by_key["billing_events"]} == {key}
    assert {other["endpoint_id"] for other in by_key["billing_events"]} == {event["endpoint_id"]}
    assert (await ask(PATH, start=START, end=END, login_username="nobody"))["billing_events"] == []


async def test_more_than_ninety_days_are_refused(client: httpx.AsyncClient) -> None:
    response = await client.get(PATH, params={"start": "2026-01-01", "end": "2026-06-01"})
    assert response.status_code == 400
    assert "90 days" in response.json()["error"]["message"]
