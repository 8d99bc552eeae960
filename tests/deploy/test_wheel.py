"""The wheel: what an installation and the image have of the package."""

from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of the files in a wheel that is built from this checkout."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_has_every_file_of_the_package(shipped: set[str]) -> None:
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "exporter").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package <= shipped


@pytest.mark.parametrize("name", ["layout.html", "landing.html", "overview.html", "documentation.html", "style.css"])
def test_it_has_what_pages_are_made_of(shipped: set[str], name: str) -> None:
    assert f"exporter/web/pages/templates/{name}" in shipped
