import signal
import socket
import subprocess
import sys

import pytest
from e2e.processes import free_port
from local_http import HTTP

from exporter.app.demo import run_simulate
from exporter.errors import ConfigurationError
from exporter.simulator import ADMIN_KEY


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
        with pytest.raises(ConfigurationError, match=f"--listen 127.0.0.1:{port} cannot be listened on"):
            run_simulate(host="127.0.0.1", port=port, seed=1)
