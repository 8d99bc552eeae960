"""What all tests share: the programs they start."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

LONGEST = "e2e/test_life.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that it does not run on alone when all else is done."""
    items.sort(key=lambda item: LONGEST not in item.nodeid)


@pytest.fixture(scope="session")
def program() -> Callable[[str, str], str]:
    """Find a program of a Debian package; skip where it is missing, fail where it must be there (CI)."""

    def found(name: str, package: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"{name} is missing: apt-get install {package}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return found


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent
