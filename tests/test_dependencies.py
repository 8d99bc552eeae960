"""The table of dependencies: each with a reason and its licence; and the licences of all that the image holds."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_USERS = PROJECT["optional-dependencies"].keys() - {"test", "lint", "helm", "stores"}
TAKEN = ("MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "MPL", "Mozilla", "LGPL", "Lesser General")
"""Licences that let anybody run, change and pass on the whole under its own licence."""


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=;! ~]", requirement)[0].lower()


def licence_of(package: str) -> str:
    found = metadata(package)
    classified = [text.rpartition(" :: ")[2] for text in found.get_all("Classifier", []) if "License" in text]
    stated = [*found.get_all("License-Expression", []), ", ".join(classified), *found.get_all("License", [])]
    return str(next(filter(None, stated), ""))


def table() -> dict[str, list[str]]:
    """Return the cells of each row of the documented table, by each package that it is about."""
    text = (ROOT / "docs/architecture.md").read_text().partition("## Dependencies")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {name.strip(): cells for cells in rows for name in cells[0].split(",")}


def test_every_dependency_has_a_reason_and_its_licence() -> None:
    extras = [each for extra in sorted(FOR_USERS) for each in PROJECT["optional-dependencies"][extra]]
    rows = table()
    for requirement in (*PROJECT["dependencies"], *extras):
        name = name_of(requirement)
        assert name in rows, f"{name} has no row in docs/architecture.md"
        assert rows[name][1], f"{name} has no reason"
        assert rows[name][2], f"{name}: {licence_of(name)}"


def test_everything_in_the_image_has_a_licence_that_can_be_passed_on() -> None:
    locked = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "deploy/image/requirements.txt").read_text(), re.MULTILINE)
    assert len(locked) > 30
    licences: dict[str, str] = {}
    for package in locked:
        try:
            licences[package] = licence_of(package)
        except PackageNotFoundError:
            continue  # of another platform or of an extra that is not installed
    if len(licences) < len(locked) // 2:
        pytest.skip("most of what the image holds is not installed here")
    assert not {name: text for name, text in licences.items() if not any(word in text for word in TAKEN)}
