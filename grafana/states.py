"""Exporters in every state that a dashboard or the page may be seen in, each with a Prometheus that scrapes it."""  # noqa: INP001  of scripts

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import uvicorn
import yaml
from starlette.types import Receive, Scope, Send

from exporter.app.local_prometheus import prometheus_configuration
from exporter.simulator import Fault, Key, Simulator, World, WorldSize, simulator_app

REPOSITORY = Path(__file__).parents[1]

Result = TypeVar("Result")

PATIENCE = 3600.0
"""Seconds an exporter may take to load its history, bring it to Prometheus and be scraped for a while."""

LIVE = 1800
"""Seconds of scrapes that the dashboard of the exporter's health shows something of, in the documentation."""

STATES = {
    "month": "the demo: one account, a month and the one before",
    "day": "the demo, whose ledger knows one day",
    "empty": "one account without any charge",
    "forty": "forty accounts with long names, and budgets",
    "locked": "the demo, after fal has locked its account",
    "partial": "the demo, after rows of fal's answers have become unreadable",
    "stale": "the demo, after fal has ceased to answer for usage",
}

FAULTS: dict[str, tuple[dict[str, object], ...]] = {
    "locked": ({"fault": "locked", "reason": "Exhausted balance.", "readable": True},),
    "partial": ({"fault": "missing_fields", "fields": ["endpoint_id"], "every_row": 3, "path": "/v1/models/usage"},),
    "stale": ({"fault": "server_error", "status": 503, "path": "/*usage*"},),
}
"""Faults of fal once the demo's history is loaded."""

_FORTY = 40
_SCRAPED = "fal_exporter_snapshot_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an exporter and its Prometheus answer."""

    exporter: str
    prometheus: str


@contextmanager
def scene(state: str, folder: Path, *, live: int = LIVE) -> Iterator[Scene]:
    """Run an exporter in a state of STATES, with its Prometheus, until the block is left.

    Args:
        state: which.
        folder: for data and logs.
        live: seconds of scrapes that Prometheus is to have.

    Raises:
        TimeoutError: it does not come into this state, or ends.
    """
    with ExitStack() as stack:
        if state in {"empty", "forty"}:
            yield stack.enter_context(_simulated(state, folder, live))
            return
        days = ("--days", "1") if state == "day" else ()
        command = ("demo", "--with-prometheus", "--listen", "127.0.0.1:0", *days)
        process, log = stack.enter_context(_running((sys.executable, "-m", "exporter", *command), folder / "demo.log"))
        url = r"(http://[0-9.:]+)"
        found, page, fal = (
            _waited(partial(_found, log, pattern), process, log)
            for pattern in (f"Prometheus +{url}/", f"Landing page +{url}/", rf"simulated fal \({url}\)")
        )
        birth = f"max(time() - fal_exporter_ledger_birth_timestamp_seconds) > {live}"
        # Of a day nothing is forecast, and nothing compared.
        known = ("fal_spend_month_forecast_usd", "fal_spend_month_change_usd", "fal_budget_burn_ratio")
        query = " and ".join((*(f"count({name})" for name in known if state != "day"), birth))
        _waited(lambda: _answers(found, query), process, log)
        if faults := FAULTS.get(state):
            for fault in faults:
                _post(f"{fal}/_simulator/faults", fault)
            # As long as a poll, its publication and two scrapes take.
            shown = 'ALERTS{alertname!="",alertstate=~"pending|firing"} and on () (' + BROKEN[state] + ")"
            _waited(lambda: _answers(found, shown), process, log)
        yield Scene(page, found)


BROKEN = {
    "locked": "max(fal_account_locked) > 0",
    "partial": "sum(fal_exporter_rejected_rows) > 0",
    "stale": "min(fal_source_up) == 0",
}
"""True once a state has come."""


@dataclass(frozen=True)
class _Tenant(World):
    """World of one of many accounts, with an owner of its own."""

    @cached_property
    def teams(self) -> tuple[str, ...]:
        return (f"company-{self.seed}",)


class _Tenants:
    """The fal of several accounts, told apart by their keys."""

    def __init__(self, accounts: int, size: WorldSize, faults: Sequence[Fault]) -> None:
        self.keys = [f"tenant-{number}:{number:016x}" for number in range(accounts)]
        self._applications = {
            f"Key {key}": simulator_app(
                Simulator(_Tenant(seed=number + 1, size=size), keys=[Key(key)], faults=list(faults))
            )
            for number, key in enumerate(self.keys)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = dict(scope["headers"]).get(b"authorization", b"").decode()
        await self._applications[key](scope, receive, send)


@contextmanager
def _simulated(state: str, folder: Path, live: int) -> Iterator[Scene]:
    """Run a simulated fal, an exporter with a configuration of its own, and a Prometheus with the history."""
    tenants = (
        _Tenants(_FORTY, WorldSize(models=2, callers=1, apps=1, compute=0, teams=1), ())
        if state == "forty"
        else _Tenants(
            1,
            WorldSize(models=1, callers=1, apps=0, compute=0, teams=1),
            [Fault("empty_answer", path=path) for path in ("*usage*", "*focus*", "*invoices*")],
        )
    )
    names = [f"customer-{number:02}-with-a-long-name" for number in range(len(tenants.keys))]
    with _served(tenants) as fal, ExitStack() as stack:
        listen, prometheus = (f"127.0.0.1:{_free_port()}" for _ in range(2))
        configuration = {
            "accounts": [
                {"name": name, "key_env": f"FAL_KEY_{number}", "sources": "models,serverless,compute"}
                for number, name in enumerate(names)
            ],
            "budgets": [
                {"name": "everything", "amount": 600_000},
                {"name": "first", "amount": 15_000, "match": {"account": names[:1]}},
            ]
            if state == "forty"
            else [],
        }
        (folder / "exporter.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
        settings = {
            "CONFIG_FILE": str(folder / "exporter.yaml"),
            "PLATFORM_URL": f"{fal}/v1",
            "REPORTING_URL": fal,
            "LISTEN": listen,
            "MCP_LISTEN": "off",
            "OPEN": "true",
            "LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite'}",
            "POLL_INTERVAL": "60s",
            # Gigabytes of history otherwise, of as many accounts.
            "LABELS": "account,product,model,app",
        }
        environment = (
            inherited
            | {f"FAL_EXPORTER_{name}": value for name, value in settings.items()}
            | {f"FAL_KEY_{number}": key for number, key in enumerate(tenants.keys)}
        )
        serve = (sys.executable, "-m", "exporter", "serve")
        process, log = stack.enter_context(_running(serve, folder / "serve.log", environment))
        _waited(lambda: _is_loaded(f"http://{listen}"), process, log)
        _with_history(folder, environment, listen)
        (folder / "prometheus.yaml").write_text(
            yaml.safe_dump(prometheus_configuration(listen, "127.0.0.1:9")), encoding="utf-8"
        )
        command = (
            _program("prometheus"),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            "--storage.tsdb.retention.time=400d",
            f"--web.listen-address={prometheus}",
        )
        process, log = stack.enter_context(_running(command, folder / "prometheus.log"))
        url = f"http://{prometheus}"
        scraped = f"count(count_over_time({_SCRAPED}[1h]) > {live // 5})"
        _waited(lambda: _answers(url, scraped), process, log)
        yield Scene(f"http://{listen}", url)


def _is_loaded(exporter: str) -> bool:
    """Tell whether the whole history has been loaded, and all is published that follows from it."""
    text = _get(f"{exporter}/metrics")
    progress = re.findall(r"^fal_exporter_history_progress_ratio\{.*\} (\S+)$", text, re.MULTILINE)
    # A first outlook follows within a minute.
    return bool(progress) and min(map(float, progress)) == 1 and _get(f"{exporter}/-/ready") != ""


def _with_history(folder: Path, environment: dict[str, str], target: str) -> None:
    """Write what the ledger knows of the past where Prometheus will find it."""
    history = folder / "history.om"
    start = f"{datetime.now(UTC):%Y-%m-01}"
    backfill = (sys.executable, "-m", "exporter", "backfill", "--job", "fal", "--instance", target, "--start", start)
    done = subprocess.run(  # noqa: S603  its own
        (*backfill, "--output", str(history)), env=environment, cwd=REPOSITORY, check=False, capture_output=True
    )
    # An empty ledger has no past.
    if done.returncode == 0 and history.exists():
        blocks = ("tsdb", "create-blocks-from", "--max-block-duration=744h", "openmetrics")
        subprocess.run(  # noqa: S603  its own
            (_program("promtool"), *blocks, str(history), str(folder / "prometheus")), check=True, capture_output=True
        )
        history.unlink()


@contextmanager
def _served(tenants: _Tenants) -> Iterator[str]:
    port = _free_port()
    server = uvicorn.Server(uvicorn.Config(tenants, port=port, lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)


@contextmanager
def _running(
    command: Sequence[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  its own
            command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        yield process, log
    finally:
        process.terminate()
        process.wait(60)


def _waited(condition: Callable[[], Result | None], process: subprocess.Popen[bytes], log: Path) -> Result:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if found := condition():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        if process.poll() is not None or time.monotonic() > end:
            raise TimeoutError(f"it does not come into this state: {_text(log)[-2000:]}")
        time.sleep(1)


def _answers(prometheus: str, query: str) -> bool:
    """Tell whether a query returns something."""
    encoded = urllib.parse.urlencode({"query": query})
    return bool(json.loads(_get(f"{prometheus}/api/v1/query?{encoded}"))["data"]["result"])


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  its own
        return str(answer.read().decode())


def _post(url: str, body: dict[str, object]) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310  its own
        pass


def _found(log: Path, pattern: str) -> str:
    """Return the group of a pattern in what a process has printed; empty while it is not there."""
    found = re.search(pattern, _text(log))
    return found[1] if found else ""


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not on the PATH")
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
