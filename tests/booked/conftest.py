"""A store of a few charged requests, and what was booked for them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exporter.charges import HOUR, BilledRequest, Window
from exporter.events.store import EventReader, open_reader, open_store

HERE = datetime(2026, 11, 27, 13, tzinfo=UTC)
WINDOW = Window(HERE, HERE + 2 * HOUR)
READ_AT = HERE + 3 * HOUR


def billed(number: int, cost: int) -> BilledRequest:
    """Return the request `r-NUMBER`, charged for so many minutes after the window began; cost in nano-USD."""
    return BilledRequest(
        request_id=f"r-{number}",
        at=HERE + timedelta(minutes=number),
        model="flux" if number % 2 else "kling",
        team="",
        api_key="key-1",
        member="",
        quantity=None,
        unit_price=None,
        discount_percent=None,
        list_cost=cost,
        discount=0,
        cost=cost,
        tags='{"customer":"acme"}' if number < 3 else "{}",
    )


REQUESTS = [billed(number, 1000 * number) for number in range(1, 7)]
"""r-1 to r-6, at 1 to 6 micro-dollars."""


@pytest.fixture
def events_url(tmp_path: Path) -> str:
    """Keep the requests of the first hour; the second has not been read."""
    url = f"file://{tmp_path / 'requests'}"
    store = open_store(url)
    store.keep_hour("main", HERE, READ_AT, 0, REQUESTS)
    store.close()
    return url


@pytest.fixture
def reader(events_url: str) -> Iterator[EventReader]:
    opened = open_reader(events_url)
    yield opened
    opened.close()
