"""Values of the chart, drawn at random: what its schema takes renders, says the same, and is read or refused."""

import json
from contextlib import suppress
from pathlib import Path

import jsonschema
import programs
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.errors import ConfigurationError
from exporter.settings import load_settings

programs.required_module("helm_python", programs.HELM)
from deploy.test_helm import CHART, manifests_of, settings_in  # noqa: E402  needs the module

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
SETTINGS = sorted(SCHEMA["properties"]["settings"]["properties"])

ODD = (
    "123",
    "true",
    "null",
    "~",
    "1e5",
    "0x1F",
    "- a",
    "{{ .Values.key }}",
    "a: b",
    "'",
    '"',
    "#x",
    "no",
    "2026-11-28",
    "é",
    " a ",
)
"""Texts that YAML or a template would take for something else."""

words = st.sampled_from(ODD) | st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30
)
plain = words | st.integers(-(2**31), 2**31) | st.booleans()
names = words.filter(lambda word: "/" not in word)

values_of_the_schema = st.fixed_dictionaries(
    {},
    optional={
        "settings": st.dictionaries(st.sampled_from(SETTINGS), plain | st.lists(words, max_size=3), max_size=4),
        "budgets": st.lists(
            st.fixed_dictionaries(
                {"name": words, "amount": st.integers(1, 10**6) | st.sampled_from(["500", "1e3", "much"])},
                optional={"period": st.sampled_from(["day", "week", "month"]), "timezone": words},
            ),
            max_size=2,
        ),
        "accounts": st.lists(
            st.fixed_dictionaries(
                {"name": names, "existingSecret": st.sampled_from(["one", "123", "true"])},
                optional={"secretKey": st.sampled_from(["1", "key", "true"])},
            ),
            max_size=2,
        ),
        "podAnnotations": st.dictionaries(st.sampled_from(["a/b", "123", "true"]), words, max_size=2),
        "extraEnv": st.lists(st.fixed_dictionaries({"name": st.just("X"), "value": words}), max_size=1),
        "priorityClassName": st.sampled_from(["123", "true", "high"]),
    },
)


def is_taken(values: object) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values")


@given(values_of_the_schema.filter(is_taken))
@example({"accounts": [{"name": "dev #1", "existingSecret": "123", "secretKey": "1"}], "priorityClassName": "true"})
@example({"settings": {"mcp_allowed_hosts": ["a.example", "b.example"], "account": "null"}})
@example({"settings": {"log_format": 0}})
@example({"budgets": [{"name": "all: of it", "amount": "500"}], "podAnnotations": {"123": "true"}})
def test_what_the_schema_takes_renders_and_says_the_same(folder: Path, values: dict[str, object]) -> None:
    manifests = manifests_of(values)
    configuration = settings_in(manifests)
    for name, value in dict(values.get("settings") or {}).items():  # a mapping
        assert configuration[name] == value, name
    told = [(budget["name"], budget["amount"]) for budget in configuration.get("budgets") or ()]
    assert told == [(budget["name"], budget["amount"]) for budget in values.get("budgets") or ()]  # type: ignore[attr-defined]
    accounts = values.get("accounts") or ()
    assert [entry["name"] for entry in configuration.get("accounts") or ()] == [entry["name"] for entry in accounts]  # type: ignore[attr-defined]
    (pod,) = (item["spec"]["template"] for item in manifests if item["kind"] == "StatefulSet")
    for entry in pod["spec"]["containers"][0]["env"]:
        assert isinstance(entry["name"], str)
        assert isinstance(entry.get("value", ""), str)
    for name, value in dict(values.get("podAnnotations") or {}).items():
        assert pod["metadata"]["annotations"][name] == value
    keys = folder / "accounts"
    text = yaml.safe_dump(configuration, allow_unicode=True).replace("/run/secrets/fal-exporter", str(keys))
    file = folder / "fal-exporter.yaml"
    file.write_text(text, encoding="utf-8")
    # Any other error than one that says what is wrong fails.
    with suppress(ConfigurationError):
        load_settings({"config_file": str(file)})
