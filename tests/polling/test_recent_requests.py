"""The requests of the last day, from the sums of hours."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil, log2

import pytest
from events.requests_of import HOUR_13

from exporter.charges import HOUR, NANO
from exporter.events.summaries import SCHEMA, DearRequest, HourSummary, ModelCosts, bucket_of
from exporter.polling.recent_requests import RecentRequestsMaker


@dataclass
class Poller:
    name: str
    hours: list[HourSummary] = field(default_factory=list)

    def read(self, past: int, *costs: int, model: str = "flux") -> None:
        """Read an hour with requests that cost so many nano-dollars each."""
        hour = HOUR_13 - past * HOUR
        dearest = [DearRequest(cost, f"{self.name}-{past}-{number}", model, hour) for number, cost in enumerate(costs)]
        cells: Counter[tuple[int, int | None]] = Counter(
            (bucket_of(cost), ceil(log2(cost / NANO) * 2**SCHEMA)) for cost in costs
        )
        of_model = ModelCosts(sum(costs), cells)
        self.hours = [known for known in self.hours if known.hour != hour]
        read_at = hour + 2 * HOUR + timedelta(seconds=len(costs))
        self.hours.append(HourSummary(hour, read_at, {model: of_model}, tuple(sorted(dearest, reverse=True))))


@pytest.fixture
def pollers() -> list[Poller]:
    return [Poller("a"), Poller("b")]


@pytest.fixture
def recent(pollers: list[Poller]) -> RecentRequestsMaker:
    return RecentRequestsMaker(pollers)


def test_before_an_hour_has_been_read_there_is_nothing(recent: RecentRequestsMaker) -> None:
    assert recent() is None


def test_a_day_of_all_accounts_is_summed_up_and_what_is_older_is_not(
    pollers: list[Poller], recent: RecentRequestsMaker
) -> None:
    first, second = pollers
    first.read(0, NANO, 3 * NANO)
    first.read(23, NANO)
    first.read(24, 900 * NANO)
    second.read(1, 40 * NANO, model="veo")
    found = recent()
    assert found is not None
    assert (found.since, found.through) == (HOUR_13 - 23 * HOUR, HOUR_13 + HOUR)
    assert [(item.model, item.requests, item.cost) for item in found.models] == [
        ("veo", 1, 40 * NANO),
        ("flux", 3, 5 * NANO),
    ]
    flux = found.models[1]
    assert 0.9 < flux.p50 < 1.1
    assert 2.7 < flux.p95 <= flux.p99 < 3.3
    assert [(dear.account, dear.request_id, dear.cost) for dear in found.dearest] == [
        ("b", "b-1-0", 40 * NANO),
        ("a", "a-0-1", 3 * NANO),
        ("a", "a-0-0", NANO),
        ("a", "a-23-0", NANO),
    ]
    assert (found.others, found.rest) == (0, None)


def test_further_models_are_told_together(pollers: list[Poller], recent: RecentRequestsMaker) -> None:
    for number in range(11):
        pollers[0].read(number, (number + 1) * NANO, model=f"model-{number}")
    found = recent()
    assert found is not None
    assert [item.model for item in found.models] == [f"model-{number}" for number in range(10, 2, -1)]
    assert found.others == 3
    assert found.rest is not None
    assert (found.rest.requests, found.rest.cost) == (3, 6 * NANO)
    assert len(found.dearest) == 10


def test_it_is_made_anew_only_where_an_hour_has_been_read_again(
    pollers: list[Poller], recent: RecentRequestsMaker
) -> None:
    pollers[0].read(0, NANO)
    before = recent()
    assert recent() is before
    pollers[0].read(0, NANO, NANO)
    after = recent()
    assert after is not None
    assert after.models[0].requests == 2


def test_hours_and_rows_that_are_missing_of_an_account_are_said(
    pollers: list[Poller], recent: RecentRequestsMaker
) -> None:
    first, second = pollers
    first.read(0, NANO)
    first.read(1, NANO)
    whole = recent()
    assert whole is not None
    assert whole.notes == ("2 hours of account b not read yet, and not in these figures.",)
    second.read(0)
    second.read(1, NANO)
    second.hours = [replace(summary, rejected=1) for summary in second.hours]
    partly = recent()
    assert partly is not None
    assert partly.notes == ("2 rows of account b cannot be read, and not in these figures.",)
