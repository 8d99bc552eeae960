"""A ledger of known charges and invoices, and what has been published beside it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from events.requests_of import request as request_of

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Invoice, Window
from exporter.events.store import SharedReader, open_store
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast, Lock, Outlook
from exporter.ledger import Ledger, Rules
from exporter.ledger.reader import LedgerReader
from exporter.overview import Overview
from exporter.publication import Exposition, Publication
from exporter.web.mcp.tool import Known

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
DAY = Window(datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC))
MONTH = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))

VEO = Dimensions("default", product="model_apis", model="fal-ai/veo3", unit="second")
PIPED = Dimensions("default", product="model_apis", model="odd|name", unit="image")
SHOP = Dimensions("default", product="serverless", app="shop", gpu_class="H100", unit="second")
COST = 100_000_000_000_000_003
"""Nano-USD an hour: a float could not tell it from its neighbours."""

LOCKS = (Lock("exhausted_balance", "the balance is exhausted; top up the balance."),)

OUTLOOK = Outlook(
    accounts=(
        AccountOutlook(
            "default",
            MONTH,
            -5 * NANO,
            NOW,
            timedelta(hours=50),
            LOCKS,
            7 * NANO,
            Forecast(12, 10 * NANO, 15),
            -20 * NANO,
        ),
        AccountOutlook("unknown", MONTH),
    ),
    budgets=(
        BudgetOutlook(
            "studio",
            "month",
            MONTH,
            10 * NANO,
            {"app": ("shop*",)},
            (Fraction(1, 2), Fraction(4, 5)),
            7 * NANO,
            Forecast(12 * NANO, 10 * NANO, 15 * NANO),
            {"1h": 1.25},
        ),
    ),
)


def charges() -> Iterator[Charge]:
    for hour in DAY.hours():
        yield Charge(hour, VEO, Amounts(8 * NANO, 0, COST + 5, 5, COST))
        yield Charge(hour, PIPED, Amounts(3 * NANO, 0, 2, 0, 2))
        yield Charge(hour, SHOP, Amounts(NANO // 2, 3600 * NANO, 1, 0, 1))
        for team in ("blue", "red"):
            yield Charge(hour, Dimensions("default", team, "compute"), Amounts(0, 0, 1, 1, 0))


def invoice(number: int) -> Invoice:
    start = datetime(2026, number, 1, tzinfo=UTC)
    end = datetime(2026, number + 1, 1, tzinfo=UTC)
    return Invoice(
        "default", f"inv_{number:02}", f"F-{number:02}", "paid", start, end, end + HOUR, None, "USD", COST, 0, 0, COST
    )


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    address = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}"
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    ledger.activate({"default": ("models",)})
    ledger.restate("default", "models", DAY, charges(), at=NOW)
    ledger.record_invoices("default", [invoice(number) for number in range(1, 11)])
    ledger.close()
    return address


@pytest.fixture(scope="session")
def store_of_requests(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two requests of the hour before last, which cost 25 cents and a dollar."""
    url = f"file://{tmp_path_factory.mktemp('requests')}"
    store, hour = open_store(url), NOW.replace(minute=0) - 2 * HOUR
    made = [
        request_of(number, cost, hour=hour, tags='{"customer":"acme"}') for number, cost in ((1, NANO // 4), (2, NANO))
    ]
    store.keep_hour("default", hour, NOW, 0, made)
    store.close()
    return url


@pytest.fixture
def known(ledger: str, store_of_requests: str) -> Iterator[Known]:
    reader = LedgerReader(ledger)
    published = Publication(1, NOW, Exposition(), Overview("1.2.3"), ready=True, outlook=OUTLOOK)
    requests = SharedReader(store_of_requests)
    yield Known(reader, lambda: published, ZoneInfo("UTC"), lambda: NOW, requests=requests)
    requests.close()
    reader.close()


@pytest.fixture
def nothing_known(tmp_path: Path) -> Iterator[Known]:
    """Yield what is known before the first poll: there is not even a ledger."""
    reader = LedgerReader(f"sqlite:///{tmp_path / 'none.sqlite'}")
    yield Known(reader, lambda: None, ZoneInfo("UTC"), lambda: NOW)
    reader.close()
