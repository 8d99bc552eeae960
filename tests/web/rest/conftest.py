"""The application over real HTTP, beside a ledger that an exporter has filled."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from pydantic import SecretStr
from queries.conftest import NOW, UTC_ZONE, address, ledger

from exporter.charges import Clock
from exporter.ledger import Ledger
from exporter.ledger.reader import LedgerReader
from exporter.web.application import Application
from exporter.web.rest.entrance import RestOptions

__all__ = ["address", "ledger"]

Serve = Callable[[Application], Awaitable[httpx.AsyncClient]]
Make = Callable[..., Application]


@pytest.fixture
def application(address: str) -> Make:
    """Make an application for the ledger at the address."""

    def make(clock: Clock = lambda: NOW, **options: object) -> Application:
        given: dict[str, object] = {"ledger_url": SecretStr(address), "reader": LedgerReader, "zone": UTC_ZONE}
        return Application(clock=clock, rest=RestOptions(**(given | options)))  # type: ignore[arg-type]

    return make


@pytest.fixture
async def client(serve: Serve, application: Make, ledger: Ledger) -> httpx.AsyncClient:
    del ledger
    return await serve(application())
