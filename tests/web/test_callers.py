"""Callers without credentials: this machine alone, everybody where that is set, and by known names only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from pydantic import SecretStr
from starlette.types import ASGIApp

from exporter.ledger.reader import LedgerReader
from exporter.web.application import Application
from exporter.web.callers import Callers, Hosts
from exporter.web.mcp.endpoint import PATH, endpoint
from exporter.web.rest.entrance import RestOptions

FIGURES = ("/", "/docs", "/openapi.json", "/v1/billing/balance", "/v1/nothing")
ALWAYS_OPEN = ("/metrics", "/-/healthy", "/healthz", "/-/ready", "/readyz")


def callers(*, is_open: bool = False, guarded: bool = False, names: tuple[str, ...] = ()) -> Callers:
    return Callers(
        what="REST",
        credentials="FAL_EXPORTER_REST_TOKENS_FILE",
        has_credentials=lambda: guarded,
        is_open=is_open,
        hosts=Hosts(names),
    )


def application(folder: Path, found: Callers) -> Application:
    rest = RestOptions(
        ledger_url=SecretStr(f"sqlite:///{folder / 'ledger.sqlite'}"), reader=LedgerReader, zone=ZoneInfo("UTC")
    )
    return Application(rest=rest, callers=found)


@asynccontextmanager
async def asking(app: ASGIApp, address: str, host: str = "localhost") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=(address, 40000))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8080") as client:
        yield client


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
async def test_programs_on_this_machine_see_everything(tmp_path: Path, address: str) -> None:
    async with asking(application(tmp_path, callers()), address) as client:
        statuses = [(await client.get(path)).status_code for path in FIGURES]
        assert not {401, 403, 421} & set(statuses)


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.7"])
async def test_others_scrape_and_probe_and_are_told_what_to_set_for_more(tmp_path: Path, address: str) -> None:
    async with asking(application(tmp_path, callers()), address) as client:
        for path in FIGURES:
            answer = await client.get(path)
            assert answer.status_code == 403, path
            message = answer.json()["error"]["message"]
            assert "set FAL_EXPORTER_REST_TOKENS_FILE" in message
            assert "FAL_EXPORTER_OPEN=true" in message
        assert {(await client.get(path)).status_code for path in ALWAYS_OPEN} <= {200, 503}


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP"])
async def test_a_proxy_on_this_machine_asks_for_others(tmp_path: Path, header: str) -> None:
    async with asking(application(tmp_path, callers()), "127.0.0.1") as client:
        assert (await client.get("/", headers={header: "192.0.2.7"})).status_code == 403


async def test_everybody_is_answered_where_that_is_set_or_credentials_decide(tmp_path: Path) -> None:
    for found in (callers(is_open=True), callers(guarded=True)):
        async with asking(application(tmp_path, found), "192.0.2.7") as client:
            assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_name_that_was_rebound_to_this_machine_gives_nothing_away(tmp_path: Path, *, is_open: bool) -> None:
    found = callers(is_open=is_open, names=("*.monitoring.svc",))
    for host, status in (
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("fal-exporter.monitoring.svc", 200),
        ("127.0.0.1", 200),
        ("localhost", 200),
    ):
        async with asking(application(tmp_path, found), "127.0.0.1", host) as client:
            answer = await client.get("/")
            assert answer.status_code == status, host
            if status == 421:
                assert "FAL_EXPORTER_ALLOWED_HOSTS" in answer.json()["error"]["message"]
            assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize("hosts", [("localhost", "evil.example"), ("evil.example", "localhost"), ("localhost",) * 2])
async def test_of_several_names_none_is_known(tmp_path: Path, hosts: tuple[str, ...]) -> None:
    async with asking(application(tmp_path, callers()), "127.0.0.1") as client:
        assert (await client.get("/", headers=[("Host", host) for host in hosts])).status_code == 421


async def test_mcp_answers_this_machine_alone_as_well() -> None:
    app = endpoint((), callers=callers())
    async with asking(app, "127.0.0.1") as client:
        several = [("Host", "evil.example"), ("Host", "localhost")]
        assert (await client.post(PATH, json={}, headers=several)).status_code == 421
    async with asking(app, "192.0.2.7") as client:
        assert (await client.post(PATH, json={})).status_code == 403
