"""A ledger of two accounts that an exporter has filled, and its reader."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from exporter.charges import NANO, Amounts, Charge, Dimensions, Window
from exporter.ledger import Ledger, Rules
from exporter.ledger.reader import LedgerReader

NOW = datetime(2026, 11, 3, 10, 20, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")

HISTORY = Window(datetime(2026, 10, 30, tzinfo=UTC), datetime(2026, 11, 3, 11, tzinfo=UTC))
FLUX = Dimensions("studio", product="model_apis", model="fal-ai/flux", unit="image")
VEO = Dimensions("studio", product="model_apis", model="fal-ai/veo3", unit="second")
APP = Dimensions("research", team="lab", product="serverless", app="train", gpu_class="H100", unit="second")

LONG_STATEMENTS = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 50000000) SELECT max(x) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}
"""Statements that take many seconds."""

Restate = Callable[[str, str, list[Charge]], None]


def charges_of(dimensions: Dimensions, cents: int, gpu_seconds: int = 0) -> list[Charge]:
    """Charge so much in every hour, after a discount of a tenth."""
    cost = cents * NANO // 100
    amounts = Amounts(3 * NANO, gpu_seconds * NANO, cost * 10 // 9, cost * 10 // 9 - cost, cost)
    return [Charge(hour, dimensions, amounts) for hour in HISTORY.hours()]


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    """Open a ledger in which the hour costs 90 cents, 45 cents and 9 cents."""
    opened = Ledger(address, rules=Rules(settle_delay=timedelta(hours=48)), clock=lambda: NOW)
    opened.activate({"studio": ("models",), "research": ("serverless",)})
    opened.restate("studio", "models", HISTORY, [*charges_of(FLUX, 45), *charges_of(VEO, 90)], at=NOW)
    opened.restate("research", "serverless", HISTORY, charges_of(APP, 9, gpu_seconds=7), at=NOW)
    yield opened
    opened.close()


@pytest.fixture
def reader(ledger: Ledger, address: str) -> Iterator[LedgerReader]:
    del ledger
    opened = LedgerReader(address)
    yield opened
    opened.close()


@pytest.fixture
def hours() -> int:
    return len(HISTORY)
