"""The package as `pip install` leaves it: built, installed in an environment of its own, run outside the checkout."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from tarfile import TarFile

import pytest
from e2e.processes import PATIENCE, free_port, wait_until
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from local_http import HTTP

ROOT = Path(__file__).parents[2]
SMOKE = ("tests/test_charges.py", "tests/test_calendar.py", "tests/test_cli.py", "tests/settings", "tests/metrics")
"""Tests that need no other program: of the domain, the commands, the settings and the format of the metrics."""
PYTHONS = ("3.11", "3.12", "3.13")
TOOLS = ("pytest>=8.3", "pytest-asyncio>=1.0", "pytest-xdist>=3.6", "hypothesis>=6.130", "protobuf>=6", "trustme>=1.2")
"""Requirements of those tests beside the package."""

pytestmark = pytest.mark.long


def python_of(version: str) -> str | None:
    """Return the Python of a version that is on the PATH, or that pyenv keeps off it."""
    kept = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = [shutil.which(f"python{version}"), *map(str, sorted(kept.glob(f"{version}.*/bin/python")))]
    for program in filter(None, found):
        # On the PATH, it may be a shim that starts nothing.
        command = [program, "-c", "import venv, ensurepip"]
        if subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0:
            return program
    return None


def run(*command: str | Path, folder: Path, seconds: float = 600) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("FAL_")}
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what is in the sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with TarFile.open(built) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that is built from the sdist."""
    (built,) = WheelBuilder(str(sdist)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="module", params=PYTHONS)
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment that has the wheel and what the tests need."""
    folder = tmp_path_factory.mktemp("environment")
    python = python_of(request.param) or pytest.skip(
        f"Python {request.param} is missing: pyenv install {request.param}"
    )
    run(python, "-m", "venv", "venv", folder=folder)
    programs = folder / "venv" / "bin"
    run(programs / "pip", "install", "--quiet", str(wheel), *TOOLS, folder=folder)
    return programs


def test_every_python_that_the_package_claims_is_tried() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert tuple(claimed) == PYTHONS


def test_the_sdist_has_what_the_tests_and_the_image_need(sdist: Path) -> None:
    names = (
        "pyproject.toml",
        "Dockerfile",
        ".ci/run",
        ".github/workflows/ci.yaml",
        "tests/conftest.py",
        "docs/index.md",
    )
    assert {name for name in names if not (sdist / name).is_file()} == set()


def test_it_is_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    told = run(installed / "python", "-c", "import exporter; print(exporter.__file__)", folder=tmp_path)
    assert told.startswith(str(installed.parent))


def test_the_demo_that_the_readme_shows_answers(installed: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (arguments,) = set(re.findall(r"\.venv/bin/fal-exporter (demo)$", readme, re.MULTILINE))
    port = free_port()
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [installed / "fal-exporter", arguments, "--listen", f"127.0.0.1:{port}", "--days", "1"],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        wait_until(lambda: url in (tmp_path / "output").read_text(), "the demo says where it is")
        wait_until(lambda: "fal_spend_today_usd{" in HTTP.get(url, timeout=10).text, "its figures are served")
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0, (tmp_path / "output").read_text()
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_tests_of_the_repository_pass_on_it(installed: Path, sdist: Path, tmp_path: Path) -> None:
    # Without the folder of the package, so that nothing but what was installed can be imported.
    copy = tmp_path / "repository"
    shutil.copytree(sdist, copy, ignore=shutil.ignore_patterns("exporter", "__pycache__"))
    told = run(installed / "python", "-m", "pytest", "-q", "-n", "2", *SMOKE, folder=copy, seconds=900)
    passed = re.search(r"(\d+) passed", told)
    assert passed, told
    assert int(passed[1]) > 700
