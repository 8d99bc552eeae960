"""Set-up of all tests: the programs they start, and the order they run in."""

import gc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import compiled_statements
import profiles  # noqa: F401  chooses how Hypothesis looks for examples
import programs
import pytest
import structlog
import yaml

from exporter import logs

# Every worker loads every test, and some hundred tests start an exporter: without compiled code beside the sources, a
# third of the whole time would go into compiling. Whoever wants it elsewhere sets PYTHONPYCACHEPREFIX.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

compiled_statements.share()

# What is made until all tests are known is there to stay, some million objects: to look through them again and again
# for garbage would take as long as to make them.
gc.disable()

if importlib.util.find_spec("sniffio") is None:
    # httpcore tries to import it at every step of every call, and each time Python looks through all folders in vain.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

# By itself structlog draws each traceback with all variables of all frames, in colours: some hundred milliseconds each.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback

# Tests read what the project itself has written; PyYAML's own scanner takes ten times as long.
yaml.safe_load = partial(yaml.load, Loader=yaml.CSafeLoader)

LONGEST = ("tests/e2e/test_kills.py", "tests/e2e/test_alerts.py", "tests/e2e/test_life.py")
"""Modules that a run begins with: whoever came to them last would keep all others waiting for minutes."""

SHARING = ("tests/e2e/", "tests/deploy/test_helm.py", "tests/deploy/test_kubernetes.py", "tests/deploy/test_skill.py")
"""Tests that start processes, which those of a module share, or read the schemas of Kubernetes."""

SAME_ROW = {"tests/deploy/test_helm.py": "tests/deploy/test_kubernetes.py"}
"""Modules that share with another one what takes seconds to read."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Have two workers more than cores: a quarter of the time tests wait, for other programs and for scrapes."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else len(os.sched_getaffinity(0)) + 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every worker begin with modules whose tests share a costly fixture.

    pytest-xdist gives each worker as many tests, in a row; one that has done all of its own takes some from the end of
    another's row. What stands at the end must be cheap, for a module that is divided sets its fixtures up twice.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    modules: dict[str, list[pytest.Item]] = {}
    light: list[pytest.Item] = []
    for item in items:
        module = item.nodeid.partition("::")[0]
        together = modules.setdefault(SAME_ROW.get(module, module), []) if module.startswith(SHARING) else light
        together.append(item)
    rows: list[list[pytest.Item]] = [[] for _ in range(workers)]
    others = sorted(modules.keys() - set(LONGEST))
    for place, module in enumerate((*(module for module in LONGEST if module in modules), *others)):
        rows[place % workers] += modules[module]
    left = len(items)
    for place, row in enumerate(rows):
        share = left // (workers - place)
        left -= share
        room = max(share - len(row), 0)
        row.extend(light[:room])
        del light[:room]
    items[:] = [item for row in [*rows, light] for item in row]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave all that there is so far out of the search for garbage, and search seldom.

    As often as Python does by itself, looking for cycles takes a fifth of the time: tests make and let go of many
    objects, beside others that stay, such as hours of simulated worlds.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    gc.enable()


@pytest.fixture(scope="session")
def program() -> Callable[[str, str], str]:
    """Find a program of a package; skip where it is missing, fail where it must be there (CI)."""
    return programs.required


@pytest.fixture(autouse=True)
def hidden_secrets_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no test's secrets hidden in what the next one reads: a half of a key may be a word."""
    monkeypatch.setattr(logs, "_hidden", ())


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent


KEPT_BY_OTHERS = (".lark_cache", "pytest-of-", "weed.")
"""Beginnings of the names of what other programs keep in the temporary folder: caches, tests and logs."""


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give tests, and the programs that they start, a folder for temporary files, which is empty at the end."""
    tmp_path_factory.getbasetemp()  # of pytest itself, beside that folder and not in it, without workers too
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="fal-exporter-tests-") as folder, pytest.MonkeyPatch.context() as patch:
        # PostgreSQL runs as another user, and has files in it.
        Path(folder).chmod(0o711)
        patch.setenv("TMPDIR", folder)
        tempfile.tempdir = folder
        yield
        tempfile.tempdir = before
        gc.collect()  # a folder goes with whoever holds it
        left = [path.name for path in Path(folder).iterdir() if not path.name.startswith(KEPT_BY_OTHERS)]
    assert not left, "tests, or what they have started, leave temporary files behind"
