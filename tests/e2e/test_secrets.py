"""Secrets are planted wherever one can be given; then everything is read that the exporter writes, at debug level."""

import base64
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import bcrypt
import pytest
from e2e.processes import Exporter, Fal, exporter_of, free_port, wait_until
from local_http import HTTP

from exporter.charges import utc_now
from exporter.settings.credentials import new_token, token_line
from exporter.simulator import ADMIN_KEY, Fault
from exporter.simulator.faults.faults import PARAMETERS
from exporter.simulator.interfaces.calls import Key, by_text

UNIT = Path(__file__).parents[2] / "deploy/systemd/fal-exporter.service"
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


class Echo(BaseHTTPRequestHandler):
    """Refuses whatever it is asked, and repeats it."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        sent = [part for name, value in self.headers.items() for part in (name, value, *_decoded(value))]
        body = json.dumps({"error": {"type": "refused", "message": " ".join((self.path, *sent))}}).encode()
        self.send_response(403, "Forbidden")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815  the names of the library

    def log_message(self, *_: object) -> None:
        """Be silent."""


def _decoded(value: str) -> list[str]:
    scheme, _, encoded = value.partition(" ")
    return [base64.b64decode(encoded).decode()] if scheme == "Basic" else []


@pytest.fixture
def echo() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


ELSEWHERE = {
    name: f"planted-secret-of-{name.lower().replace('_', '-')}"
    for name in ("DD_API_KEY", "DD_APP_KEY", "VANTAGE_API_TOKEN", "AWS_SECRET_ACCESS_KEY")
}
"""Keys of other services, by the variables that they are given in."""

IN_ADDRESS = "planted-secret-of-an-address"


def commands_to(port: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return commands that talk to others, with their settings; each fails, as all of these refuse or are not there."""
    echo, nobody = f"http://127.0.0.1:{port}", f"postgresql://planted:{IN_ADDRESS}@127.0.0.1:9/billing"
    named = f"http://planted:{IN_ADDRESS}@127.0.0.1:{port}"
    click = {"EVENTS": "true", "EVENTS_URL": f"clickhouse://planted:{IN_ADDRESS}@127.0.0.1:{port}/billing"}
    bucket = {"EVENTS": "true", "EVENTS_URL": "s3://bucket/requests", "FOCUS_PUSH_URL": "s3://bucket/focus"}
    return {
        "serve from nobody": (["serve"], {"LEDGER_URL": nobody}),
        "check of nobody": (["check"], {"LEDGER_URL": nobody}),
        "migrate to nobody": (["ledger", "migrate", "sqlite:///ledger.sqlite", nobody], {}),
        "migrate from nobody": (["ledger", "migrate", nobody, "sqlite:///other.sqlite"], {}),
        "requests of ClickHouse": (["requests", "top"], click),
        "requests of a bucket": (["requests", "top"], bucket),
        "push": (["focus", "push"], bucket),
        "Datadog": (["focus", "upload", "datadog", "--service-url", echo, "--month", MONTH], {}),
        "Datadog by name": (["focus", "upload", "datadog", "--service-url", named, "--month", MONTH], {}),
        "Datadog unencrypted": (
            ["focus", "upload", "datadog", "--service-url", f"http://a:{IN_ADDRESS}@example.invalid"],
            {},
        ),
        "Vantage": (["focus", "upload", "vantage", "--integration", "x", "--service-url", echo, "--month", MONTH], {}),
        "remote write": (
            ["serve"],
            {
                "REMOTE_WRITE_URL": f"{echo}/api/v1/push",
                "REMOTE_WRITE_TOKEN": IN_ADDRESS,
                "REMOTE_WRITE_HEADERS": f"X-Planted={IN_ADDRESS}",
                "LISTEN": f"127.0.0.1:{free_port()}",
            },
        ),
    }


MONTH = f"{utc_now():%Y-%m}"


@pytest.mark.long
def test_no_secret_of_other_services_and_addresses_is_written_when_they_refuse(
    fal: Fal, tmp_path: Path, echo: int
) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FAL_", "FAL"))}
    common = {
        "FAL_KEY": ADMIN_KEY,
        "FAL_EXPORTER_PLATFORM_URL": fal.running.platform_url,
        "FAL_EXPORTER_REPORTING_URL": fal.running.reporting_url,
        "FAL_EXPORTER_MCP_LISTEN": "off",
        "FAL_EXPORTER_LEDGER_URL": "sqlite:///ledger.sqlite",
        "FAL_EXPORTER_LOG_LEVEL": "debug",
        "FAL_EXPORTER_HISTORY": "1d",
        "FAL_EXPORTER_POLL_INTERVAL": "10s",
        "AWS_ACCESS_KEY_ID": "planted",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{echo}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "eu-west-1",
        "NO_PROXY": "*",
        **ELSEWHERE,
    }
    with exporter_of(fal, tmp_path) as exporter:
        # There is something to upload.
        exporter.start()
        wait_until(exporter.is_ready, "the ledger has been filled")
        assert exporter.stop() == 0
    commands = commands_to(echo)

    def start(name: str) -> subprocess.Popen[bytes]:
        command, settings = commands[name]
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(tmp_path / "ledger.sqlite", folder)
        given = {f"FAL_EXPORTER_{setting}": value for setting, value in settings.items()}
        with (folder / "output").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "exporter", *command],
                cwd=folder,
                env=inherited | common | given,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output_of(name: str) -> bytes:
        return (tmp_path / name / "output").read_bytes()

    serving = start("remote write")
    try:
        wait_until(lambda: b"403" in output_of("remote write"), "the store of time series has refused")
    finally:
        serving.terminate()
        assert serving.wait(30) == 0
    with ThreadPoolExecutor(4) as some_at_once:
        once = [name for name in commands if name != "remote write"]
        codes = some_at_once.map(lambda name: start(name).wait(120), once)
    for name, code in zip(once, codes, strict=True):
        assert code != 0, f"{name}: {output_of(name).decode()}"
        assert b"Missing option" not in output_of(name)
    read = {
        str(file): file.read_bytes() for name in commands for file in (tmp_path / name).rglob("*") if file.is_file()
    }
    planted = {*ELSEWHERE.values(), IN_ADDRESS, ADMIN_KEY}
    secrets = {form for secret in planted for form in forms(secret)}
    found = {(where, secret) for where, text in read.items() for secret in secrets if secret.encode() in text}
    assert not found


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


@pytest.mark.long
def test_a_credential_of_systemd_is_the_key_and_stays_in_its_folder(fal: Fal, tmp_path: Path) -> None:
    """As systemd does: a folder that only the service may read, named by the variable and in place of `%d`."""
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    key = credentials / "fal-key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o400)
    credentials.chmod(0o500)
    given = dict(re.findall(r"^Environment=(FAL_\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    assert re.search(r"^LoadCredential=fal-key:", UNIT.read_text(), re.MULTILINE)
    assert given["FAL_KEY_FILE"] == "%d/fal-key"
    fal.simulator.keys = by_text([Key(KEY)])
    with exporter_of(fal, tmp_path, LOG_LEVEL="debug") as exporter:
        del exporter.environment["FAL_KEY"]
        exporter.environment |= {
            "CREDENTIALS_DIRECTORY": str(credentials),
            "FAL_KEY_FILE": given["FAL_KEY_FILE"].replace("%d", str(credentials)),
        }
        exporter.start()
        wait_until(exporter.is_ready, "it polls with the key")
        assert exporter.stop() == 0
        files = [file for file in tmp_path.rglob("*") if file.is_file() and file != key]
        assert not [file for file in files for form in forms(KEY) if form.encode() in file.read_bytes()]


@pytest.fixture
def cores() -> Iterator[int]:
    """Let crashes leave images of the memory, as far as that may be let; yield the largest that may be."""
    before, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    yield most
    resource.setrlimit(resource.RLIMIT_CORE, (before, most))


@pytest.mark.long
def test_a_crash_leaves_no_image_of_the_memory(fal: Fal, tmp_path: Path, cores: int) -> None:
    with exporter_of(fal, tmp_path) as exporter:
        exporter.start()
        wait_until(exporter.is_ready, "it polls with the key")
        collector = exporter.collector
        assert exporter.process is not None
        assert collector is not None
        for pid in (exporter.process.pid, collector):
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (1 if cores else 0, cores)
        os.kill(collector, signal.SIGABRT)
        wait_until(lambda: exporter.collector not in {None, collector}, "the collector is started again")
        assert exporter.stop(signal.SIGSEGV) == -signal.SIGSEGV
        assert not list(tmp_path.glob("*core*"))


def _bearer(plants: Plants) -> dict[str, str]:
    return {"Authorization": f"Bearer {plants.rest.get_secret_value()}"}


def _polls(fal: Fal) -> int:
    return fal.simulator.seen["/v1/models/usage"]


def _is_up(exporter: Exporter) -> bool:
    text = HTTP.get(f"{exporter.url}/metrics", auth=("person", PASSWORD), timeout=10).text
    return 'fal_source_up{account="default",source="models"} 1' in text
