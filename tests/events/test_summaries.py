from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, NANO
from exporter.events.summaries import (
    BUCKETS,
    DearRequest,
    Difference,
    HourSummary,
    ModelCosts,
    SummaryError,
    bucket_of,
    compare,
    dearest,
    quantile,
    read,
    read_hours,
    totals,
    with_summary,
    written,
)

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def costs(requests: int, cost: int) -> ModelCosts:
    return ModelCosts(cost, Counter({(3, -42): requests}))


def summary(
    hour: datetime = NOON, *, models: Mapping[str, ModelCosts] | None = None, dear: Sequence[DearRequest] = ()
) -> HourSummary:
    return HourSummary(hour, hour + HOUR, models or {}, tuple(dear))


def test_a_document_of_summaries_reads_as_it_was_written() -> None:
    dear = DearRequest(5, "id-1", "fal-ai/veo3", NOON)
    found = (summary(models={"fal-ai/veo3": costs(2, 7)}, dear=[dear]), summary(NOON + HOUR))
    assert read(written(found)) == found


_NO_DOCUMENTS = [b"", b"{}", b"[1]", b'[{"hour":"x"}]', b"null"]


@pytest.mark.parametrize("document", _NO_DOCUMENTS)
def test_what_is_no_document_of_summaries_is_refused(document: bytes) -> None:
    with pytest.raises(SummaryError):
        read(document)
    with pytest.raises(SummaryError):
        read_hours(document)


def test_an_hour_takes_the_place_of_what_was_written_of_it() -> None:
    first, second = summary(models={"a": costs(2, 7)}), summary(NOON + HOUR, models={"b": costs(1, 3)})
    again = replace(first, rejected=3)
    document = with_summary(with_summary(with_summary(None, second), first), again)
    assert read(document) == (again, second)
    assert read_hours(document) == {NOON: 3, NOON + HOUR: 0}


@pytest.mark.parametrize("document", _NO_DOCUMENTS)
def test_a_document_that_is_none_is_begun_anew(document: bytes) -> None:
    assert read(with_summary(document, summary())) == (summary(),)


def test_requests_that_add_up_to_the_ledger_differ_nowhere() -> None:
    compared = compare([summary(models={"a": costs(2, 7)})], {(NOON, "a"): 7})
    assert (compared.by_model, compared.differences, compared.hours) == ({"a": 0}, (), 1)


def test_each_hour_and_model_that_differs_is_told_though_the_sums_agree() -> None:
    hours = [summary(models={"a": costs(2, 7)}), summary(NOON + HOUR, models={"a": costs(1, 3), "b": costs(1, 1)})]
    compared = compare(hours, {(NOON, "a"): 6, (NOON + HOUR, "a"): 4, (NOON + HOUR, "c"): 9})
    assert compared.by_model == {"a": 0, "b": 1, "c": -9}
    assert compared.differences == (
        Difference(NOON, "a", 2, 7, 6),
        Difference(NOON + HOUR, "a", 1, 3, 4),
        Difference(NOON + HOUR, "b", 1, 1, 0),
        Difference(NOON + HOUR, "c", 0, 0, 9),
    )


def test_hours_that_have_not_been_read_are_not_compared() -> None:
    compared = compare([], {(NOON, "a"): 6})
    assert (compared.window, compared.hours, compared.by_model) == (None, 0, {})


@pytest.mark.parametrize(
    ("cost", "bucket"), [(0, 0), (100_000, 0), (100_001, 1), (10 * NANO, 13), (100 * NANO, 14), (100 * NANO + 1, 15)]
)
def test_a_cost_is_counted_up_to_its_bound(cost: int, bucket: int) -> None:
    assert bucket_of(cost) == bucket
    assert len(BUCKETS) == 15


@given(st.lists(st.integers(1, 10**13), min_size=1, max_size=40), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_within_a_bucket_of_the_true_one(amounts: list[int], share: float) -> None:
    from math import ceil, log2  # noqa: PLC0415

    found = ModelCosts(sum(amounts))
    for amount in amounts:
        found.cells[bucket_of(amount), ceil(log2(amount / NANO) * 8)] += 1
    exact = sorted(amounts)[max(0, ceil(share * len(amounts)) - 1)] / NANO
    told = quantile(found, share)
    assert told is not None
    assert exact / 2**0.1251 <= told <= exact * 2**0.1251


def test_there_is_no_quantile_without_requests_and_it_is_0_where_most_cost_nothing() -> None:
    assert quantile(ModelCosts(), 0.5) is None
    assert quantile(ModelCosts(5, Counter({(0, None): 9, (0, -240): 1})), 0.5) == 0


def test_counts_only_rise_with_later_readings() -> None:
    first = ModelCosts(50, Counter({(0, None): 2, (1, -80): 3}))
    later = ModelCosts(60, Counter({(0, None): 3, (1, -79): 1}))
    high = first.copy()
    high.raise_to(later)
    assert (high.requests, high.cost, high.buckets) == (7, 60, Counter({0: 3, 1: 4}))
    assert (high.free, high.native) == (3, Counter({-80: 3, -79: 1}))
    assert first.requests == 5


def test_totals_and_the_dearest_are_those_of_all_hours() -> None:
    dear = [DearRequest(cost, f"id-{cost}", "a", NOON) for cost in range(12)]
    hours = [
        summary(models={"a": costs(1, 2)}, dear=dear[:6]),
        summary(NOON + HOUR, models={"a": costs(2, 3)}, dear=dear[6:]),
    ]
    assert totals(hours)["a"] == costs(3, 5)
    assert [one.cost for one in dearest(hours)] == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]
