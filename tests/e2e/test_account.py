"""The account itself, end to end: a lock, from the simulated fal to every view."""

from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest
from e2e.test_partial_answers import only, scene_of

from exporter.simulator import Fault


@pytest.mark.parametrize(
    ("sentence", "reason", "advice"),
    [
        pytest.param(
            *("Admin lock. Write to support.", "admin_lock", "a top-up does not unlock it"), marks=pytest.mark.long
        ),
        pytest.param(
            *("User budget is exceeded. Raise it.", "budget_exceeded", "raise the account's monthly budget"),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *("Please add a payment method.", "payment_method", "add a payment method"), marks=pytest.mark.long
        ),
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
            lambda item: bool(item.overview.accounts[0].locked) and bool(item.outlook.accounts[0].locked)
        )
        assert (latest.overview.accounts[0].balance or 0) > 0
        locked = only((await exporter.metrics())["fal_account_locked"], "reason")
        assert {item for item, value in locked.items() if value} == {reason}
        page = unescape(await exporter.page())
        assert "Locked by fal: " in page
        assert advice in page
        answer = (await exporter.client.get("/v1/billing/balance")).json()
        assert answer["accounts"][0]["locked"] == [reason]
        assert {source.state for source in latest.overview.accounts[0].sources} == {"up"}


@pytest.mark.long
async def test_the_hard_budget_set_at_fal_is_shown_beside_what_is_spent(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scene, scene.exporter(sources=("models",)) as exporter:
        await exporter.loaded("models")
        scene.simulator.faults.add(Fault("account_details", soft_budget=10**6, hard_budget=2 * 10**6))
        await exporter.running.half.accounts[0].poll_balance()
        await exporter.republished()
        metrics = await exporter.metrics()
        assert only(metrics["fal_provider_budget_usd"], "kind") == {"soft": 10**6, "hard": 2 * 10**6}


@pytest.mark.long
async def test_who_is_billed_by_invoice_hears_nothing_of_credit(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scene, scene.exporter(sources=("models",)) as exporter:
        await exporter.loaded("models")
        poller = exporter.running.half.accounts[0]
        scene.simulator.faults.add(Fault("account_details", is_paying=False), Fault("balance", amount=0))
        scene.forward(seconds=60)
        await poller.poll_balance()
        await exporter.until(lambda item: item.outlook.accounts[0].runway == timedelta(0))
        assert "fal refuses further calls" in await exporter.page()
        scene.simulator.faults.remove("account_details")
        scene.forward(seconds=60)
        await poller.poll_balance()
        latest = await exporter.until(lambda item: item.outlook.accounts[0].runway is None)
        assert latest.outlook.accounts[0].balance == 0
        assert latest.overview.accounts[0].pays_by_invoice
        assert "fal refuses further calls" not in await exporter.page()
        assert "fal_credit_runway_seconds" not in await exporter.metrics()
