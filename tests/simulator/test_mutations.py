from collections.abc import Awaitable, Callable

import httpx
import pytest

from exporter.simulator import Fault, Simulator

SPAN = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-20T04:00:00Z", "timeframe": "hour"}
PATH = "/v1/models/usage"
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
