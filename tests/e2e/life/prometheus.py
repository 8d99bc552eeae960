"""A real Prometheus on a life that promtool has loaded."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import httpx
from e2e.processes import Labels, free_port, wait_until
from local_http import NO_TLS

Program = Callable[[str, str], str]
Values = dict[Labels, float]

_WHOLE_LIFE = "1458h"
"""The longest span that promtool gives a block; it reads the whole file once for each."""


class _Series(TypedDict, total=False):
    """One series of a query's result: the value of an instant, or the values of a range."""

    metric: dict[str, str]
    value: tuple[float, str]
    values: list[tuple[float, str]]


class Prometheus:
    """Asks a Prometheus over HTTP; series are told by their labels but their name and their target's."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def at(self, query: str, instant: datetime) -> Values:
        """Return an instant query's values."""
        result = self._ask("query", query=query, time=instant.timestamp())
        return {_labels(series): float(series["value"][1]) for series in result}

    def between(self, query: str, start: datetime, end: datetime, step: float) -> dict[float, Values]:
        """Return a range query's values by their instants, in seconds since the epoch; the end is among them."""
        result = self._ask("query_range", query=query, start=start.timestamp(), end=end.timestamp(), step=step)
        values: dict[float, Values] = {}
        for series in result:
            labels = _labels(series)
            for instant, value in series["values"]:
                values.setdefault(float(instant), {})[labels] = float(value)
        return values

    def _ask(self, call: str, **parameters: str | float) -> list[_Series]:
        answer = self._client.post(f"/api/v1/{call}", data=parameters).json()
        assert answer["status"] == "success", answer
        result: list[_Series] = answer["data"]["result"]
        return result


@contextmanager
def prometheus_on(recorded: Path, folder: Path, program: Program) -> Iterator[Prometheus]:
    """Load a file of OpenMetrics with promtool and serve it; the file, which is large, is used up."""
    promtool, server = program("promtool", "prometheus"), program("prometheus", "prometheus")
    load = ("tsdb", "create-blocks-from", "openmetrics", f"--max-block-duration={_WHOLE_LIFE}")
    blocks = folder / "blocks"
    subprocess.run([promtool, *load, recorded, blocks], check=True, capture_output=True, timeout=300)
    recorded.unlink()
    configuration = folder / "prometheus.yaml"
    configuration.write_text("scrape_configs: []\n")
    url = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                server,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={blocks}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={url}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(verify=NO_TLS, base_url=f"http://{url}", timeout=120) as client:
            wait_until(lambda: _is_ready(client, process), "Prometheus is ready")
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(client: httpx.Client, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "Prometheus has ended"
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False


def _labels(series: _Series) -> Labels:
    return frozenset(item for item in series["metric"].items() if item[0] not in {"__name__", "instance"})
