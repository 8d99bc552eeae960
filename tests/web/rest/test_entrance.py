"""The application of REST is imported with its first question."""

import asyncio
import importlib
import threading
from types import ModuleType

import httpx
import pytest
from structlog.testing import capture_logs
from web.rest.conftest import Make

from exporter.web import application as asgi

USAGE = "/v1/billing/usage"


async def test_those_who_ask_first_share_one_import(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []

    def note(name: str) -> ModuleType:
        imported.append(name)
        return importlib.import_module(name)

    monkeypatch.setattr(asgi, "import_module", note)
    assert (await client.get("/metrics")).status_code == 200
    assert not imported
    answers = await asyncio.gather(*(client.get(USAGE) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len(imported) == 1


async def test_who_leaves_while_it_is_imported_does_not_end_the_import_for_the_others(
    application: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(name: str) -> ModuleType:
        begun.set()
        assert go_on.wait(10)
        return importlib.import_module(name)

    monkeypatch.setattr(asgi, "import_module", wait)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(application()), base_url="http://localhost", trust_env=False
    ) as client:
        first, second = (asyncio.create_task(client.get("/v1/billing/nothing")) for _ in range(2))
        assert await asyncio.to_thread(begun.wait, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        assert (await second).status_code == 404


async def test_what_cannot_be_loaded_is_a_sentence_and_tried_again(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> ModuleType:
        raise OSError(24, "Too many open files")

    with capture_logs() as logs, monkeypatch.context() as patched:
        patched.setattr(asgi, "import_module", fail)
        answer = await client.get(USAGE)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["error"]["message"] == "REST cannot be loaded now; see the log"
    assert [log["error"] for log in logs] == ["OSError: [Errno 24] Too many open files"]
    assert (await client.get(USAGE)).status_code == 200
