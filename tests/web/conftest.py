"""Fixtures of the tests of the web room: publications, and the application served over real HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest
from local_http import NO_TLS
from starlette.types import ASGIApp

from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.encoding import Encoder
from exporter.metrics.snapshot import Snapshot, Table
from exporter.overview import Overview
from exporter.publication import Publication
from exporter.samples import Sample, paged
from exporter.web.admission import WebConfigFile
from exporter.web.application import Application
from exporter.web.connections import Connections
from exporter.web.server import GRACE, listen, serve_web

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)

Publish = Callable[..., Publication]
Serve = Callable[[Application], Awaitable[httpx.AsyncClient]]


@pytest.fixture
def publication() -> Publish:
    """Make the publication of so many balances."""
    encoder = Encoder()

    def make(
        sequence: int = 1,
        *,
        series: int = 2,
        ready: bool = True,
        overview: Overview | None = None,
        protobuf: bool = False,
    ) -> Publication:
        encoder.writes_protobuf = protobuf
        samples = paged(Sample((f"account-{number}",), sequence * 10**9) for number in range(series))
        snapshot = Snapshot(sequence, AT, (Table(CATALOGUE["fal_credit_balance_usd"], ("account",), samples),))
        return Publication(sequence, AT, encoder.encode(snapshot), overview or Overview("1.2.3"), ready)

    return make


@asynccontextmanager
async def served_on(
    app: ASGIApp,
    web_config: WebConfigFile | None = None,
    connections: Connections | None = None,
    *,
    grace: int = GRACE,
) -> AsyncIterator[int]:
    """Serve an application until the block is left; yields the port."""
    stop = asyncio.Event()
    listener = listen("127.0.0.1", 0)
    serving = asyncio.create_task(
        serve_web(app, listener, stop, grace=grace, web_config=web_config, connections=connections)
    )
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        await serving


@asynccontextmanager
async def served(application: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        served_on(application) as port,
        httpx.AsyncClient(verify=NO_TLS, base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve an application until the test ends and return a client for it."""
    async with AsyncExitStack() as stack:

        async def start(application: Application) -> httpx.AsyncClient:
            return await stack.enter_async_context(served(application))

        yield start
