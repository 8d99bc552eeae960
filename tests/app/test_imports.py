"""The processes of `serve` import what they use, and nothing else: it would be in memory for months."""

import subprocess
import sys

import pytest

UNUSED_BY_BOTH = {
    *("rich", "pygments", "exporter.simulator", "mcp", "httpx2", "polars", "jinja2", "yaml", "bcrypt", "zstandard"),
    *("backports.zstd", "exporter.replicas", "exporter.booked.comparison"),
}
UNUSED = {
    "exporter.app.serve": UNUSED_BY_BOTH
    | {
        "sqlalchemy",
        "sqlite3",
        "httpx",
        "apscheduler",
        "python_multipart",
        "tenacity",
        "exporter.ledger",
        "exporter.fal",
        "exporter.polling",
        "exporter.cli",
        "exporter.queries",
        "exporter.web.rest.application",
        "exporter.web.rest.calls",
        "exporter.web.mcp",
        *("pydantic", "pydantic_core", "pydantic_settings", "typing_inspection"),
    },
    "exporter.app.collector_process": UNUSED_BY_BOTH
    | {
        "pydantic",
        "pydantic_core",
        "pydantic_settings",
        "starlette",
        "uvicorn",
        "uvloop",
        "click",
        "exporter.focus.outputs",
        "exporter.polling.booked",
        "exporter.web",
        "exporter.cli",
        "exporter.replicas",
        "sqlalchemy.dialects.postgresql",
    },
}


def imported(statements: str) -> set[str]:
    """Return the modules that a fresh process imports, without those that it pretends not to have.

    Libraries that `coverage` has imported before do not count.
    """
    program = f"""
import sys
before = set(sys.modules)
{statements}
print(*(name for name, module in sys.modules.items() if module and name not in before))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", UNUSED)
def test_a_process_imports_nothing_that_it_does_not_use(module: str) -> None:
    which = "_UNUSED_BY_WEB" if module.endswith("serve") else "_UNUSED_BY_COLLECTOR"
    modules = imported(f"from exporter import __main__ as main; main._import_less(main.{which}); import {module}")
    assert module in modules
    assert UNUSED[module] & modules == set()
