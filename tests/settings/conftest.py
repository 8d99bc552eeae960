"""Settings are read from the environment: every test starts from one without any."""

import os
from pathlib import Path

import pytest

TESTDATA = Path(__file__).parent / "testdata"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the developer's shell may have set."""
    for name in os.environ:
        if name.startswith("FAL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def in_testdata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the folder of configuration files, so that messages name them shortly."""
    monkeypatch.chdir(TESTDATA)
