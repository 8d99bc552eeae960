"""Answers without end: refused while they come in, and the collector's memory does not grow by what they unpack to."""

from pathlib import Path

import pytest
from e2e.processes import Exporter, Fal, exporter_of, wait_until

from exporter.simulator import Fault

MEGABYTE = 2**20
GROWTH = 120 * MEGABYTE
"""Memory that one answer may take, once unpacked and parsed, above a quiet collector's; each here is a gigabyte."""


def highest_memory(exporter: Exporter) -> int:
    """Return the most memory that the collector has ever had, in bytes."""
    (line,) = [
        line
        for line in Path(f"/proc/{exporter.collector}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


def failures(exporter: Exporter, source: str, reason: str) -> float:
    found = exporter.scrape()["fal_exporter_poll_failures_total"]
    return found.get(frozenset({("account", "default"), ("source", source), ("reason", reason)}), 0)


def is_up(exporter: Exporter, source: str) -> bool:
    return exporter.scrape()["fal_source_up"][frozenset({("account", "default"), ("source", source)})] == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "path", "kinds"),
    [
        (
            "models",
            "/v1/models/usage",
            {
                "gzip_bomb": "too_large",
                "giant_body": "too_large",
                "endless_rows": "endless_pages",
                "endless_pages": "endless_pages",
            },
        ),
        ("focus", "/v1/account/focus", {"gzip_bomb": "not_csv", "giant_body": "not_csv"}),
    ],
)
def test_answers_without_end_are_refused_in_bounded_memory(
    fal: Fal, tmp_path: Path, source: str, path: str, kinds: dict[str, str]
) -> None:
    with exporter_of(fal, tmp_path, SOURCES=source, SERIES_BIRTH_HOLD="0s") as exporter:
        exporter.start()
        wait_until(exporter.is_ready, "the exporter is ready")
        quiet = highest_memory(exporter)
        for kind, reason in kinds.items():
            before = failures(exporter, source, reason)
            calls = fal.simulator.seen[path]
            fal.simulator.faults.add(Fault(kind, path=path, megabytes=1024))
            wait_until(lambda: failures(exporter, source, reason) > before, f"{kind} is refused")  # noqa: B023  waited for
            fal.simulator.faults.clear()
            growth, calls = highest_memory(exporter) - quiet, fal.simulator.seen[path] - calls
            print(f"{source}: {kind}: {growth / MEGABYTE:.0f} MB more at most, {calls} calls")
            assert growth < GROWTH
            wait_until(lambda: is_up(exporter, source), "it recovers by itself")
        assert exporter.stop() == 0
