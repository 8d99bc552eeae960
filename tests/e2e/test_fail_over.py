"""Exporters on a PostgreSQL that fails over to a standby that lacks the newest writes."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from e2e.processes import Fal, exporter_of, wait_until
from e2e.relay import relay
from e2e.test_replicas import Cluster, Replica, planted_in, through
from ledger.standby import ServerPair, server_pair

from exporter.cli import main

PENDING = "fal_spend_pending_usd"


@pytest.fixture
def pair() -> Iterator[ServerPair]:
    with server_pair() as servers:
        yield servers


@contextmanager
def watched(fal: Fal, pair: ServerPair, folder: Path, exporters: int, **settings: str) -> Iterator[Cluster]:
    """Run some exporters on the pair of servers, and scrape them all the time."""
    with ExitStack() as opened:
        port = urlsplit(fal.running.url).port
        assert port is not None
        replicas = []
        for number in range(exporters):
            (folder / str(number)).mkdir()
            to_fal = opened.enter_context(relay("127.0.0.1", port))
            exporter = opened.enter_context(
                exporter_of(
                    fal,
                    folder / str(number),
                    PLATFORM_URL=through(fal.running.platform_url, to_fal.port),
                    REPORTING_URL=through(fal.running.reporting_url, to_fal.port),
                    LEDGER_URL=pair.address,
                    **settings,
                )
            )
            exporter.start()
            replicas.append(Replica(exporter, to_fal, to_fal))
        yield opened.enter_context(Cluster(fal, replicas).watched())


def lag(cluster: Cluster, pair: ServerPair) -> None:
    """Have a charge counted and served that the standby knows nothing of."""
    pair.catch_up()
    pair.fall_behind()
    cluster.charge(10)
    cluster.agree()


def caught_up(replica: Replica) -> Callable[[], bool]:
    """Return what is true once counters wait for nothing any more."""

    def is_caught_up() -> bool:
        samples = replica.scrape() or {}
        return PENDING in samples and not any(samples[PENDING].values())

    return is_caught_up


@pytest.mark.long
def test_an_exporter_goes_on_with_the_standby_and_no_counter_falls(
    fal: Fal, pair: ServerPair, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(fal, pair, tmp_path, 1) as cluster:
        (replica,) = cluster.replicas
        lag(cluster, pair)
        pair.kill_primary()
        wait_until(lambda: "cannot be used" in replica.exporter.output, "the exporter has noticed")
        assert planted_in(replica.figures()) == 10
        pair.fail_over()
        began = time.monotonic()
        wait_until(lambda: "lacks the newest" in replica.exporter.output, "the exporter goes on with the standby")
        wait_until(caught_up(replica), "what was lost is read again")
        print(f"read again {time.monotonic() - began:.1f} s after the fail-over")
        assert planted_in(replica.figures()) == 10
        assert not cluster.problems
        assert not replica.unanswered
        wait_until(lambda: "lacks the newest" in replica.page(), "the page tells what has happened")
        for name in ("FAL_KEY", "FAL_EXPORTER_LEDGER_URL"):
            monkeypatch.setenv(name, replica.exporter.environment[name])
    assert main(["ledger", "verify"]) == 0, capsys.readouterr()


@pytest.mark.long
def test_a_follower_takes_over_where_the_leader_is_gone_with_the_primary(
    fal: Fal, pair: ServerPair, tmp_path: Path
) -> None:
    with watched(fal, pair, tmp_path, 2, REPLICATED="true") as cluster:
        former = cluster.leader()
        (follower,) = [replica for replica in cluster.replicas if replica is not former]
        lag(cluster, pair)
        cluster.away.add(cluster.replicas.index(former))
        former.exporter.kill()
        pair.kill_primary()
        pair.fail_over()
        began = time.monotonic()
        assert cluster.leader() is follower
        print(f"the follower leads {time.monotonic() - began:.1f} s after the fail-over")
        assert "lacks the newest" in follower.exporter.output
        cluster.charge(5)
        cluster.agree()
        wait_until(caught_up(follower), "what was lost is read again")
        assert not cluster.problems
        assert not follower.unanswered
