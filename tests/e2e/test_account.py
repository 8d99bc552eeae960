"""The account itself, end to end: a lock, from the simulated fal to every view."""

from html import unescape
from pathlib import Path

import pytest
from e2e.test_partial_answers import only, scene_of

from exporter.simulator import Fault


@pytest.mark.parametrize(
    ("sentence", "reason", "advice"),
    [
        ("Admin lock. Write to support.", "admin_lock", "a top-up does not unlock it"),
        ("User budget is exceeded. Raise it.", "budget_exceeded", "raise the account's monthly budget"),
        ("Please add a payment method.", "payment_method", "add a payment method"),
    ],
)
async def test_an_account_locked_with_money_on_it_is_seen_although_every_reading_call_answers(
    tmp_path: Path, sentence: str, reason: str, advice: str
) -> None:
    async with scene_of(tmp_path) as scene, scene.exporter(sources=("models",)) as exporter:
        await exporter.loaded("models")
        assert set((await exporter.metrics())["fal_account_locked"].values()) == {0}
        scene.simulator.faults.add(Fault("locked", reason=sentence, readable=True))
        (poller,) = exporter.running.half.accounts
        await poller.poll_balance()
        latest = await exporter.until(
            lambda it: all(one.locked for one in (*it.overview.accounts, *it.outlook.accounts))
        )
        assert (latest.overview.accounts[0].balance or 0) > 0
        locked = only((await exporter.metrics())["fal_account_locked"], "reason")
        assert {it for it, value in locked.items() if value} == {reason}
        page = unescape(await exporter.page())
        assert "Locked by fal: " in page
        assert advice in page
        answer = (await exporter.client.get("/v1/billing/balance")).json()
        assert answer["accounts"][0]["locked"] == [reason]
        assert {source.state for source in latest.overview.accounts[0].sources} == {"up"}
