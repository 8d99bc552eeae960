"""The parts of a release: workflows, locked requirements, notes, and dashboards in the form of grafana.com."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import programs
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from exporter import __version__

Documents = dict[str, dict[str, Any]]

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
LOCKED = ROOT / "deploy/image"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def script(name: str) -> ModuleType:
    """Return a script of deploy/release as a module."""
    spec = spec_from_file_location(name, ROOT / f"deploy/release/{name}.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notes, dashboards = script("notes"), script("dashboards")


def locked(name: str) -> dict[str, tuple[Version, list[str]]]:
    """Return version and hashes of each package of a file of locked requirements."""
    found = {}
    for entry in re.split(r"\n(?=\S)", (LOCKED / name).read_text(encoding="utf-8")):
        if not entry.startswith("#"):
            requirement, *hashes = entry.replace("\\", "").split("--hash=")
            pinned = Requirement(requirement.strip())
            ((only,),) = [[clause for clause in pinned.specifier if clause.operator == "=="]]
            found[pinned.name] = (Version(only.version), [item.strip() for item in hashes])
    return found


# --- Workflows -------------------------------------------------------------------------------------------------------


def test_workflows_are_valid() -> None:
    program = programs.required("check-jsonschema", "pip:check-jsonschema")
    command = [program, "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_linter_finds_no_fault_of_security_in_the_workflows() -> None:
    program = programs.required("zizmor", "pip:zizmor")
    command = [program, "--offline", "--quiet", *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_name_files_that_exist() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    named = set(re.findall(r"(?:deploy|\.ci)/[\w./-]+", text))
    assert len(named) >= 5
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_workflows_test_the_pythons_that_the_package_claims() -> None:
    claimed = {item.rpartition(" ")[2] for item in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", item)}
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text(encoding="utf-8"))["jobs"]
    # Debian bookworm, on which everything runs, has 3.11.
    assert jobs["checks"]["container"] == "debian:bookworm"
    assert {"3.11", *jobs["pythons"]["strategy"]["matrix"]["python"]} == claimed
    assert PROJECT["requires-python"] == f">={min(claimed, key=Version)}"


# --- Locked requirements ---------------------------------------------------------------------------------------------


EXTRAS = ("events", "otlp", "polars", "remote-write", "socks")
"""Extras that the image can have beside the database driver."""

VARIANTS = {f"requirements-{extra}.txt": ["postgresql", extra] for extra in EXTRAS}


@pytest.mark.parametrize(("name", "extras"), [("requirements.txt", ["postgresql"]), *VARIANTS.items()])
def test_the_image_installs_what_the_package_asks_for_each_with_its_hashes(name: str, extras: list[str]) -> None:
    found = locked(name)
    optional = [item for extra in extras for item in PROJECT["optional-dependencies"][extra]]
    asked = [Requirement(item) for item in PROJECT["dependencies"] + optional]
    wrong = {
        requirement.name: str(found.get(requirement.name.lower(), ("not locked",))[0])
        for requirement in asked
        if requirement.name.lower() not in found or found[requirement.name.lower()][0] not in requirement.specifier
    }
    assert wrong == {}, "run `tox -e lock`"
    assert "hatchling" in locked("build-requirements.txt")
    for each in (name, "build-requirements.txt"):
        assert all(
            hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", item) for item in hashes)
            for _, hashes in locked(each).values()
        )


def test_what_an_image_has_more_changes_nothing_of_it_nor_of_what_else_it_may_have() -> None:
    image = locked("requirements.txt")
    variants = {name: locked(name) for name in VARIANTS}
    assert [name for name, found in variants.items() if not image.items() <= found.items()] == []
    for found in variants.values():
        clashes = [
            package
            for other in variants.values()
            for package in found.keys() & other.keys()
            if found[package] != other[package]
        ]
        assert clashes == [], "two extras of one image would undo each other"
    assert {"duckdb", "msgspec", "obstore"} <= variants["requirements-events.txt"].keys() - image.keys()
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text(encoding="utf-8"))["jobs"]
    built = {item["suffix"]: item["extras"] for item in jobs["image"]["strategy"]["matrix"]["include"]}
    assert built == {"": "postgresql", "-events": "postgresql,events"}


def test_every_extra_of_a_running_exporter_is_locked_and_the_image_installs_nothing_else() -> None:
    assert PROJECT["optional-dependencies"].keys() - {"postgresql", "helm", "stores", "test", "lint"} == set(EXTRAS)
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert 'locked="requirements-${extra}.txt"' in dockerfile
    installs = re.findall(r"pip (?:--python \S+ )?install[^&;]*", dockerfile.replace("\\\n", " "))
    assert len(installs) == 3
    assert all("--require-hashes" in found or "--no-index" in found for found in installs)


@pytest.mark.parametrize("name", ["requirements.txt", *VARIANTS, "build-requirements.txt"])
def test_no_locked_requirement_names_an_index(name: str) -> None:
    text = (LOCKED / name).read_text(encoding="utf-8")
    assert re.findall(r"https?:|file:|--(?:extra-)?index|--find-links", text) == []


# --- Notes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*notes.versions(ROOT), "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_notes_are_the_versions_section_of_the_changelog() -> None:
    written = notes.notes(f"v{__version__}")
    assert "### Added" in written
    assert "## [" not in written


def test_a_tag_that_is_not_the_version_publishes_nothing(checkout: Path) -> None:
    with pytest.raises(ValueError, match=r"the tag v9\.9\.9 is not v"):
        notes.notes("v9.9.9", checkout)
    chart = checkout / "deploy/helm/fal-exporter/Chart.yaml"
    chart.write_text(chart.read_text().replace(f"version: {__version__}", "version: 9.9.9"))
    with pytest.raises(ValueError, match=r"in deploy/helm/fal-exporter/Chart\.yaml"):
        notes.notes(f"v{__version__}", checkout)


def test_a_version_without_a_dated_section_publishes_nothing(checkout: Path) -> None:
    changelog = checkout / "CHANGELOG.md"
    changelog.write_text(re.sub(rf"\[{re.escape(__version__)}\] - [\d-]+", f"[{__version__}]", changelog.read_text()))
    command = [sys.executable, str(ROOT / "deploy/release/notes.py"), "v0.0.1"]
    with pytest.raises(ValueError, match="has no section"):
        notes.notes(f"v{__version__}", checkout)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("notes.py: the tag v0.0.1 is not v")


# --- Chart -----------------------------------------------------------------------------------------------------------


def test_the_chart_says_to_artifact_hub_what_it_reads_there() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/fal-exporter/Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == __version__
    annotations = chart["annotations"]
    assert annotations["artifacthub.io/license"] == PROJECT["license"]
    assert annotations["artifacthub.io/prerelease"] in {"true", "false"}
    changes = yaml.safe_load(annotations["artifacthub.io/changes"])
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    assert changes
    assert all(change.keys() == {"kind", "description"} and change["kind"] in kinds for change in changes)
    for link in yaml.safe_load(annotations["artifacthub.io/links"]):
        page = link["url"].removeprefix(f"{chart['home']}/")
        assert (ROOT / page).is_file(), page


# --- Dashboards ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    written = dashboards.write(tmp_path_factory.mktemp("release"))
    return {path.name.partition(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in written}


def test_every_dashboard_is_released(released: Documents) -> None:
    assert set(released) == {path.stem for path in (ROOT / "grafana/dashboards").glob("*.json")}


def test_an_import_asks_for_the_data_source_and_nothing_is_left_that_it_does_not_ask_for(
    released: Documents,
) -> None:
    for document in released.values():
        inputs = {item["name"]: item for item in document["__inputs"]}
        assert inputs["DS_PROMETHEUS"]["pluginId"] == "prometheus"
        assert set(re.findall(r"\$\{((?:DS|VAR)_\w+)\}", json.dumps(document))) == set(inputs)
        (source,) = (item for item in document["templating"]["list"] if item["type"] == "datasource")
        assert source["current"]["value"] == "${DS_PROMETHEUS}"
        runbooks = [item["query"] for item in document["templating"]["list"] if item["name"] == "runbooks"]
        assert runbooks == ["${VAR_RUNBOOKS}"] * ("VAR_RUNBOOKS" in inputs)
        assert document["id"] is None


def test_it_says_what_it_requires(released: Documents) -> None:
    for document in released.values():
        required = {(item["type"], item["id"]) for item in document["__requires"]}
        used = {("panel", panel["type"]) for panel in document["panels"] if panel["type"] != "row"}
        assert {("grafana", "grafana"), ("datasource", "prometheus")} | used <= required


def test_with_the_questions_answered_it_is_the_dashboard_of_the_repository(
    released: Documents,
) -> None:
    for name, document in released.items():
        shipped = json.loads((ROOT / f"grafana/dashboards/{name}.json").read_text(encoding="utf-8"))
        text = json.dumps(document)
        for asked in document["__inputs"]:
            text = text.replace("${" + asked["name"] + "}", str(asked.get("value", "prometheus")))
        answered = json.loads(text)
        kept = {"id", "__inputs", "templating"}
        assert {key: item for key, item in answered.items() if key not in kept} == {
            key: item for key, item in shipped.items() if key not in kept
        }
        chosen = {"current", "options"}
        assert [
            {key: item for key, item in variable.items() if key not in chosen}
            for variable in answered["templating"]["list"]
        ] == [
            {key: item for key, item in variable.items() if key not in chosen}
            for variable in shipped["templating"]["list"]
        ]
