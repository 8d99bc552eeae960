"""The skill is what it says it is, and every command in it works, run by a shell against the demo."""

import http.server
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from e2e.demo import Demo, demo
from mcp import Client

from exporter.web.mcp.tools import tools
from exporter.web.rest.calls import AMOUNTS, CALLS

SKILL = Path(__file__).parents[2] / "deploy" / "skill" / "fal-billing"
TEXT = (SKILL / "SKILL.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

Document = dict[str, object]


def commands() -> Iterator[tuple[str, str]]:
    """Yield every command under its heading."""
    for block in re.finditer(r"```sh\n(.*?)```", TEXT, re.DOTALL):
        heading = HEADING.findall(TEXT[: block.start()])[-1]
        yield from ((heading, line) for line in block[1].splitlines())


def tool_calls() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield every call of a tool under its heading."""
    for call in re.finditer(r"`(fal-[a-z-]+)` `(\{.*?\})`", TEXT):
        yield HEADING.findall(TEXT[: call.start()])[-1], call[1], json.loads(call[2])


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=SKILL,
        env=surroundings | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str, str], str]) -> Iterator[Demo]:
    program("curl", "curl")
    with demo(tmp_path_factory.mktemp("demo")) as item:
        yield item


def rows(document: Document, name: str = "usage") -> list[dict[str, object]]:
    found = document[name]
    assert isinstance(found, list)
    assert found
    return found


def spend(row: dict[str, object]) -> Decimal:
    return Decimal(str(row["spend"]))


def total(document: Document) -> Decimal:
    found = document["total"]
    assert isinstance(found, dict)
    return spend(found)


def parts(document: Document) -> Decimal:
    found = document["parts"]
    assert isinstance(found, dict)
    return sum((Decimal(str(amount)) for amount in found.values()), Decimal(0))


CHECKS: dict[str, Callable[[Document], bool]] = {
    "Ask by REST calls": lambda item: "accounts" in item or total(item) == sum(map(spend, rows(item))) > 0,
    "What did we spend on veo3 last week?": lambda item: (
        (total(item) == sum(map(spend, rows(item))) > 0)
        and (item["group_by"] == ["day"] or any("veo3" in str(row["model"]) for row in rows(item)))
    ),
    "Which app burns H100 time?": lambda item: any(row["app"] and row["gpu_seconds"] for row in rows(item)),
    "Will we exceed the budget?": lambda item: (
        bool(rows(item, "budgets" if "budgets" in item else "accounts"))
        and all("forecast" in row for row in rows(item, "budgets" if "budgets" in item else "accounts"))
    ),
    "Which customer or team moved?": lambda item: (
        item["groups"]["group_by"] == "tag:cost_center"
        and sum((Decimal(str(row["difference"])) for row in item["groups"]["values"]), Decimal(0))
        + Decimal(str(item["groups"]["others"]["difference"]))
        == Decimal(str(item["difference"]))
    ),
    "Is anything wrong?": lambda item: (
        bool(rows(item, "budgets"))
        if "budgets" in item
        else "notes" in item or all(row["balance"] for row in rows(item, "accounts"))
    ),
    "When does the credit run out?": lambda item: all(row["balance"] for row in rows(item, "accounts")),
    "Why did the bill go up?": lambda item: (
        bool(rows(item, "items")) and parts(item) == Decimal(str(item["difference"]))
    ),
    "What did this one request cost, and which were the dearest?": lambda item: isinstance(item["requests"], list),
    "Does the month match the invoice?": lambda item: item["timezone"] == "UTC" and total(item) >= 0,
}


@pytest.mark.long
@pytest.mark.parametrize(("heading", "command"), list(commands()))
def test_every_command_works(heading: str, command: str, running: Demo) -> None:
    done = run(command, FAL_BILLING_URL=running.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    found = json.loads(done.stdout)
    if isinstance(found, list):
        assert all(invoice["subtotal"] >= 0 for invoice in found)
    else:
        assert CHECKS[heading](found), found


def test_every_worked_question_has_a_command_and_a_tool() -> None:
    questions = HEADING.findall(TEXT.partition("## Worked questions")[2])
    assert len(questions) >= 3
    assert set(questions) <= {heading for heading, _ in commands()}
    assert set(questions) == {heading for heading, _, _ in tool_calls()}


@pytest.mark.long
async def test_every_call_of_a_tool_works(running: Demo) -> None:
    async with Client(running.mcp_url) as client:
        for heading, tool, arguments in tool_calls():
            answer = await client.call_tool(tool, arguments)
            assert not answer.is_error, (heading, answer.content)
            assert answer.structured_content


@pytest.mark.long
def test_a_wrong_parameter_is_told_and_fails(running: Demo) -> None:
    done = run("sh scripts/ask usage group_by=modell", FAL_BILLING_URL=running.url)
    assert done.returncode != 0
    assert "model" in json.loads(done.stdout)["error"]["message"]


def test_the_token_of_a_file_is_sent_and_on_no_command_line(tmp_path: Path, program: Callable[[str, str], str]) -> None:
    program("curl", "curl")
    seen: list[tuple[str | None, str]] = []

    class Asked(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            lines = [item.read_bytes() for item in Path("/proc").glob("[0-9]*/cmdline") if item.exists()]
            seen.append((self.headers["authorization"], str(b"falx_secret" in b" ".join(lines))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    token = tmp_path / "token"
    token.write_text("falx_secret\n", encoding="utf-8")
    with http.server.HTTPServer(("127.0.0.1", 0), Asked) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = run("sh scripts/ask balance", FAL_BILLING_URL=url, FAL_BILLING_TOKEN_FILE=str(token))
        thread.join(10)
    assert done.returncode == 0, done.stderr
    assert seen == [("Bearer falx_secret", "False")]


def test_the_front_matter_is_that_of_the_format() -> None:
    front = yaml.safe_load(TEXT.split("---\n")[1])
    assert front["name"] == SKILL.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", front["name"])
    assert 0 < len(front["description"]) <= 1024
    assert len(front["compatibility"]) <= 500
    assert set(front) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}


def test_the_table_tells_of_every_call_and_tool_and_of_no_parameter_that_is_not_there() -> None:
    table = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| `(.*?)` \| .* \| (.*) \|$", TEXT, re.MULTILINE)}
    assert set(table) == {call.name for call in CALLS}
    tools_by_name = {tool.name: tool for tool in tools(None)}  # type: ignore[arg-type]  # only to answer
    for call in CALLS:
        tool, parameters = table[call.name]
        known = {parameter.name for parameter in (*call.path_parameters, *call.parameters)} - {AMOUNTS.name}
        told = set(re.findall(r"`(\w+)`", parameters))
        assert told == known
        properties = tools_by_name.pop(tool).input_schema["properties"]
        assert isinstance(properties, dict)
        assert properties.keys() - {"limit", "cursor"} == told - {"limit", "cursor"}
    # What has no call is named in the text.
    assert all(f"`{name}`" in TEXT for name in tools_by_name)
