from collections.abc import Awaitable, Callable
from decimal import Decimal

import httpx
import pytest

from exporter.simulator import Simulator

Ask = Callable[..., Awaitable[dict[str, object]]]
ANALYTICS = "/v1/models/analytics"
Pages = Callable[..., Awaitable[list[dict[str, object]]]]
START, END = "2026-11-20T09:17:00Z", "2026-11-20T14:40:00Z"
EVENTS = "/v1/models/billing-events"


async def test_successful_requests_are_the_charged_ones(ask: Ask, simulator: Simulator) -> None:
    span = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
    answer = await ask(
        ANALYTICS, **span, endpoint_id="fal-ai/flux/dev", expand="time_series,summary,success_count,request_count"
    )
    told = simulator.statement(**span, group_by="model")["charges"]
    charged = next(row["requests"] for row in told if row["model"] == "fal-ai/flux/dev")
    assert answer["summary"][0]["success_count"] == charged
    assert answer["summary"][0]["request_count"] > charged
    series = [row for bucket in answer["time_series"] for row in bucket["results"]]
    assert sum(row["success_count"] for row in series) == charged


async def test_only_the_asked_metrics_are_told(ask: Ask) -> None:
    answer = await ask(ANALYTICS, endpoint_id="fal-ai/flux/dev", expand="summary,p50_duration,p99_duration")
    (row,) = answer["summary"]
    assert row.keys() == {"endpoint_id", "p50_duration", "p99_duration"}
    assert 0 < row["p50_duration"] < row["p99_duration"]


async def test_an_endpoint_is_required(client: httpx.AsyncClient) -> None:
    assert (await client.get(ANALYTICS)).status_code == 400
    assert (await client.get(ANALYTICS, params={"endpoint_id": "x", "expand": "summary"})).status_code == 400


@pytest.mark.parametrize("limit", ["97", "10000"])
async def test_events_add_up_to_the_usage_to_the_nano_dollar(
    pages: Pages, truth: Callable[..., Decimal], limit: str
) -> None:
    found = [
        event for page in await pages(EVENTS, start=START, end=END, limit=limit) for event in page["billing_events"]
    ]
    assert len({event["request_id"] for event in found}) == len(found)
    assert sum(event["cost_total"] for event in found) == truth(START, END, source="models")
    assert sum(event["cost_estimate_nano_usd"] for event in found) == truth(START, END, source="models").scaleb(9)
    for event in found:
        assert START[:-1] <= event["timestamp"] < END[:-1]
        assert event["cost_subtotal"] - event["cost_discount"] == event["cost_total"]


async def test_events_of_the_running_hour_are_those_charged(pages: Pages, truth: Callable[..., Decimal]) -> None:
    start, end = "2026-11-21T12:00:00Z", "2026-11-21T15:00:00Z"
    found = [event for page in await pages(EVENTS, start=start, end=end) for event in page["billing_events"]]
    assert sum(event["cost_total"] for event in found) == truth(start, end, source="models")


async def test_an_event_is_found_by_its_id_key_and_endpoint(ask: Pages) -> None:
    expand = {"expand": "auth_method,auth_method_structured"}
    event = (await ask(EVENTS, start=START, end=END, **expand))["billing_events"][7]
    by_id = await ask(EVENTS, start=START, end=END, request_id=event["request_id"], **expand)
    assert by_id["billing_events"] == [event]
    key = event["auth_method_structured"]["api_key_id"]
    by_key = await ask(EVENTS, start=START, end=END, api_key_id=key, endpoint_id=event["endpoint_id"], **expand)
    assert {other["auth_method_structured"]["api_key_id"] for other in by_key["billing_events"]} == {key}
    assert {other["endpoint_id"] for other in by_key["billing_events"]} == {event["endpoint_id"]}
    assert (await ask(EVENTS, start=START, end=END, login_username="nobody"))["billing_events"] == []


async def test_more_than_ninety_days_are_refused(client: httpx.AsyncClient) -> None:
    response = await client.get(EVENTS, params={"start": "2026-01-01", "end": "2026-06-01"})
    assert response.status_code == 400
    assert "90 days" in response.json()["error"]["message"]


async def test_events_of_the_organization_name_the_team_in_pages_of_a_hundred(
    pages: Pages, truth: Callable[..., Decimal]
) -> None:
    start, end = "2026-11-20T10:00:00Z", "2026-11-20T10:20:00Z"
    answers = await pages("/v1/organization/billing-events", start=start, end=end, limit="1000")
    assert max(len(page["billing_events"]) for page in answers) == 100
    found = [event for page in answers for event in page["billing_events"]]
    assert sum(event["cost_total"] for event in found) == truth(start, end, source="models")
    team = found[0]["username"]
    of_team = await pages("/v1/organization/billing-events", start=start, end=end, team_username=team)
    assert [event for page in of_team for event in page["billing_events"]] == [
        event for event in found if event["username"] == team
    ]


async def test_events_carry_the_tags_of_the_usage(ask: Ask, rows: Pages) -> None:
    span = {"start": "2026-11-20T10:00:00Z", "end": "2026-11-20T11:00:00Z"}
    found = (await ask(EVENTS, **span, source="tagged-billed"))["billing_events"]
    tagged = await rows("/v1/models/usage", **span, timeframe="hour", source="tagged-estimate")
    for wanted in ({}, next(row["tags"] for row in tagged if row["tags"])):
        billed = sum(event["cost_total"] for event in found if event["tags"] == wanted)
        assert billed == sum(row["cost"] for row in tagged if row["tags"] == wanted) > 0
    assert not any("tags" in event for event in (await ask(EVENTS, **span))["billing_events"])
