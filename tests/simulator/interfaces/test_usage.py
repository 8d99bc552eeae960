from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from exporter.simulator import Fault, Simulator

Rows = Callable[..., Awaitable[list[dict[str, object]]]]
Truth = Callable[..., Decimal]

Ask = Callable[..., Awaitable[object]]
START, END = "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z"

NUMBERS = (int, Decimal)
MODEL_ROW = {
    "endpoint_id": str,
    "unit": str,
    "quantity": NUMBERS,
    "unit_price": NUMBERS,
    "percent_discount": (int, type(None)),
    "cost_subtotal": NUMBERS,
    "cost_discount": NUMBERS,
    "cost_total": NUMBERS,
    "cost": NUMBERS,
    "currency": str,
}
MACHINE_ROW = {key: kind for key, kind in MODEL_ROW.items() if key != "endpoint_id"} | {
    "app": (str, type(None)),
    "environment": (str, type(None)),
    "machine_type": str,
    "is_surge": bool,
}
TEAM_ROW = {
    "username": str,
    "product": str,
    "endpoint_id": str,
    "unit": str,
    "quantity": NUMBERS,
    "unit_price": NUMBERS,
    "cost": NUMBERS,
    "currency": str,
}
CALLS = [
    ("/v1/models/usage", "models", MODEL_ROW),
    ("/v1/serverless/usage", "serverless", MACHINE_ROW),
    ("/v1/organization/usage", "organization", TEAM_ROW),
]
SPANS = [
    ("2026-11-20T00:00:00Z", "2026-11-20T01:00:00Z", "hour", "UTC"),
    ("2026-11-19T00:00:00Z", "2026-11-22T00:00:00Z", "hour", "UTC"),
    ("2026-11-21T13:00:00Z", "2026-11-21T15:00:00Z", "minute", "UTC"),
    ("2026-11-16T23:00:00Z", "2026-11-20T23:00:00Z", "day", "Europe/Berlin"),
    ("2026-11-19T18:30:00Z", "2026-11-20T18:30:00Z", "hour", "Asia/Kolkata"),
    ("2026-11-09T00:00:00Z", "2026-11-23T00:00:00Z", "week", "UTC"),
    ("2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z", "month", "America/New_York"),
]


@pytest.mark.parametrize(("path", "source", "shape"), CALLS)
@pytest.mark.parametrize("asked", SPANS)
async def test_usage_is_the_truth_to_the_nano_dollar_in_any_buckets(
    rows: Rows, truth: Truth, *, path: str, source: str, shape: dict[str, type], asked: tuple[str, ...]
) -> None:
    start, end, timeframe, timezone = asked
    found = await rows(path, start=start, end=end, timeframe=timeframe, timezone=timezone)
    assert sum(row["cost"] for row in found) == truth(start, end, source=source) > 0
    for row in found:
        bucket = datetime.fromisoformat(str(row.pop("bucket")))
        assert datetime.fromisoformat(start) <= bucket < datetime.fromisoformat(end)
        assert row.keys() == shape.keys()
        assert all(isinstance(row[name], kind) for name, kind in shape.items())


@pytest.mark.parametrize("path", ["/v1/models/usage", "/v1/serverless/usage"])
async def test_the_total_is_the_subtotal_less_the_discount(rows: Rows, path: str) -> None:
    discounted = 0
    for row in await rows(path):
        assert row["cost_subtotal"] - row["cost_discount"] == row["cost_total"] == row["cost"]
        assert abs(row["unit_price"] * row["quantity"] - row["cost_subtotal"]) < Decimal("0.00000001")
        discounted += row["percent_discount"] is not None
    assert discounted


async def test_organization_holds_models_serverless_and_compute(rows: Rows) -> None:
    span = {"start": "2026-11-20", "end": "2026-11-21", "timeframe": "hour"}
    whole = await rows("/v1/organization/usage", **span)
    parts = [*await rows("/v1/models/usage", **span), *await rows("/v1/serverless/usage", **span)]
    compute = await rows("/v1/organization/usage", **span, product="compute")
    assert {row["product"] for row in compute} == {"compute"}
    assert compute[0]["endpoint_id"] == "type: gpu_8x_h100_sxm5 (avatar-studio, prod)"
    assert sum(row["cost"] for row in whole) == sum(row["cost"] for row in (*parts, *compute))


@pytest.mark.parametrize("limit", ["1", "7", "40", "100000"])
async def test_pages_hold_every_row_once(pages: Rows, rows: Rows, limit: str) -> None:
    span = {"start": "2026-11-21T06:00:00Z", "end": "2026-11-21T12:00:00Z", "timeframe": "hour"}
    whole = await rows("/v1/serverless/usage", **span)
    assert await rows("/v1/serverless/usage", **span, limit=limit) == whole
    for page in (await pages("/v1/serverless/usage", **span, limit=limit))[:-1]:
        assert sum(len(bucket["results"]) for bucket in page["time_series"]) == int(limit)
        assert page["next_cursor"]


async def test_pages_of_one_sequence_tell_of_one_instant(ask: Rows, simulator: Simulator, rows: Rows) -> None:
    whole = await rows("/v1/models/usage")
    page = await ask("/v1/models/usage", limit="50")
    found = [row for bucket in page["time_series"] for row in bucket["results"]]
    while page["has_more"]:
        simulator.clock.now += timedelta(minutes=9)
        page = await ask("/v1/models/usage", limit="50", cursor=page["next_cursor"])
        found += [row for bucket in page["time_series"] for row in bucket["results"]]
    assert len(found) == len(whole)
    assert sum(row["cost"] for row in found) == sum(row["cost"] for row in whole)


async def test_the_span_defaults_to_the_last_day_in_hours(rows: Rows) -> None:
    found = await rows("/v1/models/usage")
    stamps = sorted({str(row["bucket"]) for row in found})
    assert stamps[0] == "2026-11-20T14:00:00Z"
    assert stamps[-1] == "2026-11-21T14:00:00Z"


async def test_the_span_widens_to_whole_buckets_unless_told_not_to(rows: Rows, truth: Truth) -> None:
    span = {"start": "2026-11-20T10:20:00Z", "end": "2026-11-20T12:40:00Z"}
    widened = await rows("/v1/models/usage", **span, timeframe="hour")
    exact = await rows("/v1/models/usage", **span, timeframe="hour", bound_to_timeframe="false")
    assert sum(row["cost"] for row in widened) == truth("2026-11-20T10:00:00Z", "2026-11-20T13:00:00Z", source="models")
    assert sum(row["cost"] for row in exact) == truth(span["start"], span["end"], source="models")
    assert sum(row["cost"] for row in exact) < sum(row["cost"] for row in widened)


async def test_bucket_stamps_carry_the_offset_of_the_time_zone(rows: Rows) -> None:
    found = await rows(
        "/v1/models/usage", start="2026-10-24", end="2026-10-27", timeframe="day", timezone="Europe/Berlin"
    )
    assert sorted({str(row["bucket"]) for row in found}) == [
        "2026-10-24T00:00:00+02:00",
        "2026-10-25T00:00:00+02:00",
        "2026-10-26T00:00:00+01:00",
        "2026-10-27T00:00:00+01:00",
    ]


async def test_the_summary_adds_up_the_series(ask: Rows, pages: Rows, rows: Rows) -> None:
    span = {"start": "2026-11-20", "end": "2026-11-21", "timeframe": "hour"}
    total = sum(row["cost"] for row in await rows("/v1/models/usage", **span))
    alone = await ask("/v1/models/usage", **span, expand="summary")
    assert "time_series" not in alone
    assert sum(row["cost"] for row in alone["summary"]) == total
    both = await pages("/v1/models/usage", **span, expand="time_series,summary", limit="25")
    assert sum(row["cost"] for page in both for row in page["summary"]) == total
    paged = await pages("/v1/models/usage", **span, expand="summary", limit="3")
    assert [row for page in paged for row in page["summary"]] == alone["summary"]


async def test_the_key_of_a_charge_is_told_where_asked(rows: Rows, simulator: Simulator) -> None:
    span = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
    expand = "time_series,auth_method,auth_method_structured"
    found = await rows("/v1/models/usage", **span, expand=expand)
    by_key: dict[str, Decimal] = {}
    for row in found:
        assert row["auth_method"] == f"API key: {row['auth_method_structured']['detail']}"
        key = row["auth_method_structured"]["api_key_id"]
        by_key[key] = by_key.get(key, Decimal(0)) + row["cost"]
    told = simulator.statement(**span, group_by="api_key", source="models")["charges"]
    assert by_key == {row["api_key"]: Decimal(row["cost"]) for row in told}
    one = await rows("/v1/models/usage", **span, api_key_id=told[0]["api_key"])
    assert sum(row["cost"] for row in one) == by_key[told[0]["api_key"]]


async def test_filters_take_comma_lists_and_repeats(client: httpx.AsyncClient, rows: Rows) -> None:
    wanted = ["fal-ai/flux/dev", "fal-ai/veo3"]
    listed = await rows("/v1/models/usage", endpoint_id=",".join(wanted))
    repeated = await client.get("/v1/models/usage", params=[("endpoint_id", name) for name in wanted])
    assert {row["endpoint_id"] for row in listed} == {*wanted}
    assert sum(len(bucket["results"]) for bucket in repeated.json()["time_series"]) == len(listed)


async def test_serverless_is_found_by_app_and_search(rows: Rows) -> None:
    assert {row["app"] for row in await rows("/v1/serverless/usage", app="raw-to-jpg")} == {"raw-to-jpg"}
    assert {row["app"] for row in await rows("/v1/serverless/usage", search="STUDIO")} == {"avatar-studio"}
    everything = await rows("/v1/serverless/usage")
    assert None in {row["app"] for row in everything}
    assert {row["is_surge"] for row in everything} == {True, False}


async def test_organization_is_filtered_by_team(rows: Rows, truth: Truth) -> None:
    span = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
    found = await rows("/v1/organization/usage", **span, team_username="acme-labs")
    assert {row["username"] for row in found} == {"acme-labs"}
    assert sum(row["cost"] for row in found) == truth(span["start"], span["end"], team="acme-labs")


async def test_older_answers_carry_only_the_cost(simulator: Simulator, rows: Rows) -> None:
    simulator.faults.add(Fault("cost_only"))
    found = await rows("/v1/models/usage")
    assert all("cost" in row and "cost_total" not in row for row in found)


async def test_what_has_not_happened_is_not_there(rows: Rows) -> None:
    assert await rows("/v1/models/usage", start="2026-11-22", end="2026-11-25") == []


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": "2026-11-21", "end": "2026-11-20"}, "before"),
        ({"timeframe": "fortnight"}, "timeframe"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"bound_to_timeframe": "yes"}, "bound_to_timeframe"),
        ({"limit": "0"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "Mg=="}, "cursor"),
        ({"expand": "auth_method"}, "expand"),
        ({"expand": "everything"}, "expand"),
        ({"endpoint_id": ","}, "endpoint_id"),
        ({"endpoint_id": ",".join(f"model-{at}" for at in range(51))}, "50"),
    ],
)
async def test_a_wrong_parameter_is_a_validation_error(
    client: httpx.AsyncClient, parameters: dict[str, str], word: str
) -> None:
    response = await client.get("/v1/models/usage", params=parameters)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "validation_error"
    assert word in response.json()["error"]["message"]


async def test_a_cursor_of_another_query_is_refused(client: httpx.AsyncClient) -> None:
    page = (await client.get("/v1/models/usage", params={"limit": 5})).json()
    parameters = {"cursor": page["next_cursor"], "timeframe": "day"}
    response = await client.get("/v1/models/usage", params=parameters)
    assert response.status_code == 400
    assert "another" in response.text or "other" in response.text


@pytest.mark.parametrize("group_by", ["", "model", "app", "gpu_class", "model,gpu_class", "model,app,gpu_class"])
async def test_every_grouping_adds_up_to_the_truth(ask: Ask, truth: Callable[..., Decimal], group_by: str) -> None:
    parameters = {"group_by": group_by} if group_by else {}
    answer = await ask("/billing/usage", start=START, end=END, **parameters)
    assert sum(row["spend"] for row in answer["usage"]) == truth(START, END, source="reporting")
    assert answer["group_by"] == [name for name in group_by.split(",") if name]
    assert answer["currency"] == "USD"
    for row in answer["usage"]:
        assert row.keys() == {"model", "app", "gpu_class", "requests", "gpu_seconds", "spend"}
        assert all(row[name] is None for name in ("model", "app", "gpu_class") if name not in group_by)
    groups = [(row["model"], row["app"], row["gpu_class"]) for row in answer["usage"]]
    assert len({*groups}) == len(groups)


async def test_gpu_seconds_count_every_gpu(ask: Ask, simulator: Simulator) -> None:
    answer = await ask("/billing/usage", start=START, end=END, group_by="gpu_class")
    told = simulator.statement(start=START, end=END, group_by="gpu_class")["charges"]
    assert {row["gpu_class"] or "": row["gpu_seconds"] for row in answer["usage"]} == {
        row["gpu_class"]: Decimal(row["gpu_seconds"]) for row in told
    }
    compute = simulator.statement(start=START, end=END, group_by="product,machine_type")["charges"]
    eight = next(row for row in compute if row["machine_type"] == "gpu_8x_h100_sxm5")
    assert Decimal(eight["gpu_seconds"]) == 8 * Decimal(eight["quantity"])


async def test_an_upstream_may_take_one_dimension_only(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.faults.add(Fault("single_dimension"))
    refused = await client.get("/billing/usage", params={"group_by": "model,gpu_class"})
    assert refused.status_code == 422
    assert "one dimension" in refused.json()["detail"]
    assert (await client.get("/billing/usage", params={"group_by": "model"})).status_code == 200


async def test_an_unknown_dimension_is_refused_in_the_older_shape(client: httpx.AsyncClient) -> None:
    response = await client.get("/billing/usage", params={"group_by": "colour"})
    assert response.status_code == 400
    assert response.json() == {"detail": "group_by: 'colour' is not one of model, app, gpu_class."}


PAST = {"start": "2026-11-18T00:00:00Z", "end": "2026-11-19T00:00:00Z", "timeframe": "day"}


async def test_tags_allocate_what_the_estimate_tells(rows: Rows, truth: Truth) -> None:
    tagged = await rows("/v1/models/usage", **PAST, source="tagged-estimate")
    assert sum(row["cost"] for row in tagged) == truth(PAST["start"], PAST["end"], source="models")
    assert any(row["tags"] == {} for row in tagged)
    assert any(row["tags"].get("feature") == "search" for row in tagged)
    assert not any("tags" in row for row in await rows("/v1/models/usage", **PAST))


async def test_rows_are_filtered_by_their_tags(rows: Rows) -> None:
    tagged = await rows("/v1/models/usage", **PAST, source="tagged-estimate")
    wanted = next(row["tags"] for row in tagged if row["tags"].get("feature"))
    filtered = await rows(
        "/v1/models/usage", **PAST, source="tagged-estimate", tag=f"cost_center={wanted['cost_center']},feature=search"
    )
    assert filtered == [row for row in tagged if row["tags"] == wanted] != []


async def test_tags_come_later_than_the_estimate_over_all_pages(pages: Rows, truth: Truth) -> None:
    span = {"start": "2026-11-21T12:00:00Z", "end": "2026-11-21T14:37:12Z", "timeframe": "hour"}
    found = [
        row["cost"]
        for page in await pages("/v1/models/usage", **span, source="tagged-estimate", limit="3")
        for bucket in page["time_series"]
        for row in bucket["results"]
    ]
    (whole,) = await pages("/v1/models/usage", **span, source="tagged-estimate")
    assert sum(found) == sum(row["cost"] for bucket in whole["time_series"] for row in bucket["results"])
    assert 0 < sum(found) < truth(span["start"], span["end"], source="models")


async def test_an_estimate_cannot_be_filtered_by_tags(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models/usage", params={"tag": "env=production"})
    assert response.status_code == 400
    assert "tagged-estimate" in response.text
