import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from polling.conftest import Clock
from prometheus_client import CollectorRegistry
from published_health import value_of
from structlog.typing import EventDict

from exporter.errors import ConfigurationError, LedgerError, UpstreamError
from exporter.ledger import NO_REJECTED_ROWS, RejectedRows
from exporter.metrics.health import Health
from exporter.polling.poll_runner import OWN_REASONS, PollRunner

HOUR = datetime(2026, 11, 20, 10, tzinfo=UTC)


class Polls:
    def __init__(self, clock: Clock) -> None:
        self.changes = 0
        health = self.health = Health(
            CollectorRegistry(), failure_reasons=(*OWN_REASONS, "upstream"), rejection_reasons=("missing",)
        )
        self.runner = PollRunner(health=health, clock=clock, changed=self._count)
        self.models = self.runner.expect("main", "models")

    def _count(self) -> None:
        self.changes += 1

    def number(self, name: str, **labels: str) -> float | None:
        return value_of(self.health, name, {"account": "main", "source": "models", **labels})

    async def poll(self, result: Mapping[str, int] | Exception | None = None) -> bool:
        return await self.runner.poll(self.models, answering(result))


def answering(result: Mapping[str, int] | Exception | None) -> Callable[[datetime], Awaitable[Mapping[str, int]]]:
    async def work(at: datetime) -> Mapping[str, int]:
        del at
        if isinstance(result, Exception):
            raise result
        return result or {}

    return work


@pytest.fixture
def polls(clock: Clock) -> Polls:
    return Polls(clock)


def warnings(logs: list[EventDict]) -> list[object]:
    return [entry["problem"] for entry in logs if entry["log_level"] == "warning"]


async def test_a_success_moves_the_stamps(polls: Polls, clock: Clock) -> None:
    assert polls.models.state == "waiting"
    assert await polls.poll({"outside_window": 2})
    assert polls.models.state == "up"
    assert polls.number("fal_source_up") == 1
    assert polls.number("fal_exporter_polls_total") == 1
    assert polls.number("fal_source_partial") == 0
    assert polls.number("fal_exporter_rejected_rows", reason="missing") == 0
    assert polls.number("fal_exporter_last_poll_success_timestamp_seconds") == clock.now.timestamp()
    assert polls.changes == 1


async def test_a_poll_with_rows_that_cannot_be_read_succeeds_in_part(polls: Polls) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert await polls.poll({"missing": 2, "outside_window": 1})
    assert (polls.models.state, polls.models.cause) == ("partial", "")
    assert polls.models.problem == (
        "2 rows cannot be read, or only partly (2 missing). fal's API may have changed: check for a newer version of "
        "the exporter."
    )
    assert warnings(logs) == [polls.models.problem], "told once"
    assert (polls.number("fal_source_up"), polls.number("fal_source_partial")) == (1, 1)
    assert polls.number("fal_exporter_rejected_rows", reason="missing") == 2, "of the last poll"
    assert not await polls.poll(UpstreamError("fal is away"))
    assert (polls.models.state, polls.models.problem) == ("failing", "fal is away")
    with structlog.testing.capture_logs() as logs:
        assert await polls.poll({"missing": 2})
        assert await polls.poll()
    assert [entry["event"] for entry in logs if entry["event"] != "polls succeed again"] == [
        "rows cannot be read",
        "all rows can be read again",
    ]
    assert (polls.models.state, polls.models.problem) == ("up", "")
    assert polls.number("fal_source_partial") == 0


async def test_rows_of_a_source_are_those_that_the_ledger_keeps(polls: Polls) -> None:
    usage = polls.runner.expect("prod", "serverless", is_usage=True)
    usage.rejected = RejectedRows({"wrong_type": 1, "unit": 3}, 12_300_000_000, HOUR, HOUR + timedelta(hours=2))

    async def work(at: datetime) -> Mapping[str, int]:
        del at
        return {"wrong_type": 40}

    assert await polls.runner.poll(usage, work)
    assert usage.problem == (
        "4 rows of 2026-11-20T10Z to 2026-11-20T12Z cannot be read, or only partly (1 wrong_type, 3 unit). Their "
        "hours keep their previous values. $12.30 in these rows is not counted. fal's API may have changed: check for "
        "a newer version of the exporter."
    )
    usage.rejected = NO_REJECTED_ROWS
    assert await polls.runner.poll(usage, work)
    assert usage.state == "up"


async def test_a_failure_is_counted_by_reason_and_moves_no_stamp_of_success(polls: Polls, clock: Clock) -> None:
    await polls.poll()
    before = clock.now.timestamp()
    clock.forward(minutes=5)
    assert not await polls.poll(UpstreamError("fal is away"))
    assert polls.number("fal_source_up") == 0
    assert polls.number("fal_exporter_poll_failures_total", reason="upstream") == 1
    assert polls.number("fal_exporter_last_poll_success_timestamp_seconds") == before
    assert polls.number("fal_exporter_last_poll_attempt_timestamp_seconds") == clock.now.timestamp()
    assert (polls.models.state, polls.models.problem) == ("failing", "fal is away")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LedgerError("the disk is full"), "ledger"),
        (ConfigurationError("the key file is empty"), "configuration"),
        (ZeroDivisionError("secret"), "unexpected"),
    ],
)
async def test_failures_that_are_not_fals_have_reasons_of_their_own(
    polls: Polls, error: Exception, reason: str
) -> None:
    assert not await polls.poll(error)
    assert polls.number("fal_exporter_poll_failures_total", reason=reason) == 1
    assert "secret" not in polls.models.problem


async def test_a_cause_is_logged_when_it_is_met_and_not_again_until_it_is_over(
    polls: Polls, logs: list[EventDict]
) -> None:
    for _ in range(3):
        await polls.poll(UpstreamError("fal is away"))
    assert warnings(logs) == ["fal is away"]
    await polls.poll(LedgerError("the disk is full"))
    assert warnings(logs) == ["fal is away", "the disk is full"]
    await polls.poll()
    assert logs[-1]["event"] == "polls succeed again"
    await polls.poll()
    assert logs[-1]["event"] == "polls succeed again"
    assert len(logs) == 3
    await polls.poll(UpstreamError("fal is away"))
    assert len(warnings(logs)) == 3
    assert polls.models.problem == "fal is away"


async def test_polls_of_one_thing_take_turns_so_that_no_older_answer_replaces_a_newer(polls: Polls) -> None:
    under_way, most = 0, 0

    async def work(at: datetime) -> Mapping[str, int]:
        nonlocal under_way, most
        del at
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return {}

    await asyncio.gather(*(polls.runner.poll(polls.models, work) for _ in range(4)))
    assert most == 1
    assert polls.number("fal_exporter_polls_total") == 4


async def test_being_cancelled_is_neither_success_nor_failure_and_gives_the_turn_back(polls: Polls) -> None:
    begun = asyncio.Event()

    async def work(at: datetime) -> Mapping[str, int]:
        del at
        begun.set()
        await asyncio.Event().wait()
        return {}

    poll = asyncio.create_task(polls.runner.poll(polls.models, work))
    await begun.wait()
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert polls.number("fal_exporter_polls_total") == 0
    assert await polls.poll()
