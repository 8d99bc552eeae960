"""A Prometheus and an Alertmanager beside the demo: the programs on the PATH, with the shipped rules and routes."""

import asyncio
import os
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlencode

import httpx
import yaml

from exporter.errors import FalExporterError
from exporter.settings.parsing import environment_name

MONITORING = Path(str(files("exporter.app").joinpath("monitoring")))
"""The rules and the example of Alertmanager's configuration: links to where they are kept, files once installed."""

_RULES = ("thresholds.yaml", "recording.yaml", "alerts.yaml")
_PORTS = {"prometheus": 9091, "alertmanager": 9093}
"""Those of the compose file; 9090 is where MCP is served."""

_PATIENCE = 60.0
"""Seconds a program may take to answer; Prometheus first reads the history."""

_GRACE = 5.0
"""Seconds a program is given to end by itself."""


class LocalPrometheusError(FalExporterError):
    """A program is missing, or ended at once."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The paths of the programs."""

    prometheus: str
    promtool: str
    alertmanager: str


@dataclass(frozen=True, slots=True)
class DemoLedger:
    """Ledger from which the history is read.

    Attributes:
        url: of the ledger.
        account: whose history it is.
        target: host and port of the exporter, as Prometheus scrapes it.
    """

    url: str
    account: str
    target: str


class _Receiver(TypedDict):
    name: str


class _AlertmanagerConfiguration(TypedDict, total=False):
    route: object
    inhibit_rules: object
    receivers: list[_Receiver]


def find_programs() -> Programs:
    """Return the programs.

    Raises:
        LocalPrometheusError: one of them is not on the PATH.
    """
    names = (("prometheus",), ("promtool",), ("alertmanager", "prometheus-alertmanager"))
    found = [next(filter(None, map(shutil.which, alternatives)), "") for alternatives in names]
    missing = [alternatives[0] for alternatives, path in zip(names, found, strict=True) if not path]
    if missing:
        raise LocalPrometheusError(
            f"--with-prometheus needs {' and '.join(missing)} on the PATH; install them (on Debian and Ubuntu: "
            "apt-get install prometheus prometheus-alertmanager) or omit the flag"
        )
    return Programs(*found)


@asynccontextmanager
async def local_prometheus(programs: Programs, ledger: DemoLedger, folder: Path) -> AsyncIterator[str]:
    """Run both programs until the block is left, Prometheus on the ledger's history; yield where they are, as text.

    Args:
        programs: what to start.
        ledger: what to bring along, and what to scrape.
        folder: for their data, which need about a gigabyte while the history is read.

    Raises:
        LocalPrometheusError: a program does not start or fails; the sentence has its last words.
    """
    data, history = folder / "prometheus", folder / "history.om"
    backfill = ("-m", "exporter", "backfill", "--job", "fal", "--instance", ledger.target, "--output", str(history))
    await _run(sys.executable, *backfill, log=folder / "backfill.log", environment=_backfill_environment(ledger))
    blocks = ("tsdb", "create-blocks-from", "--max-block-duration=744h", "openmetrics", str(history), str(data))
    await _run(programs.promtool, *blocks, log=folder / "promtool.log")
    history.unlink()

    prometheus, alertmanager = (f"127.0.0.1:{_free_port(port)}" for port in _PORTS.values())
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(prometheus_configuration(ledger.target, alertmanager)))
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(alertmanager_configuration()))
    async with (
        _running(
            programs.alertmanager,
            f"--config.file={folder / 'alertmanager.yaml'}",
            f"--storage.path={folder / 'alertmanager'}",
            "--cluster.listen-address=",
            f"--web.listen-address={alertmanager}",
            log=folder / "alertmanager.log",
            address=alertmanager,
        ),
        _running(
            programs.prometheus,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={data}",
            "--storage.tsdb.retention.time=400d",
            f"--web.listen-address={prometheus}",
            log=folder / "prometheus.log",
            address=prometheus,
        ),
    ):
        graph = {
            "g0.expr": "sum by (product) (increase(fal_spend_usd_total[1h]))",
            "g0.tab": 0,
            "g0.range_input": "30d",
        }
        yield (
            f"  Prometheus    http://{prometheus}/alerts\n"
            f"  Hourly spend  http://{prometheus}/graph?{urlencode(graph)}\n"
            f"  Alertmanager  http://{alertmanager}/\n"
        )


def prometheus_configuration(target: str, alertmanager: str) -> Mapping[str, object]:
    """Return the configuration of a Prometheus that scrapes the target with the shipped rules."""
    return {
        # Twice as often as the demo polls.
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": [str(MONITORING / name) for name in _RULES],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [{"job_name": "fal", "static_configs": [{"targets": [target]}]}],
    }


def alertmanager_configuration() -> Mapping[str, object]:
    """Return the shipped routes and inhibitions with receivers that send nothing: a demo must not page anybody."""
    shipped: _AlertmanagerConfiguration = yaml.safe_load((MONITORING / "alertmanager.yaml").read_text(encoding="utf-8"))
    kept = {name: value for name, value in shipped.items() if name not in {"global", "templates", "receivers"}}
    return kept | {"receivers": [{"name": receiver["name"]} for receiver in shipped["receivers"]]}


def _backfill_environment(ledger: DemoLedger) -> Mapping[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    settings = {"key": "demo:demo", "account": ledger.account, "ledger_url": ledger.url}
    return inherited | {environment_name(field): value for field, value in settings.items()}


def _free_port(preferred: int) -> int:
    """Return the port, or another where it is taken."""
    for port in (preferred, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                return int(server.getsockname()[1])
        except OSError:
            continue
    raise LocalPrometheusError("--with-prometheus finds no free port on 127.0.0.1")


async def _run(program: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None) -> None:
    async with _started(program, *arguments, log=log, environment=environment) as process:
        if await process.wait():
            raise _ended(program, log)


@asynccontextmanager
async def _running(program: str, *arguments: str, log: Path, address: str) -> AsyncIterator[None]:
    """Run a server until the block is left, which is entered once it is ready."""
    async with _started(program, *arguments, log=log) as process, _loopback_client() as client:
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE
        while process.returncode is None and loop.time() < end:
            try:
                if (await client.get(f"http://{address}/-/ready")).is_success:
                    break
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)
        else:
            raise _ended(program, log)
        yield


def _loopback_client() -> httpx.AsyncClient:
    """Return a client for programs on this machine: without the environment's proxies and authorities."""
    return httpx.AsyncClient(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@asynccontextmanager
async def _started(
    program: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for the demo, which ends its programs in their order.
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _GRACE)
            except TimeoutError:
                process.kill()
                await process.wait()


def _ended(program: str, log: Path) -> LocalPrometheusError:
    last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
    return LocalPrometheusError(f"--with-prometheus: {Path(program).name} does not work: {last}")
