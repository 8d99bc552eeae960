import csv
from collections.abc import Awaitable, Callable
from decimal import Decimal
from io import StringIO

import httpx
import pytest

from exporter.simulator import Fault, Simulator
from exporter.simulator.faults.faults import ODDITIES

SPAN = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-20T04:00:00Z", "timeframe": "hour"}
PATH = "/v1/models/usage"
MODEL = "fal-ai/flux/dev"
Ask = Callable[..., Awaitable[dict[str, object]]]


def rows_of(page: dict[str, object]) -> list[dict[str, object]]:
    return [row for bucket in page["time_series"] for row in bucket["results"]]


async def test_a_duplicated_page_comes_under_a_cursor_of_its_own(
    simulator: Simulator, pages: Callable[..., Awaitable[list[dict[str, object]]]]
) -> None:
    whole = await pages(PATH, **SPAN, limit="20")
    simulator.faults.add(Fault("duplicated_page"))
    found = await pages(PATH, **SPAN, limit="20")
    assert [rows_of(page) for page in found] == [rows_of(page) for page in whole for _ in range(2)]
    cursors = [page["next_cursor"] for page in found]
    assert len({*cursors}) == len(cursors)


async def test_a_repeated_cursor_leads_to_the_same_page_for_ever(simulator: Simulator, ask: Ask) -> None:
    simulator.faults.add(Fault("repeated_cursor"))
    first = await ask(PATH, **SPAN, limit="20")
    second = await ask(PATH, **SPAN, limit="20", cursor=first["next_cursor"])
    assert second == first
    assert second["has_more"] is True


@pytest.mark.parametrize("limit", ["1", "7", "20"])
@pytest.mark.parametrize("path", [PATH, "/v1/serverless/usage"])
async def test_pages_overlap_by_a_row_or_leave_rows_out(
    simulator: Simulator,
    ask: Ask,
    pages: Callable[..., Awaitable[list[dict[str, object]]]],
    path: str,
    limit: str,
) -> None:
    def rows_in(page: dict[str, object]) -> list[object]:
        return [(bucket["bucket"], row) for bucket in page["time_series"] for row in bucket["results"]]

    whole = [row for page in await pages(path, **SPAN, limit=limit) for row in rows_in(page)]
    size = int(limit)
    simulator.faults.add(Fault("skipping_pages", rows=1))
    first = await ask(path, **SPAN, limit=limit)
    assert rows_in(first) == whole[:size]
    second = await ask(path, **SPAN, limit=limit, cursor=first["next_cursor"])
    assert rows_in(second) == whole[size + 1 : 2 * size + 1]
    simulator.faults.clear()
    simulator.faults.add(Fault("overlapping_pages"))
    second = await ask(path, **SPAN, limit=limit, cursor=(await ask(path, **SPAN, limit=limit))["next_cursor"])
    assert rows_in(second) == whole[size - 1 : 2 * size - 1]
    cursor, begin = None, 0
    while size > 1 and (begin == 0 or cursor):
        page = await ask(path, **SPAN, limit=limit, **({"cursor": cursor} if cursor else {}))
        assert rows_in(page) == whole[begin : begin + size]
        cursor, begin = page["next_cursor"], begin + size - 1


async def test_endless_pages_have_ever_new_cursors(simulator: Simulator, ask: Ask) -> None:
    simulator.faults.add(Fault("endless_pages"))
    cursors = [(await ask(PATH, **SPAN))["next_cursor"]]
    for _ in range(5):
        cursors.append((await ask(PATH, **SPAN, cursor=cursors[-1]))["next_cursor"])
    assert len({*cursors}) == 6


@pytest.mark.parametrize("path", [PATH, "/v1/serverless/usage", "/v1/organization/usage", "/billing/usage"])
async def test_an_empty_answer_is_right_in_shape(simulator: Simulator, ask: Ask, path: str) -> None:
    whole = await ask(path)
    simulator.faults.add(Fault("empty_answer"))
    empty = await ask(path)
    assert empty.keys() == whole.keys()
    assert not empty.get("time_series")
    assert not empty.get("usage")
    assert not empty.get("has_more")


async def test_fields_go_missing_in_every_so_many_th_row(simulator: Simulator, ask: Ask) -> None:
    simulator.faults.add(Fault("missing_fields", fields=("cost", "cost_total"), every_row=3))
    for number, row in enumerate(rows_of(await ask(PATH, **SPAN)), start=1):
        assert ("cost_total" in row) == bool(number % 3)


async def test_types_are_wrong(simulator: Simulator, ask: Ask) -> None:
    simulator.faults.add(Fault("wrong_types", fields=("quantity",)))
    values = [row["quantity"] for row in rows_of(await ask(PATH, **SPAN))]
    assert all(value is None or isinstance(value, str | list | dict | bool) for value in values)
    assert await ask("/billing/user_balance") == "seven"


async def test_unknown_fields_leave_the_known_ones_alone(simulator: Simulator, ask: Ask) -> None:
    whole = await ask(PATH, **SPAN)
    simulator.faults.add(Fault("unknown_fields"))
    extended = await ask(PATH, **SPAN)
    assert extended.pop("x_new_field") == "unknown"
    assert all(row.pop("x_new_field") for row in rows_of(extended))
    assert extended == whole


@pytest.mark.parametrize("path", ["/billing/invoices", "/v1/account/billing", "/v1/models/billing-events"])
async def test_other_bodies_are_changed_too(simulator: Simulator, client: httpx.AsyncClient, path: str) -> None:
    parameters = {"expand": "credits"} if path.endswith("account/billing") else {}
    whole = (await client.get(path, params=parameters)).text
    simulator.faults.add(Fault("missing_fields"))
    assert len((await client.get(path, params=parameters)).text) < len(whole)


ODD = {
    "text": lambda row: all(isinstance(row[name], str) for name in ("quantity", "unit_price", "cost_total")),
    "currency": lambda row: row["currency"] == "usd",
    "unit": lambda row: row["unit"] is None and row["cost_total"] is not None,
    "quantity": lambda row: row["quantity"] is None and row["cost_total"] is not None,
    "cost": lambda row: all(row[name] is None for name in ("cost", "cost_total", "cost_subtotal")),
}


@pytest.mark.parametrize("oddity", ODDITIES)
async def test_the_rows_of_one_model_are_odd_and_no_others(ask: Ask, simulator: Simulator, oddity: str) -> None:
    simulator.faults.add(Fault("odd_rows", path=PATH, oddity=oddity, model=MODEL, times=1))
    rows = rows_of(await ask(PATH, **SPAN))
    assert {row["endpoint_id"] for row in rows if ODD[oddity](row)} == {MODEL}
    assert all(ODD[oddity](row) for row in rows if row["endpoint_id"] == MODEL)
    assert not any(ODD[oddity](row) for row in rows_of(await ask(PATH, **SPAN)))


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("/v1/organization/usage", {"product": "compute"}),
        ("/v1/organization/usage", {"team": "acme", "product": "serverless"}),
        ("/v1/serverless/usage", {"app": "avatar-studio"}),
        ("/v1/serverless/usage", {"product": "serverless"}),
        ("/billing/usage", {"app": "raw-to-jpg"}),
    ],
)
async def test_odd_rows_are_chosen_by_their_labels(
    ask: Ask, simulator: Simulator, path: str, labels: dict[str, str]
) -> None:
    group_by = {"group_by": "model,app"} if path.startswith("/billing") else {}
    fields = {"product": "product", "team": "username", "app": "app"}

    async def rows() -> list[dict[str, object]]:
        answer = await ask(path, **({"start": SPAN["start"], "end": SPAN["end"]} | group_by or SPAN))
        return answer["usage"] if group_by else rows_of(answer)

    usual = await rows()
    simulator.faults.add(Fault("odd_rows", oddity="cost", **labels))
    cost = "spend" if group_by else "cost"
    matched = 0
    for row, before in zip(await rows(), usual, strict=True):
        is_matched = all(row.get(fields[name], value) == value for name, value in labels.items())
        assert row[cost] == (None if is_matched else before[cost])
        matched += is_matched
    assert 0 < matched < len(usual) or labels == {"product": "serverless"}


async def test_only_every_so_many_th_row_is_odd(ask: Ask, simulator: Simulator) -> None:
    simulator.faults.add(Fault("odd_rows", oddity="currency", model=MODEL, every_row=2))
    currencies = [row["currency"] for row in rows_of(await ask(PATH, **SPAN)) if row["endpoint_id"] == MODEL]
    assert currencies == [("usd" if number % 2 else "USD") for number in range(len(currencies))]


@pytest.mark.parametrize("path", [PATH, "/v1/organization/usage", "/billing/usage"])
async def test_rows_finer_than_a_nano_dollar_add_up_to_the_truth(ask: Ask, simulator: Simulator, path: str) -> None:
    simulator.faults.add(Fault("split_rows", model=MODEL, rows=997))
    start, end = "2026-11-20T10:00:00Z", "2026-11-20T10:05:00Z"
    older = path.startswith("/billing")
    answer = await ask(path, start=start, end=end, **({"group_by": "model"} if older else {"timeframe": "hour"}))
    hour = answer["usage"] if older else rows_of(answer)
    costs = [row.get("spend", row.get("cost")) for row in hour if MODEL in {row.get("endpoint_id"), row.get("model")}]
    assert len(costs) % 997 == 0
    assert any(cost % Decimal("1E-9") for cost in costs)
    model = [
        row
        for row in simulator.statement(start=start, end=end if older else "2026-11-20T11:00:00Z")["charges"]
        if row["model"] == MODEL
    ]
    assert sum(costs) == sum(Decimal(row["cost"]) for row in model)


async def test_rows_of_four_tenths_of_a_nano_dollar(ask: Ask, client: httpx.AsyncClient) -> None:
    dust = {"fault": "planted_spend", "hour": "2026-11-20T10:00:00Z", "amount_usd": "0.0000002", "model": "fal-ai/dust"}
    await client.post("/_simulator/faults", json=[dust, {"fault": "split_rows", "model": "fal-ai/dust", "rows": 500}])
    rows = rows_of(await ask(PATH, **SPAN | {"start": "2026-11-20T10:00:00Z", "end": "2026-11-20T11:00:00Z"}))
    costs = [row["cost_total"] for row in rows if row["endpoint_id"] == "fal-ai/dust"]
    assert costs == [Decimal("4E-10")] * 500
    assert len({row["unit_price"] for row in rows if row["endpoint_id"] == "fal-ai/dust"}) == 500


async def download(client: httpx.AsyncClient) -> list[dict[str, str]]:
    response = await client.get("/v1/account/focus", params=SPAN | {"source": "estimate", "expand": "organization"})
    return list(csv.DictReader(StringIO(response.text)))


@pytest.mark.parametrize(
    "odd",
    [
        ("currency", "BillingCurrency", "usd"),
        ("unit", "PricingUnit", ""),
        ("quantity", "PricingQuantity", ""),
        ("cost", "BilledCost", ""),
        ("text", "BilledCost", ","),
    ],
)
@pytest.mark.parametrize(
    "matched",
    [
        ("model", MODEL, "SkuId", MODEL),
        ("product", "compute", "ServiceName", "fal Compute"),
        ("app", "raw-to-jpg", "Tags", '{"app":"raw-to-jpg"}'),
        ("team", "acme-studio", "SubAccountName", "acme-studio"),
    ],
)
async def test_rows_of_a_download_are_odd(
    client: httpx.AsyncClient,
    simulator: Simulator,
    odd: tuple[str, str, str],
    matched: tuple[str, str, str, str],
) -> None:
    (oddity, column, value), (label, wanted, labelled, shown) = odd, matched
    simulator.faults.add(Fault("odd_rows", oddity=oddity, **{label: wanted}))
    rows = await download(client)
    assert {row[labelled] == shown for row in rows} == {True, False}
    for row in rows:
        is_odd = value in row[column] if value == "," else row[column] == value
        assert is_odd == (row[labelled] == shown)


async def test_split_rows_of_a_download_add_up(client: httpx.AsyncClient, simulator: Simulator) -> None:
    whole = await download(client)
    simulator.faults.add(Fault("split_rows", product="compute", rows=7))
    split = await download(client)
    compute = [row for row in whole if row["ServiceName"] == "fal Compute"]
    assert len(split) == len(whole) + 6 * len(compute)
    for column in ("BilledCost", "ListCost", "PricingQuantity"):
        assert sum(Decimal(row[column]) for row in split) == sum(Decimal(row[column]) for row in whole)
    assert len({row["SkuPriceId"] for row in split if row["ServiceName"] == "fal Compute"}) == 7
