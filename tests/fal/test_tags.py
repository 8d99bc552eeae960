from datetime import UTC, datetime

import pytest
from fal.conftest import Bench, Fal, as_json, refused

from exporter.charges import NANO, Amounts, Window
from exporter.fal.errors import FeatureError, ScopeError, ShapeError
from exporter.fal.platform_usage import read_tagged
from exporter.tags import TaggedCharge

USAGE = "/v1/models/usage"
HOUR_9 = datetime(2026, 11, 21, 9, tzinfo=UTC)
WINDOW = Window(HOUR_9, HOUR_9.replace(hour=11))
U = "untagged"


def row(cost: object = 0.5, tags: object = None, **changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "endpoint_id": "fal-ai/flux/dev",
        "unit": "image",
        "quantity": 20,
        "unit_price": 0.025,
        "percent_discount": None,
        "cost_subtotal": cost,
        "cost_discount": 0,
        "cost_total": cost,
        "currency": "USD",
        "tags": tags or {},
    }
    return fields | changes


def page(*rows: object, bucket: str = "2026-11-21T09:00:00+00:00", cursor: str | None = None) -> dict[str, object]:
    series = [{"bucket": bucket, "results": list(rows)}]
    return {"time_series": series, "next_cursor": cursor, "has_more": cursor is not None}


async def test_rows_are_added_up_by_the_wanted_tags_and_what_has_none_only_counts_for_the_whole(
    fal: Fal, bench: Bench
) -> None:
    acme = {"customer": "acme", "env": "prod"}
    tagged = page(row(0.5, acme), row(0.25, {**acme, "env": "test"}), row(0.125, {"customer": "bolt"}), cursor="c")
    fal.plays(USAGE, as_json(tagged), as_json(tagged), as_json(page(row(1, {"env": "prod"}), row(2))))
    reading = await read_tagged(bench.client(), WINDOW, ("customer", "feature"))
    assert reading.charges == (
        TaggedCharge(
            HOUR_9,
            "fal-ai/flux/dev",
            "image",
            ("acme", U),
            Amounts(40 * NANO, 0, 750_000_000, 0, 750_000_000),
        ),
        TaggedCharge(
            HOUR_9, "fal-ai/flux/dev", "image", ("bolt", U), Amounts(20 * NANO, 0, 125_000_000, 0, 125_000_000)
        ),
    )
    assert reading.stated == {HOUR_9: 3_875_000_000}
    assert not reading.rejected
    first, *_ = (request.query for request in fal.requests)
    assert first["source"] == ["tagged-estimate"]
    assert first["timeframe"] == ["hour"]


async def test_parts_finer_than_a_nano_dollar_add_up(fal: Fal, bench: Bench) -> None:
    rows = [row(0.0000000004, {"customer": name}, quantity=1) for name in ("a", "b", "c", "d", "e")]
    fal.plays(USAGE, as_json(page(*rows)))
    reading = await read_tagged(bench.client(), WINDOW, ("customer",))
    assert reading.stated == {HOUR_9: 2}
    assert sum(charge.amounts.cost for charge in reading.charges) == 2


async def test_a_row_that_cannot_be_read_is_left_out_and_counted(fal: Fal, bench: Bench) -> None:
    wrong = [row(tags=[1]), row("much"), row(currency="EUR"), row(endpoint_id=None), "text"]
    fal.plays(USAGE, as_json(page(*wrong, row(1, {"customer": "acme"}))))
    reading = await read_tagged(bench.client(), WINDOW, ("customer",))
    assert reading.stated == {HOUR_9: NANO}
    assert sum(reading.rejected.values()) == 5


async def test_rows_of_another_hour_than_was_asked_for_are_left_out(fal: Fal, bench: Bench) -> None:
    fal.plays(USAGE, as_json(page(row(1, {"customer": "acme"}), bucket="2026-11-21T12:00:00Z")))
    reading = await read_tagged(bench.client(), WINDOW, ("customer",))
    assert (reading.charges, reading.rejected) == ((), {"outside_window": 1})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(403, "authorization_error", "Tag reporting is not enabled"), FeatureError),
        (refused(403, "authorization_error", "Access denied"), ScopeError),
        (as_json({"time_series": [5], "next_cursor": None, "has_more": False}), ShapeError),
        (as_json(page({name: value for name, value in row().items() if name != "tags"})), FeatureError),
    ],
)
async def test_fal_without_reporting_by_tags_is_an_error(
    fal: Fal, bench: Bench, answer: object, error: type[Exception]
) -> None:
    fal.plays(USAGE, answer)  # type: ignore[arg-type]  # what conftest makes
    with pytest.raises(error):
        await read_tagged(bench.client(), WINDOW, ("customer",))
