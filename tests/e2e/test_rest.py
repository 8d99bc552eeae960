"""REST against its own description: schemathesis asks all that the description allows, and much that not."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import SecretStr

from exporter.app.single_process import in_one_process
from exporter.settings import Listen, Settings
from exporter.settings.credentials import new_token, token_line
from exporter.simulator import ADMIN_KEY, Simulator, World, WorldSize, serving
from exporter.web.rest.calls import CALLS

NOW = datetime(2026, 11, 2, 3, 20, tzinfo=UTC)

HOOKS = """
import schemathesis
from hypothesis import strategies

zones = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"]
schemathesis.openapi.format("iana-time-zone", strategies.sampled_from(zones))
"""

# What a schema cannot say, a start after its end or an account that is not polled, is rightly answered 400. A file has
# further answers: a month of which there is nothing.
CONFIGURATION = """
[checks]
positive_data_acceptance.expected-statuses = {statuses}
"""
ACCEPTED = ["2xx", "304", "400"]


class Guarded(NamedTuple):
    """An exporter at work, and the token that it admits."""

    url: str
    token: str


@pytest.fixture
async def exporter(tmp_path: Path) -> AsyncIterator[Guarded]:
    token = new_token()
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("schemathesis", token))
    simulator = Simulator(World(23, WorldSize(models=3, callers=1, apps=2, compute=0, teams=1)), lambda: NOW)
    async with serving(simulator) as fal:
        settings = Settings(
            key=SecretStr(ADMIN_KEY),
            platform_url=fal.platform_url,
            reporting_url=fal.reporting_url,
            listen=Listen("127.0.0.1", 0),
            ledger_url=SecretStr(f"sqlite:///{tmp_path / 'ledger.sqlite'}"),
            history=timedelta(hours=50),
            rest_tokens_file=tokens,
        )
        async with in_one_process(settings, clock=lambda: NOW) as running, asyncio.timeout(120):
            while running.latest is None or not running.latest.ready:
                running.published.clear()
                await running.published.wait()
            yield Guarded(running.url, token.get_secret_value())


async def schemathesis(exporter: Guarded, folder: Path, *options: str, accepted: Sequence[str] = ACCEPTED) -> str:
    """Run every check and return what was found, which is nothing."""
    (folder / "hooks_of_rest.py").write_text(HOOKS)
    (folder / "schemathesis.toml").write_text(CONFIGURATION.format(statuses=json.dumps(accepted)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(folder / "schemathesis.toml"), "run", f"{exporter.url}/openapi.json"),
        *("--checks", "all", "--seed", "1", "--no-color", "-H", f"Authorization: Bearer {exporter.token}", *options),
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "hooks_of_rest", "PYTHONPATH": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.long
async def test_the_calls_are_as_they_are_described(exporter: Guarded, tmp_path: Path) -> None:
    options = ("--exclude-path-regex", "/v1/billing/(focus|requests)", "--max-examples", "8")
    told = await schemathesis(exporter, tmp_path, *options)
    documents = [call for call in CALLS if call.answer is not None and call.made_from != "requests"]
    assert f"Tested: {len(documents)}" in told


@pytest.mark.long
async def test_the_calls_for_requests_are_as_they_are_described_where_none_are_read(
    exporter: Guarded, tmp_path: Path
) -> None:
    options = ("--include-path-regex", "/v1/billing/requests", "--max-examples", "4")
    assert "Tested: 3" in await schemathesis(exporter, tmp_path, *options, accepted=[*ACCEPTED, "404"])


@pytest.mark.long
async def test_the_file_is_as_it_is_described(exporter: Guarded, tmp_path: Path) -> None:
    options = ("--include-path", "/v1/billing/focus", "--phases", "examples,fuzzing", "--max-examples", "2")
    assert "Tested: 1" in await schemathesis(exporter, tmp_path, *options, accepted=[*ACCEPTED, "404", "409"])
