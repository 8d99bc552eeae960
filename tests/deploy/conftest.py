"""Fixtures of the tests of every way to deploy: a fal to poll, and containers that are started as processes."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from deploy.manifests import Manifest, exporters
from e2e.processes import Fal, fal_in_a_thread, free_port, wait_until
from ledger.conftest import empty_postgresql, postgresql_address, postgresql_server
from local_http import HTTP

from deploy import pod
from exporter.simulator import ADMIN_KEY

if TYPE_CHECKING:
    from subprocess import Popen

__all__ = ["empty_postgresql", "postgresql_address", "postgresql_server"]

Run = Callable[[list[Manifest], Mapping[str, Mapping[str, str]]], str]
"""Starts the one exporter among the objects, with these Secrets in the cluster, and returns its address when ready."""


@pytest.fixture(scope="package")
def fal() -> Iterator[Fal]:
    with fal_in_a_thread() as running:
        yield running


@pytest.fixture
def run(fal: Fal, tmp_path: Path) -> Iterator[Run]:
    if os.geteuid() != 0:
        pytest.skip(f"a pod's process has its own user and mounts, which needs root: sudo {sys.executable} -m pytest")
    started: list[Popen[bytes]] = []
    outputs: list[Path] = []

    def start(manifests: list[Manifest], secrets: Mapping[str, Mapping[str, str]]) -> str:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        outputs.append(folder / "output.txt")
        ((template, container),) = exporters(manifests)
        port = free_port()
        overrides = {
            "FAL_EXPORTER_PLATFORM_URL": fal.running.platform_url,
            "FAL_EXPORTER_REPORTING_URL": fal.running.reporting_url,
            "FAL_EXPORTER_LISTEN": f"127.0.0.1:{port}",
            "FAL_EXPORTER_HISTORY": "1d",
        }
        process = pod.start(manifests, template, container, secrets=secrets, folder=folder, overrides=overrides)
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                path = container[probe]["httpGet"]["path"]
                wait_until(lambda path=path: answers(url + path), f"the {probe} is well")
        return url

    def answers(url: str) -> bool:
        assert started[-1].poll() is None, outputs[-1].read_text()
        try:
            return HTTP.get(url, timeout=5).is_success
        except httpx.TransportError:
            return False

    yield start
    for process in started:
        process.terminate()
        assert process.wait(20) == 0
    for output in outputs:
        assert "Traceback" not in output.read_text()
        assert ADMIN_KEY not in output.read_text()
