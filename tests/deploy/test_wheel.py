"""The wheel: what an installation and the image have of the package."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that is built from this checkout."""
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(built)


def test_it_has_every_file_of_the_package(wheel: Path) -> None:
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "exporter").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        assert package <= set(archive.namelist())


def test_pages_are_made_of_what_it_has(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from exporter.charges import utc_now
from exporter.web.pages import LandingPage, rendering
from exporter.web.rest.documentation import page
assert rendering.__file__.startswith(sys.argv[1]), rendering.__file__
print(LandingPage(utc_now).html(None, ready=False), page(guarded=True))
"""
    # Isolated: nothing of the checkout is on the path.
    command = [sys.executable, "-I", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "The first figures are being prepared" in done.stdout
    assert "Authorization: Bearer TOKEN" in done.stdout
