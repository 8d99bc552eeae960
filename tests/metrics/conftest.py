"""Fixtures of the tests of the metrics room."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from exporter.metrics.catalogue import CATALOGUE, DEFAULT_CHARGE_LABELS
from exporter.metrics.snapshot import Snapshot, Table
from exporter.samples import Sample, paged

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


@pytest.fixture
def promtool_findings(program: Callable[[str, str], str]) -> Callable[[bytes], set[str]]:
    """Judge an exposition in the text format by `promtool check metrics`; it must at least be readable."""
    path = program("promtool", "prometheus")

    def findings(text: bytes) -> set[str]:
        done = subprocess.run([path, "check", "metrics"], input=text, capture_output=True, check=False, timeout=30)
        assert done.returncode in {0, 3}, done.stderr.decode()
        return set(done.stderr.decode().splitlines())

    return findings


@pytest.fixture
def gzip_program(program: Callable[[str, str], str]) -> str:
    return program("gzip", "gzip")


@pytest.fixture
def every_family() -> Snapshot:
    """One sample or two of every family that tables hold, at edges of what ledgers say."""
    values = (0, 1, 402_118_000_001, -180_000_000, 2**63 - 1)
    tables = []
    for family in CATALOGUE.values():
        if family.kind == "histogram":
            continue
        labels = family.labels_with(DEFAULT_CHARGE_LABELS)
        # By name, so that a new family changes no other line of the golden files.
        value = values[sum(family.name.encode()) % len(values)]
        value = abs(value) if family.kind == "counter" else value
        full = tuple(f"a {label}" for label in labels)
        created = AT if family.kind == "counter" and family.charge_labels else None
        samples = [Sample(full, value, created)]
        if len(labels) > 1:
            samples.append(Sample((labels[0], *[""] * (len(labels) - 2), 'quote " slash \\ line\nend'), 7, created))
        tables.append(Table(family, labels, paged(samples)))
    return Snapshot(1, AT, tuple(tables))
