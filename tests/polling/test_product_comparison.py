"""Sums by product beside what `/organization/usage` reports of the same hours."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from polling.conftest import Bench, Clock, opened_bench, truth
from structlog.typing import EventDict

from exporter.charges import NANO, Window, dollar_text, hour_of
from exporter.polling.reconciler import ComparedProducts
from exporter.simulator import Fault, RunningSimulator, Simulator, World, WorldSize, serving

COMPUTE = "/v1/organization/usage"
PRODUCTS = ("model_apis", "serverless", "compute")


@pytest.fixture
async def fal(clock: Clock) -> AsyncIterator[RunningSimulator]:
    size = WorldSize(models=3, callers=1, apps=2, compute=2, teams=1)
    async with serving(Simulator(World(7, size=size, invoiced_months=1), clock)) as running:
        yield running


def differences(bench: Bench) -> dict[str, float | None]:
    return {item: bench.number("fal_source_difference_usd", account="main", product=item) for item in PRODUCTS}


def recent(clock: Clock) -> Window:
    hour = hour_of(clock.now)
    return Window(hour - timedelta(hours=48), hour)


@pytest.mark.parametrize("sources", [("models", "serverless", "compute"), ("organization",)])
async def test_what_is_all_polled_does_not_differ(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, sources: tuple[str, ...]
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=sources) as bench:
        await bench.account.poll_recent()
        assert differences(bench) == dict.fromkeys(PRODUCTS), "not before it is known that the call can be read"
        await bench.account.probe_sources()
        for _ in range(2):
            await bench.account.poll_recent()
            assert differences(bench) == dict.fromkeys(PRODUCTS, 0)
        assert bench.account.differences() == ()


async def test_what_is_not_polled_is_told_in_dollars_as_an_offer(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=("models", "serverless")) as bench:
        await bench.account.probe_sources()
        for _ in range(2):
            await bench.account.poll_recent()
        window = recent(clock)
        missing = truth(fal, window.start, window.end, "compute")
        assert missing > 0
        assert differences(bench) == {"model_apis": 0, "serverless": 0, "compute": -missing / NANO}
        assert f"({dollar_text(missing)} in {window})" in bench.account.offer()
        assert bench.account.differences() == (), "the offer says it"
    assert not [entry for entry in logs if entry["event"].startswith("the spend of a product")]


async def test_a_polled_product_that_differs_twice_is_reported_until_it_agrees(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=("models", "serverless", "compute")) as bench:
        await bench.account.probe_sources()
        fal.simulator.faults.add(Fault("empty_answer", path="/v1/serverless/usage"))
        await bench.account.poll_recent()
        window = recent(clock)
        missing = truth(fal, window.start, window.end, "serverless")
        assert differences(bench) == {"model_apis": 0, "serverless": -missing / NANO, "compute": 0}
        assert bench.account.differences() == (), "once may be a charge that came in between"
        await bench.account.poll_recent()
        (sentence,) = bench.account.differences()
        assert sentence == (
            f"The ledger has {dollar_text(missing)} less of serverless than /organization/usage reports for {window}."
        )
        await bench.account.poll_recent()
        assert [log["problem"] for log in logs if log["event"] == "the spend of a product differs from fal's"] == [
            sentence
        ]
        fal.simulator.faults.clear()
        await bench.account.poll_recent()
        assert differences(bench) == dict.fromkeys(PRODUCTS, 0)
        assert bench.account.differences() == ()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("server_error", path=COMPUTE),
        Fault("wrong_types", path=COMPUTE),
        Fault("server_error", path="/v1/models/usage"),
    ],
    ids=lambda fault: f"{fault.kind} of {fault.path}",
)
async def test_what_cannot_be_compared_is_absent(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, fault: Fault
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=("models",)) as bench:
        await bench.account.probe_sources()
        await bench.account.poll_recent()
        assert None not in differences(bench).values()
        fal.simulator.faults.add(fault)
        await bench.account.poll_recent()
        assert differences(bench) == dict.fromkeys(PRODUCTS)


def test_differences_of_less_than_a_cent_are_no_sentence() -> None:
    compared = ComparedProducts(
        Window(hour_of(Clock().now), hour_of(Clock().now) + timedelta(hours=1)),
        {"model_apis": 9_999_999, "serverless": 10_000_000, "compute": -50_000_000},
        frozenset({"model_apis", "serverless", "compute"}),
    )
    assert [sentence.split(" than ")[0] for sentence in compared.sentences(["serverless", "compute"])] == [
        "The ledger has $0.01 more of serverless",
        "The ledger has $0.05 less of compute",
    ]
    assert compared.sentences(["model_apis"]) == ()
    assert compared.missing(["serverless", "compute"]) == 40_000_000
    assert compared.missing(["serverless"]) == 0
