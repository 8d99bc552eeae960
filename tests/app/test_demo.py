import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from app.conftest import Publications
from e2e.processes import PATIENCE, free_port, parsed, wait_until
from local_http import HTTP

from exporter.app.demo import book_requests, demo_budgets, live_line, run_demo, run_simulate
from exporter.booked.comparison import compare, default_window
from exporter.booked.sources import Columns
from exporter.charges import HOUR, BilledRequest
from exporter.errors import ConfigurationError
from exporter.events.store import open_reader, open_store
from exporter.overview import AccountOverview, Overview, SourceOverview
from exporter.publication import Exposition, Publication
from exporter.settings import Listen
from exporter.simulator import ADMIN_KEY, company, running_simulator
from exporter.simulator.world.account import month_cost
from exporter.simulator.world.company import DEARER_MODEL, OLD_PRICE
from exporter.simulator.world.exact import FOREVER, NANO, microseconds


def test_it_tells_how_to_poll_it_answers_and_ends_on_a_signal() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "exporter", "simulate", "--listen", f"127.0.0.1:{port}", "--seed", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        told = next(line for line in process.stdout if line.startswith("A simulated fal"))
        assert f"http://127.0.0.1:{port}" in told
        url = f"http://127.0.0.1:{port}/v1/models/usage"
        headers = {"authorization": f"Key {ADMIN_KEY}"}
        assert HTTP.get(url, headers=headers, timeout=30).status_code == 200
        assert HTTP.get(url, timeout=30).status_code == 401
        process.send_signal(signal.SIGTERM)
        told += process.stdout.read()
        process.wait(20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert f"FAL_KEY={ADMIN_KEY}" in told
    assert "Traceback" not in told


def test_an_address_in_use_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--listen 127.0.0.1:{port} cannot be used"):
            run_simulate(host="127.0.0.1", port=port, seed=1)


@pytest.mark.parametrize("setting", ["--listen", "FAL_EXPORTER_LISTEN"])
def test_an_address_in_use_names_what_the_demo_was_given_it_with(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Listen(*taken.getsockname())
        with pytest.raises(ConfigurationError, match=f"{address} .*: set {setting} to an address"):
            run_demo(listen=address, seed=1, days=1, listen_setting=setting)


@pytest.mark.parametrize("now", [datetime(2026, 11, day, 14, tzinfo=UTC) for day in (1, 11, 30)])
async def test_one_budget_of_the_demo_is_near_its_limit_but_in_the_first_days(now: datetime) -> None:
    async with running_simulator(company(1, now), lambda: now) as simulator:
        whole, video, _ = demo_budgets(simulator, now)
        account = simulator.simulator.account
        span = microseconds(now.replace(day=1, hour=0)), microseconds(now)
        spent = sum(
            charge.cost
            for charges in account.charges(span, span[1])
            for charge in charges
            if charge.line.model.endswith("-to-video")
        )
        assert await month_cost(account, now.replace(day=1, hour=0), FOREVER) < whole.amount * NANO
    assert (Decimal("0.85") < spent / (video.amount * NANO) < 1) == (now.day > 10)


def test_the_gateway_of_the_demo_errs_in_three_ways_that_add_up(tmp_path: Path) -> None:
    now = datetime(2026, 11, 28, 14, 30, tzinfo=UTC)
    world, hour = company(1, now), now.replace(minute=0) - 2 * HOUR
    web, staging = world.keys[0].id, world.past_the_gateway.id

    def request(request_id: str, model: str, cost: int, unit_price: int = 1, key: str = web) -> BilledRequest:
        return BilledRequest(request_id, hour, model, "", key, "", NANO, unit_price, None, cost, 0, cost)

    url = (tmp_path / "requests").as_uri()
    store = open_store(url)
    dearer = [
        request("b1", DEARER_MODEL, 80_000_001, 40_000_000),
        request("b2", DEARER_MODEL, 72_000_000, OLD_PRICE),
    ]
    videos = [request(f"c{number}", "a/image-to-video", 700_000_000) for number in range(3)]
    store.keep_hour("demo", hour, now, 0, [*dearer, *videos, request("d1", "flux", 5_000_000, key=staging)])
    store.close()
    book_requests(world, url, tmp_path / "bookings.parquet", now)
    with closing(open_reader(url)) as reader:
        found = compare(str(tmp_path / "bookings.parquet"), reader, default_window(now), columns=Columns())
    assert (found.differing.requests, found.differing.amount) == (1, -8_000_001)
    assert (found.booked_twice.requests, found.booked_twice.amount) == (1, 700_000_000)
    assert (found.never_booked.requests, found.never_booked.amount) == (1, -5_000_000)
    assert found.never_charged.requests == found.not_read.requests == found.unreadable == 0
    assert {path.name for path in tmp_path.iterdir()} == {"requests", "bookings.parquet"}


@pytest.mark.long
def test_the_demo_shows_where_to_look_moves_ends_without_waiting_for_anybody_and_leaves_nothing_behind(
    tmp_path: Path, program: Callable[[str, str], str]
) -> None:
    promtool = program("promtool", "prometheus")
    port = free_port()
    with (tmp_path / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "exporter", "demo", "--listen", f"127.0.0.1:{port}", "--days", "1"],
            env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"

    def told() -> str:
        return (tmp_path / "output.txt").read_text()

    def spend() -> float:
        text = HTTP.get(f"{url}/metrics", timeout=10).text
        return sum(parsed(text).get("fal_spend_today_usd", {}).values())

    try:
        wait_until(lambda: f"{url}/metrics" in told(), "the addresses are told")
        config = told().partition("Scrape it with:\n\n")[2].partition("\n\nCtrl-C")[0]
        lines = [line.removeprefix("  ") for line in config.splitlines()]
        (tmp_path / "prometheus.yml").write_text("\n".join(lines) + "\n")
        subprocess.run(
            [promtool, "check", "config", tmp_path / "prometheus.yml"], check=True, capture_output=True, timeout=30
        )
        assert f"127.0.0.1:{port}" in config
        wait_until(lambda: "This is a demo" in HTTP.get(url, timeout=10).text, "the page tells what this is")

        first = wait_until(spend, "there are figures")
        wait_until(lambda: spend() != first, "the figures move")
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\n")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in told()
    assert re.search(r"month (not yet|loading, \d+ %|known since \d+ \w+|\$[\d,.]+)  today (not yet|\$\d)", told())
    assert {path.name for path in tmp_path.iterdir()} == {"output.txt", "prometheus.yml"}


def line_of(*sources: SourceOverview) -> str:
    account = AccountOverview("demo", sources, balance=24_500_000_000, month_to_date=1_234_567_890_123, today=10**9)
    overview = Overview("1.2.3", (account,), series=12, charges=3456)
    return live_line(Publication(1, datetime(2026, 11, 21, 22, 0, tzinfo=UTC), Exposition(), overview, ready=True))


def test_the_live_line_says_what_is_known_and_what_fails() -> None:
    models, serverless = (
        SourceOverview("models", "", "up", history_progress=1.0),
        SourceOverview("serverless", "", "failing", history_progress=0.5),
    )
    assert line_of(models) == ("22:00:00Z  month $1,234.57  today $1.00  balance $24.50  3,456 charges in 12 series")
    assert "loading history  50%" in line_of(models, serverless)
    assert line_of(models, serverless).endswith("failing: serverless")


def test_a_balance_that_has_not_been_read_is_no_balance_of_nothing() -> None:
    account = AccountOverview("demo", (), balance=None, month_to_date=None, today=None)
    overview = Overview("1.2.3", (account,))
    line = live_line(Publication(1, datetime(2026, 11, 21, 22, 0, tzinfo=UTC), Exposition(), overview, ready=False))
    assert "balance unknown" in line


def test_the_live_line_is_there_before_anything_is_known(publication: Publications) -> None:
    assert "loading history   0%" in live_line(publication())
