"""Crashes of the requests poller between any two steps of its writing: what is known in the end is the same."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from polling import test_requests
from polling.conftest import REACH, Clock
from polling.test_requests import Reading, opened, poller_of
from prometheus_client import CollectorRegistry

from exporter.charges import HOUR, Window, hour_of
from exporter.errors import EventsError
from exporter.events.questions import RequestsQuestion
from exporter.events.store import EventStore, open_store
from exporter.fal import billing_events
from exporter.polling import requests as module
from exporter.polling.requests import RequestsPoller
from exporter.simulator import RunningSimulator

_STEPS = ("keep_part", "keep_hour", "keep_document", "drop_stale", "compact", "expire")


class Crashing:
    """A store whose owner dies just before or just after a step; the store itself lives on."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._left: int | None = None
        self._is_after = False
        self.crashes: list[str] = []

    def arm(self, steps: int, *, after: bool) -> None:
        """Crash after so many steps, or just before the last of them."""
        self._left, self._is_after = steps, after

    def disarm(self) -> None:
        """Crash no more."""
        self._left = None

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)
        return self._step(name, method) if name in _STEPS else method

    def _step(self, name: str, method: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **named: object) -> object:
            if self._left is None:
                return method(*arguments, **named)
            self._left -= 1
            if self._left > 0:
                return method(*arguments, **named)
            if self._left == 0 and self._is_after:
                method(*arguments, **named)
            # Whoever has died does nothing any more.
            self.crashes.append(name)
            raise EventsError("the process has died")

        return step


def restarted(reading: Reading) -> RequestsPoller:
    """Return a poller that knows nothing but what the store tells."""
    return poller_of(replace(reading.bench, registry=CollectorRegistry()), reading.requests, reading.clock)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 22))])
async def test_a_crash_between_any_two_steps_leaves_every_request_once_and_every_count_right(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  reproducible
    hours = 3 if seed == 1 else 12
    monkeypatch.setattr(test_requests, "SHORT", replace(REACH, history=hours * HOUR))
    monkeypatch.setattr(module, "_PART", chance.choice((20, 60)))
    monkeypatch.setitem(billing_events._PAGE_ROWS, billing_events.MODELS_EVENTS, chance.choice((15, 30)))
    made: list[Crashing] = []

    def opening(url: str) -> EventStore:
        made.append(Crashing(open_store(url)))
        return made[0]  # type: ignore[return-value]  # as far as it is used

    async with opened(fal, clock, tmp_path, store=opening) as reading:
        await crash_and_recover(reading, made[0], chance, hours)


async def crash_and_recover(reading: Reading, store: Crashing, chance: random.Random, hours: int) -> None:
    await reading.bench.account.poll_recent()
    for _ in range(chance.randrange(4, 7)):
        store.arm(chance.randrange(1, 14), after=chance.random() < 0.5)
        await restarted(reading).poll()
        reading.clock.forward(minutes=chance.choice((0, 1, 6)))
    assert len(store.crashes) >= 4
    store.disarm()
    last = restarted(reading)
    for _ in range(3):
        # What comes in time has been read at the end, so that the one who asks again has nothing more to read.
        reading.clock.forward(minutes=6)
        await reading.bench.account.poll_recent()
        await last.poll()
        assert last.polled.state == "up", last.polled.problem
    progress = last._progress
    assert progress is not None
    assert progress.reading is None
    window = Window(progress.since, progress.through)
    assert len(last.hours) >= hours
    assert reading.stored(window) == reading.charged(window) != {}
    question = RequestsQuestion(window.start, window.end, sort="time", limit=1_000_000)
    found = [one.request for one in reading.requests.store.select(question)]
    assert len({one.request_id for one in found}) == len(found)
    born = last._counts._born
    assert born is not None
    counted = [one for one in found if hour_of(one.at) >= born]
    totals = last._counts.totals()
    assert sum(costs.requests for costs in totals.values()) == len(counted) > 0
    assert sum(costs.cost for costs in totals.values()) == sum(one.cost for one in counted)
    # A restart after the last crash knows the same.
    again = restarted(reading)
    await again.poll()
    assert again._counts.totals() == totals
    assert {hour.hour for hour in again.hours} >= {window.start + number * HOUR for number in range(hours)}
