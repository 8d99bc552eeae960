"""Secrets are planted wherever one can be given; then everything is read that the exporter writes, at debug level."""

import base64
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import bcrypt
import pytest
from e2e.processes import Exporter, Fal, exporter_of, free_port, wait_until
from local_http import HTTP

from exporter.settings.credentials import new_token, token_line
from exporter.simulator import Fault
from exporter.simulator.faults.faults import PARAMETERS
from exporter.simulator.interfaces.calls import Key, by_text

KEY, ROTATED = "planted-1:first-planted-secret", "planted-2:second-planted-secret"
PROXY, PASSWORD = "planted-proxy-password", "planted-user-password"
CALLS = {
    "/metrics",
    "/",
    "/docs",
    "/openapi.json",
    "/-/healthy",
    "/-/ready",
    "/v1/billing/usage",
    "/v1/billing/balance",
    "/v1/billing/invoices",
    "/v1/billing/forecast",
    "/v1/billing/focus",
    "/v1/nothing",
}
UNHELPFUL = {"balance", "account_details", "key_alias", "giant_body", "hang", "slow_body"}
"""Faults that answer as fal does, or that only take time."""


def forms(secret: str) -> set[str]:
    """Return what a secret may look like where it is written."""
    halves = {secret, secret.partition(":")[2] or secret}
    encoded = {base64.b64encode(half.encode()).decode().rstrip("=") for half in halves}
    return {*halves, *map(quote, halves), *encoded, *(half[::-1] for half in halves)}


class Plants:
    """An exporter's folder with secrets, and its settings that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rest, self.mcp = new_token(), new_token()
        self.key_file = folder / "key"
        self.key_file.write_text(KEY)
        (folder / "rest").write_text(token_line("reader", self.rest))
        (folder / "mcp").write_text(token_line("agent", self.mcp))
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "web.yaml").write_text(f"basic_auth_users: {{person: {hashed!r}}}\n")
        self.hash = hashed
        self.settings = {
            "REST_TOKENS_FILE": str(folder / "rest"),
            "MCP_TOKENS_FILE": str(folder / "mcp"),
            "WEB_CONFIG_FILE": str(folder / "web.yaml"),
            "MCP_LISTEN": f"127.0.0.1:{free_port()}",
            "LOG_LEVEL": "debug",
            "REQUEST_ATTEMPTS": "1",
            "ACCESS_LOG": "true",
        }

    @property
    def secrets(self) -> set[str]:
        tokens = {self.rest.get_secret_value(), self.mcp.get_secret_value()}
        return {form for secret in {KEY, ROTATED, PROXY, PASSWORD, *tokens} for form in forms(secret)} | {self.hash}


def everything(exporter: Exporter, plants: Plants) -> dict[str, bytes]:
    """Return all that can be read of an exporter, by where."""
    read: dict[str, bytes] = {}
    callers: tuple[dict[str, str], ...] = (
        {},
        {"Authorization": f"Bearer {plants.rest.get_secret_value()}"},
        {"Authorization": "Basic " + base64.b64encode(f"person:{PASSWORD}".encode()).decode()},
        {"Authorization": f"Bearer {plants.mcp.get_secret_value()}x"},
    )
    for number, headers in enumerate(callers):
        for path in CALLS:
            answer = HTTP.get(exporter.url + path, headers=headers, timeout=30)
            read[f"{path} as {number}"] = answer.content + repr(answer.headers.items()).encode()
        question = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        accept = {"Accept": "application/json, text/event-stream"}
        mcp = HTTP.post(f"http://{plants.settings['MCP_LISTEN']}/mcp", json=question, headers={**headers, **accept})
        read[f"MCP as {number}"] = mcp.content
    for command in (["ledger", "backup", "copy.sqlite"], ["status"], ["check"], ["ledger", "verify"]):
        done = subprocess.run(
            [sys.executable, "-m", "exporter", *command],
            env=exporter.environment,
            cwd=exporter.folder,
            capture_output=True,
            check=False,
        )
        read[" ".join(command)] = done.stdout + done.stderr
    given = {"key", "rest", "mcp", "web.yaml"}
    files = (file for file in exporter.folder.rglob("*") if file.is_file() and file.name not in given)
    read |= {str(file): file.read_bytes() for file in files}
    return read


@pytest.mark.long
def test_no_secret_is_in_anything_that_is_ever_written(fal: Fal, tmp_path: Path) -> None:
    plants = Plants(tmp_path)
    fal.simulator.keys = by_text([Key(KEY), Key(ROTATED)])
    with exporter_of(fal, tmp_path, **plants.settings) as exporter:
        del exporter.environment["FAL_KEY"]
        exporter.environment |= {
            "FAL_KEY_FILE": str(plants.key_file),
            "HTTPS_PROXY": f"http://proxy-user:{PROXY}@127.0.0.1:9",
        }
        exporter.start()
        wait_until(lambda: "serving" in exporter.output, "it serves")
        wait_until(lambda: _polls(fal) > 3, "it has polled")
        for kind in sorted(PARAMETERS.keys() - UNHELPFUL):
            # fal repeats the key in its answer, where a fault has words of its own.
            fal.simulator.faults.clear()
            message = f"Invalid key {KEY}: {KEY.partition(':')[2]}"
            fal.simulator.faults.add(Fault(kind, path="/v1/*", message=message, reason=message))
            HTTP.get(f"{exporter.url}/v1/billing/usage", headers=_bearer(plants))
        fal.simulator.faults.clear()
        plants.key_file.write_text(ROTATED)
        fal.simulator.keys = by_text([Key(ROTATED)])
        wait_until(lambda: _is_up(exporter), "the rotated key is used within a poll")
        for words in (KEY, ROTATED):
            fal.simulator.faults.add(Fault("refused", path="*", times=40, message=f"Invalid key {words}"))
            polled = _polls(fal)
            wait_until(lambda: _polls(fal) > polled + 1, "it is refused with the key repeated")  # noqa: B023  waited for
            fal.simulator.faults.clear()
        read = everything(exporter, plants)
        assert exporter.stop() == 0
        read["output"] = exporter.output.encode()
    assert len(read) > 4 * len(CALLS)
    assert b"debug" in read["output"]
    assert (tmp_path / "copy.sqlite").stat().st_size > 4096
    found = {(where, secret) for where, text in read.items() for secret in plants.secrets if secret.encode() in text}
    assert not found


def _bearer(plants: Plants) -> dict[str, str]:
    return {"Authorization": f"Bearer {plants.rest.get_secret_value()}"}


def _polls(fal: Fal) -> int:
    return fal.simulator.seen["/v1/models/usage"]


def _is_up(exporter: Exporter) -> bool:
    text = HTTP.get(f"{exporter.url}/metrics", auth=("person", PASSWORD), timeout=10).text
    return 'fal_source_up{account="default",source="models"} 1' in text
