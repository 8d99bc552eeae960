from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from fal.conftest import Bench, Fal, as_json, refused

from exporter.charges import HOUR, NANO, Amounts, Dimensions, RejectedRow, Window
from exporter.fal.aggregation import Detail
from exporter.fal.errors import BadRequestError, DetailRefusedError, ServerError, ShapeError
from exporter.fal.reporting import ReportingUsage

PATH = "/billing/usage"
FLUX = Dimensions("prod", product="model_apis", model="fal-ai/flux/dev", gpu_class="H100", unit="request")


def usage(*rows: object, **changes: object) -> dict[str, object]:
    return {"currency": "USD", "usage": list(rows)} | changes


def row(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "model": "fal-ai/flux/dev",
        "app": None,
        "gpu_class": "H100",
        "requests": 12,
        "gpu_seconds": Decimal("34.5"),
        "spend": Decimal("0.3"),
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


async def test_every_hour_is_asked_for_on_its_own(fal: Fal, bench: Bench, window: Window, hour: datetime) -> None:
    fal.plays(PATH, as_json(usage(row())))
    reading = await ReportingUsage(bench.client()).read(window, with_api_key=True)
    assert [request.query for request in fal.requests] == [
        {
            "start": [f"2026-11-21T{start}:00:00Z"],
            "end": [f"2026-11-21T{end}:00:00Z"],
            "group_by": ["model,app,gpu_class"],
        }
        # The first is the one by which it is found out what fal tells.
        for start, end in ((10, 11), (10, 11), (11, 12))
    ]
    assert [charge.hour for charge in reading.charges] == [hour, hour + HOUR]
    assert reading.charges[0].dimensions == (
        *("prod", "", "model_apis", "fal-ai/flux/dev", "", "", "H100", "request"),
        *("", "", ""),
    )
    assert reading.charges[0].amounts == Amounts(12 * NANO, 34_500_000_000, 300_000_000, 0, 300_000_000)
    assert reading.prices == ()


async def test_a_row_with_an_app_is_serverless(fal: Fal, bench: Bench, hour: datetime) -> None:
    fal.plays(PATH, as_json(usage(row(app="my-app", model=None, gpu_class="NVIDIA H100"))))
    reading = await ReportingUsage(bench.client()).read(Window(hour, hour + HOUR), with_api_key=False)
    assert reading.charges[0].dimensions == ("prod", "", "serverless", "", "my-app", "", "H100", "request", "", "", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"spend": ..., "cost": Decimal("0.3")},
        {"spend": None, "amount": Decimal("0.3")},
        {"model": ..., "endpoint_id": "fal-ai/flux/dev"},
        {"novelty": []},
    ],
)
async def test_aliases_and_unknown_fields_are_read(
    fal: Fal, bench: Bench, hour: datetime, changes: dict[str, object]
) -> None:
    fal.plays(PATH, as_json(usage(row(**changes))))
    reading = await ReportingUsage(bench.client()).read(Window(hour, hour + HOUR), with_api_key=False)
    assert reading.rejected == {}
    assert (reading.charges[0].dimensions.model, reading.charges[0].amounts.cost) == ("fal-ai/flux/dev", 300_000_000)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "not_an_object"),
        (row(spend=...), "missing_field"),
        (row(spend="$1"), "wrong_type"),
        (row(model=5), "wrong_type"),
        (row(spend=-1), "negative"),
        (row(spend=10**11), "out_of_range"),
        (row(currency="EUR"), "currency"),
    ],
)
async def test_a_malformed_row_is_rejected_alone(
    fal: Fal, bench: Bench, hour: datetime, bad: object, reason: str
) -> None:
    fal.plays(PATH, as_json(usage(bad, row(requests=None, gpu_seconds=None))))
    reading = await ReportingUsage(bench.client()).read(Window(hour, hour + HOUR), with_api_key=False)
    assert reading.rejected == {reason: 1}
    assert reading.charges[0].amounts == Amounts(0, 0, 300_000_000, 0, 300_000_000)


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"start": "2026-11-21T09:00:00Z", "end": "2026-11-21T11:00:00Z"}, "outside_window"),
        ({"start": "2026-11-21T00:00:00Z", "end": "2026-11-22T00:00:00Z"}, "outside_window"),
        ({"end": "2026-11-21T11:00:01Z"}, "outside_window"),
        ({"start": "ten"}, "bucket"),
        ({"start": "2026-11-21T05:00:00-05:00", "end": "2026-11-21T10:31:07Z"}, None),
        ({"currency": "EUR"}, "currency"),
    ],
)
async def test_an_answer_about_another_time_or_currency_is_rejected(
    fal: Fal, bench: Bench, hour: datetime, stated: dict[str, object], reason: str | None
) -> None:
    fal.plays(PATH, as_json(usage(row(), **stated)))
    reading = await ReportingUsage(bench.client()).read(Window(hour, hour + HOUR), with_api_key=False)
    assert reading.rejected == ({reason: 1} if reason else {})
    assert len(reading.charges) == (0 if reason else 1)


@pytest.mark.parametrize(
    "changes", [{"requests": -1}, {"gpu_seconds": "long"}, {"requests": [], "gpu_seconds": 10**12}]
)
async def test_a_row_keeps_its_cost_though_its_counts_cannot_be_read(
    fal: Fal, bench: Bench, hour: datetime, changes: dict[str, object]
) -> None:
    fal.plays(PATH, as_json(usage(row(**{"requests": 0, "gpu_seconds": 0} | changes))))
    reading = await ReportingUsage(bench.client()).read(Window(hour, hour + HOUR), with_api_key=False)
    (charge,) = reading.charges
    assert charge.amounts == Amounts(0, 0, 300_000_000, 0, 300_000_000)
    assert reading.rejected == {"quantity": 1}
    assert reading.rejected_rows == (RejectedRow("quantity", hour, charge.dimensions, 0, is_counted=True),)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (usage(row(spend=-1)), (FLUX, NANO)),
        (usage(row(spend="a lot", cost=Decimal("0.25"))), (FLUX, 250_000_000)),
        (usage(row(model=5)), (None, 300_000_000)),
        (usage(row(), currency="EUR"), (FLUX, 0)),
        (usage(row(), end="2026-11-22T00:00:00Z"), (None, 0)),
        (usage("a row"), (None, 0)),
    ],
)
async def test_of_a_rejected_row_all_that_can_be_read_is_kept(
    fal: Fal, bench: Bench, hour: datetime, answer: dict[str, object], kept: tuple[Dimensions | None, int]
) -> None:
    fal.plays(PATH, as_json(answer))
    reading = await ReportingUsage(bench.client()).read(Window(hour, hour + HOUR), with_api_key=False)
    (rejected,) = reading.rejected_rows
    assert (rejected.hour, rejected.dimensions, rejected.cost) == (hour, *kept)


ALL, ONE = "model,app,gpu_class", "model"


def dimensions_asked_for(fal: Fal) -> list[str]:
    return [request.query["group_by"][0] for request in fal.requests]


@pytest.mark.parametrize("status", [400, 422])
async def test_what_an_upstream_tells_is_found_out_at_first_and_one_refusal_decides_nothing(
    fal: Fal, bench: Bench, window: Window, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fal.plays(PATH, refused(status), as_json(usage(row())))
    source = ReportingUsage(bench.client())
    await source.read(window, with_api_key=False)
    assert source.detail is Detail.FULL
    assert dimensions_asked_for(fal) == [ALL] * 4
    assert "one_dimension_only" not in capsys.readouterr().out


async def test_an_upstream_that_takes_one_dimension_is_asked_for_one_until_it_takes_all(
    fal: Fal, bench: Bench, window: Window, capsys: pytest.CaptureFixture[str]
) -> None:
    fal.plays(PATH, refused(400), refused(400), as_json(usage(row())))
    source = ReportingUsage(bench.client())
    await source.read(window, with_api_key=False)
    await source.read(window, with_api_key=False)
    assert source.detail is Detail.REDUCED
    assert dimensions_asked_for(fal) == [ALL, ALL, *[ONE] * 5]
    assert capsys.readouterr().out.count("one_dimension_only") == 1
    fal.plays(PATH, refused(400), as_json(usage(row())))
    await source.ask_for_detail(window)
    assert source.detail is Detail.REDUCED
    await source.ask_for_detail(window)
    assert source.detail is Detail.FULL
    await source.read(window, with_api_key=False)
    assert dimensions_asked_for(fal)[-2:] == [ALL, ALL]


async def test_an_upstream_that_has_told_all_is_never_asked_for_less(fal: Fal, bench: Bench, hour: datetime) -> None:
    fal.plays(PATH, refused(400, "validation_error", "only one dimension"), as_json(usage(row())))
    source = ReportingUsage(bench.client())
    source.detail = Detail.FULL
    window = Window(hour, hour + HOUR)
    with pytest.raises(
        DetailRefusedError, match=r"fal refuses group_by=model,app,gpu_class, which .*only one dimension"
    ):
        await source.read(window, with_api_key=False)
    assert source.detail is Detail.FULL
    reading = await source.read(window, with_api_key=False)
    assert reading.charges[0].dimensions.gpu_class == "H100"
    assert dimensions_asked_for(fal) == [ALL, ONE, ALL]


@pytest.mark.parametrize("detail", [Detail.UNKNOWN, Detail.FULL, Detail.REDUCED])
async def test_a_request_that_is_bad_either_way_is_an_error_and_changes_nothing(
    fal: Fal, bench: Bench, window: Window, detail: Detail
) -> None:
    fal.plays(PATH, refused(400))
    source = ReportingUsage(bench.client())
    source.detail = detail
    for _ in range(2):
        with pytest.raises(BadRequestError):
            await source.read(window, with_api_key=False)
    assert source.detail is detail


async def test_an_hour_that_fails_fails_the_reading_with_its_own_error(fal: Fal, bench: Bench, hour: datetime) -> None:
    fal.plays(PATH, *[as_json(usage(row()))] * 3, refused(500))
    with pytest.raises(ServerError):
        await ReportingUsage(bench.client(attempts=1)).read(
            Window(hour, hour + timedelta(hours=24)), with_api_key=False
        )


@pytest.mark.parametrize("answer", [[], {}, {"usage": None}, {"usage": {}}, 5])
async def test_what_is_no_usage_is_an_error(fal: Fal, bench: Bench, window: Window, answer: object) -> None:
    fal.plays(PATH, as_json(answer))
    with pytest.raises(ShapeError):
        await ReportingUsage(bench.client()).read(window, with_api_key=False)
