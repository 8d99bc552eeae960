import os
from datetime import UTC, datetime

from exporter.metrics.catalogue import CATALOGUE
from exporter.web.metrics import Tail
from exporter.web.negotiation import Variant

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


def lines(tail: Tail) -> dict[str, float]:
    text = tail.rendered().text.decode()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines()) if name[0] != "#"
    }


def test_it_tells_the_version_and_the_process_from_the_start() -> None:
    found = lines(Tail(version="1.2.3", collector=lambda: None))
    assert found['fal_exporter_build_info{version="1.2.3"}'] == 1
    assert found["fal_exporter_ready"] == 0
    assert found["process_cpu_seconds_total"] > 0
    assert any(name.startswith("python_info{") for name in found)
    assert "fal_exporter_snapshot_timestamp_seconds" not in found


def test_every_variant_of_a_scrape_is_counted_from_zero() -> None:
    tail = Tail(version="1.2.3", collector=lambda: None)
    tail.scraped(Variant(openmetrics=True, gzip=True))
    scrapes = {name: value for name, value in lines(tail).items() if name.startswith("fal_exporter_scrapes_total")}
    assert len(scrapes) == 4
    assert sum(scrapes.values()) == 1
    assert scrapes['fal_exporter_scrapes_total{encoding="gzip",format="openmetrics"}'] == 1


def test_a_publication_moves_the_stamp_and_readiness() -> None:
    tail = Tail(version="1.2.3", collector=lambda: None)
    tail.published(AT, ready=True)
    found = lines(tail)
    assert found["fal_exporter_snapshot_timestamp_seconds"] == AT.timestamp()
    assert found["fal_exporter_ready"] == 1


def test_the_collectors_process_is_measured_under_its_own_name() -> None:
    found = lines(Tail(version="1.2.3", collector=os.getpid))
    assert found["fal_exporter_collector_process_resident_memory_bytes"] > 0


def test_a_collector_that_is_gone_leaves_no_trace() -> None:
    assert not any("collector" in name for name in lines(Tail(version="1.2.3", collector=lambda: 2**22 + 1)))


def test_help_is_the_catalogues() -> None:
    text = Tail(version="1.2.3", collector=lambda: None).rendered().text.decode()
    for name in ("fal_exporter_build_info", "fal_exporter_ready", "fal_exporter_scrapes_total"):
        assert f"# HELP {name} {CATALOGUE[name].help}\n" in text
