"""The documentation is the code's: its tables, names, commands and examples, and every link leads somewhere."""

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import promql_parser
import pytest
import yaml
from alert_tables import Threshold, rules, thresholds
from docs_tables import DOCS, REPOSITORY, TABLES, with_table

from exporter.booked.report import METRICS
from exporter.cli import commands
from exporter.metrics.catalogue import CATALOGUE
from exporter.polling.poll_runner import OWN_REASONS
from exporter.queries.focus import question as focus_question
from exporter.settings import Settings, load_settings
from exporter.settings.parsing import LABELS, NEVER_IN_FILE, file_name
from exporter.settings.table import default_text
from exporter.tags import tag_label
from exporter.web.mcp.tools import tools
from exporter.web.rest.calls import CALLS

README = REPOSITORY / "README.md"
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in (
        README,
        REPOSITORY / "CHANGELOG.md",
        *sorted(DOCS.rglob("*.md")),
        *sorted((REPOSITORY / ".github").rglob("*.md")),
        *sorted((REPOSITORY / "deploy").rglob("*.md")),
        REPOSITORY / "grafana" / "README.md",
    )
}
OURS = {name: text for name, text in PAGES.items() if name == "README.md" or name.startswith("docs/")}
FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
ALERTS = {rule.name: rule for rule in rules("alerts")}
EXAMPLE_TAGS = ("customer", "feature")
"""Keys of tags that all examples use."""

LONGEST_README = 250


def blocks(text: str, kind: str) -> Iterator[str]:
    for fence in FENCE.finditer(text):
        if fence["kind"] == kind:
            yield re.sub(rf"^{fence['indent']}", "", fence["text"], flags=re.MULTILINE)


def prose(text: str) -> str:
    """Return a page without its blocks of code and its generated tables."""
    return re.sub(r"<!-- (\w+) -->.*?<!-- end of \1 -->", "", FENCE.sub("", text), flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} (.+)$", FENCE.sub("", text), re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{number}" if number else slug for slug, last in found.items() for number in range(last + 1)}


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_as_the_code_has_it(name: str) -> None:
    page = PAGES[f"docs/{TABLES[name].page}"]
    assert with_table(page, name) == page, f"docs/{TABLES[name].page} is out of date: run python tests/docs_tables.py"


def test_every_link_anchor_and_image_leads_somewhere() -> None:
    for name, page in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page)):
            if re.match(r"[a-z]+:", target):
                assert target.startswith("https://"), f"{name}: {target}"
                continue
            path, _, anchor = unquote(target).partition("#")
            file = ((REPOSITORY / name).parent / path).resolve() if path else REPOSITORY / name
            assert file.exists(), f"{name}: {target}"
            assert file.is_relative_to(REPOSITORY), f"{name}: {target}"
            if anchor:
                assert anchor in anchors(file.read_text(encoding="utf-8")), f"{name}: {target}"


def test_every_page_is_reached_from_the_index() -> None:
    reached: set[Path] = set()
    todo = [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page not in reached and page.is_relative_to(DOCS) and page.suffix == ".md":
            reached.add(page)
            links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
            todo += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert set(DOCS.rglob("*.md")) - reached == set()


def test_the_readme_is_a_door_and_not_the_house() -> None:
    assert len(PAGES["README.md"].splitlines()) <= LONGEST_README


def test_the_two_commands_that_do_all_the_set_up_are_there() -> None:
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/fal-exporter demo" in PAGES["README.md"]
    assert "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest" in PAGES["README.md"]


def test_every_metric_and_setting_the_text_speaks_of_exists() -> None:
    metrics, settings = TABLES["metrics"].made() + TABLES["hourly samples"].made(), TABLES["settings"].made()
    for name, page in OURS.items():
        for metric in sorted(
            set(re.findall(r"\bfal_[a-z_]+[a-z]\b", page))
            - {"fal_exporter_collector_process", "fal_client", "fal_request_id", "fal_booked", *METRICS}
        ):
            assert f"`{metric}`" in metrics, f"{name}: {metric}"
        for setting in sorted(set(re.findall(r"\bFAL_EXPORTER_[A-Z_]+[A-Z]\b", page)) - {"FAL_EXPORTER_COMPLETE"}):
            assert f"`{setting}`" in settings, f"{name}: {setting}"


def test_every_command_block_parses_and_names_files_that_exist() -> None:
    for name, page in PAGES.items():
        for block in blocks(page, "sh"):
            parsed = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
            assert parsed.returncode == 0, parsed.stderr + block
            # grafana/grafana is an image.
            for path in re.findall(
                r"(?<![\w./-])(?!grafana/grafana)(?:deploy|docs|exporter|grafana|tests|\.ci|\.github)/[\w./-]+", block
            ):
                assert (REPOSITORY / path).exists(), f"{name}: {path}"


def invocations() -> Iterator[tuple[str, str]]:
    """Yield every call of our program in a block of commands, as its page and the words after the program's name."""
    for name, text in PAGES.items():
        for block in blocks(text, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                code = re.sub(r"(^|\s)#.*", "", line)
                for words in re.findall(r"(?:^|[\s/])fal-exporter (\w[^|&;>]*)", code):
                    if not re.match(r"deploy/|--", words) and "helm install" not in code:
                        yield name, words


def test_every_command_and_option_in_a_block_exists() -> None:
    seen = list(invocations())
    assert len(seen) > 15
    for page, text in seen:
        words = text.split()
        command: click.Command = commands
        while isinstance(command, click.Group) and words:
            assert words[0] in command.commands, f"{page}: fal-exporter {text}"
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"{page}: fal-exporter {text}"


def test_every_example_of_data_parses() -> None:
    for page in PAGES.values():
        for block in blocks(page, "yaml"):
            yaml.safe_load(block)
        for block in blocks(page, "json"):
            json.loads(block)


def test_every_query_parses_and_asks_for_labels_that_are_published() -> None:
    labels = {"__name__", *LABELS} | {label for family in CATALOGUE.values() for label in family.labels_with(LABELS)}
    labels |= {tag_label(key) for key in EXAMPLE_TAGS} | {"job", "instance"}
    for name, page in OURS.items():
        for block in blocks(page, "promql"):
            # A block is one query, whose further lines are indented, or several, each on a line.
            for query in re.sub(r"\n +", " ", block).splitlines():
                promql_parser.parse(query)
                grouped = re.findall(r"\b(?:by|on|ignoring|without) \(([^)]*)\)", query)
                matched = re.findall(r"(\w+)[!=]~?\"", query)
                assert {label.strip() for group in grouped for label in group.split(",")} | set(matched) <= labels, (
                    f"{name}: {query}"
                )


def test_every_alert_has_a_page_that_says_what_to_do_and_no_page_is_left_over() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "alerts").glob("*.md")}
    assert pages.keys() == ALERTS.keys()
    for name, text in pages.items():
        assert re.match(rf"# {name}\n\n\w.+?\n\n", text, re.DOTALL), name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Impact", "Check", "Do", "Tune or silence"], name
        for severity in {rule.labels["severity"] for rule in rules("alerts") if rule.name == name}:
            assert re.search(rf"^Severity: .*\b{severity}\b", text, re.MULTILINE), f"{name}: {severity}"


@pytest.mark.parametrize("threshold", list(thresholds()), ids=lambda threshold: threshold.name)
def test_every_threshold_is_on_the_page_of_its_alert(threshold: Threshold) -> None:
    alert = re.split(r"[:,]", threshold.meaning)[0]
    assert f"`{threshold.name}`" in PAGES[f"docs/alerts/{alert}.md"]


def test_every_call_of_rest_and_every_tool_of_mcp_is_listed_with_what_it_takes() -> None:
    rest = {match[1] for match in re.finditer(r"^\| `(/v1/[\w/{}]+)` \|", prose(PAGES["docs/rest.md"]), re.MULTILINE)}
    assert rest == {call.path for call in CALLS}
    listed = dict(re.findall(r"^\| `(fal-[\w-]+)` \|(.*)$", PAGES["docs/mcp.md"], re.MULTILINE))
    known = {tool.name: tool for tool in tools(None)}  # type: ignore[arg-type]  # what they know is needed to answer
    assert listed.keys() == known.keys()
    for name, row in listed.items():
        filters = (
            {"model", "app", "gpu_class", "account", "team", "product"} if "filters by dimension" in row else set()
        )
        properties = known[name].input_schema["properties"]
        assert isinstance(properties, dict)
        assert filters | set(re.findall(r"`(\w+)`", row)) >= properties.keys(), name


EXAMPLE = DOCS / "examples" / "fal-exporter.yaml"
ONE_ACCOUNT = {"key", "key_file", "account"}
"""Settings that cannot stand beside a list of accounts."""

INSTEAD = {"remote_write_token", "ledger_read_url"}
"""Settings in place of others, or that go with others than the example has."""


def test_the_example_file_loads_and_has_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for path in re.findall(r": (/(?:run|etc)/\S+)", text):
        file = tmp_path / path.strip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"someone: sha256:{'0' * 64}\n" if "tokens" in path else "id:secret\n")
    (tmp_path / "etc/fal-exporter/web.yaml").write_text("basic_auth_users:\n")
    mended = tmp_path / EXAMPLE.name
    mended.write_text(re.sub(r": (/(?:run|etc)/)", rf": {tmp_path}\1", text))
    monkeypatch.setenv("FAL_EXPORTER_CONFIG_FILE", str(mended))
    monkeypatch.setenv("FAL_KEY_RESEARCH", "another:secret")
    assert [account.name for account in load_settings({}).accounts] == ["studio", "research"]
    known = {file_name(field) for field in Settings.model_fields if field not in NEVER_IN_FILE}
    assert yaml.safe_load(text).keys() == known - ONE_ACCOUNT - INSTEAD
    assert set(re.findall(r"^# (\w+): \S+$", text, re.MULTILINE)) >= ONE_ACCOUNT | INSTEAD


def test_the_example_file_says_which_values_are_not_the_default() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert "(example)" in text
    for field in Settings.model_fields.keys() - NEVER_IN_FILE - ONE_ACCOUNT:
        found = re.search(rf"^((?:#.*\n)*){file_name(field)}:(?: (.*))?$", text, re.MULTILINE)
        if found is not None and found[2] is not None and found[2] != default_text(field):
            assert "(example)" in found[1] or field.endswith("_tokens_file"), field


@pytest.mark.parametrize("name", ["docs/configuration.md", "docs/budgets.md"])
def test_every_configuration_in_the_text_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [block for block in blocks(PAGES[name], "yaml") if re.search(r"^(accounts|budgets):", block, re.MULTILINE)]
    assert shown
    monkeypatch.setenv("FAL_KEY_RESEARCH", "another:secret")
    (tmp_path / "key").write_text("id:secret\n")
    for block in shown:
        file = tmp_path / "fal-exporter.yaml"
        file.write_text(block.replace("/run/secrets/fal-studio", str(tmp_path / "key")))
        monkeypatch.setenv("FAL_EXPORTER_CONFIG_FILE", str(file))
        if "accounts:" not in block:
            monkeypatch.setenv("FAL_KEY", "id:secret")
        load_settings({})
        monkeypatch.delenv("FAL_KEY", raising=False)


LEAST_SENTENCES = 20


def sentences_of_the_code() -> str:
    """Return every text in the code; of one with values in it, the parts between them, each on a line."""
    found: list[str] = []
    for path in (REPOSITORY / "exporter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found += [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
    return "\n".join(found)


def test_troubleshooting_quotes_sentences_that_the_code_says() -> None:
    code = sentences_of_the_code()
    quoted = [line for block in blocks(PAGES["docs/troubleshooting.md"], "text") for line in block.splitlines()]
    assert len(quoted) >= LEAST_SENTENCES
    for sentence in quoted:
        parts = [part.strip(" .;") for part in sentence.split("…") if re.search(r"\w{2}", part)]
        assert parts, sentence
        for part in parts:
            assert part in code, f"nothing says: {part}"


def test_troubleshooting_names_every_reason_why_a_poll_fails() -> None:
    own = PAGES["docs/troubleshooting.md"].partition("Further reasons")[2].partition("\n\n")[0]
    assert set(OWN_REASONS) <= set(re.findall(r"`(\w+)`", own))


def test_the_architecture_names_modules_and_packages_that_exist() -> None:
    page = PAGES["docs/architecture.md"]
    diagrams = list(blocks(page, "mermaid"))
    assert len(diagrams) >= 4
    packages = {path.parent.name for path in (REPOSITORY / "exporter").glob("*/__init__.py")}
    named = set(re.findall(rf"(?<![\w/])(?:{'|'.join(packages)})/[\w/]+", "\n".join(diagrams)))
    assert len(named) > 30
    for module in named:
        path = REPOSITORY / "exporter" / module
        assert path.is_dir() or path.with_suffix(".py").is_file(), module
    assert packages == set(re.findall(r"^\| `exporter/(\w+)/` \|", page, re.MULTILINE))


def test_the_architecture_explains_every_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}
    table = PAGES["docs/architecture.md"].partition("## Dependencies")[2]
    # Those of extras are in a table of their own, after this one; see test_dependencies.
    table = table.partition("\nExtras")[0]
    explained = re.findall(r"^\| ([a-z][\w, -]*) \|", table, re.MULTILINE)
    assert needed == {name for row in explained for name in row.split(", ")} - {"package"}


@pytest.mark.parametrize(
    ("page", "first", "parameters"),
    [
        ("docs/focus.md", "Authorization", [parameter.name for parameter in focus_question.OF_REPORT]),
        ("docs/rest.md", "FAL_KEY", ["start", "end", "group_by"]),
    ],
)
def test_each_parameter_of_the_founding_documents_is_taken_where_it_says_and_held_by_a_test(
    page: str, first: str, parameters: list[str]
) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (\[test_[^|]+) \|$", PAGES[page], re.MULTILINE)
    assert [name for name, _, _ in rows] == [first, *parameters]
    calls = {call.path: {parameter.name for parameter in call.parameters} for call in CALLS}
    agents = {tool.name: tool.input_schema["properties"] for tool in tools(None)}  # type: ignore[arg-type]  # as above
    focus = commands.commands["focus"]
    assert isinstance(focus, click.Group)
    options = {
        f"focus {name}": {option for parameter in command.params for option in parameter.opts}
        for name, command in focus.commands.items()
    }
    for name, taken, held in rows:
        for taker in re.findall(r"`([^`]+)`", taken) if name != first else ():
            if taker in options:
                assert f"--{name.replace('_', '-')}" in options[taker], (name, taker)
            else:
                assert name in (calls | agents)[taker], (name, taker)
        for test, path in re.findall(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)", held):
            tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
            assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
