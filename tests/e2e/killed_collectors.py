"""Collectors that are killed: a process that has imported everything forks one after the other, and kills it.

A collector that is started as `serve` starts it takes most of a second to import its libraries; a forked one begins to
work at once, so that thousands of kills are affordable. Each is the real one, at the other end of the real pipe, killed
at a random moment of its first fifth of a second, or of the one after its first publication: while it opens the
ledger, polls, writes, or publishes.

Usage: python killed_collectors.py PLATFORM_URL LEDGER KILLS SEED
"""

import os
import random
import re
import resource
import select
import signal
import socket
import sys
import time
from collections import Counter
from datetime import timedelta
from multiprocessing import Pipe

import httpx
from pydantic import SecretStr

from exporter.app import collector_process
from exporter.publication import Begin, Publication, Receiving, Scraped
from exporter.settings import Listen, Settings
from exporter.simulator import ADMIN_KEY

_SAMPLE = re.compile(rb"^(fal_spend_usd_total|fal_spend_pending_usd)\{([^}]*)\} (\S+)$", re.MULTILINE)
_MODEL = re.compile(rb'model="(fal-ai/late-\d)"')
LONGEST_LIFE = 0.2
PATIENCE = 60.0


class Bill:
    """Charges of one hour that fal states, and states anew."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self._http = httpx.Client(base_url=url)
        self._chance = chance
        self._hour = int(time.time()) // 3600 * 3600
        self.dollars: Counter[str] = Counter()

    def change(self) -> None:
        model = f"fal-ai/late-{self._chance.randrange(6)}"
        # More often up than down; what fal takes back makes the counter wait.
        self.dollars[model] = max(1, self.dollars[model] + self._chance.randint(-20, 60))
        hour = time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(self._hour))
        plants = [
            {"fault": "planted_spend", "hour": hour, "model": name, "amount_usd": str(dollars)}
            for name, dollars in self.dollars.items()
        ]
        self._http.put("/_simulator/faults", json={"faults": plants}).raise_for_status()


class Collector:
    """A forked collector and our end of its pipe."""

    def __init__(self, settings: Settings) -> None:
        self._ours, theirs = Pipe()
        control, their_control = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            self._ours.close()
            control.close()
            os._exit(collector_process.main(theirs.fileno(), their_control.detach()))
        theirs.close()
        their_control.close()
        self._control = control
        self._receive = Receiving(self._ours)
        self._ours.send(Begin(settings))

    def published(self, patience: float) -> Publication | None:
        """Return the next publication, as a scrape sees it; None if none comes in time."""
        if not select.select([self._ours], [], [], patience)[0]:
            return None
        try:
            publication = self._receive()
            if not isinstance(publication, Publication):
                raise SystemExit(f"the collector gave up: {publication.sentence}")
            self._ours.send(Scraped(publication.sequence))
        except (EOFError, ConnectionError):
            raise SystemExit("the collector ended by itself") from None
        return publication

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._ours.close()
        self._control.close()


class Watch:
    """Holds every counter against its highest value so far."""

    def __init__(self) -> None:
        self._highest: dict[bytes, float] = {}
        self.counted: Counter[str] = Counter()
        self.publications = 0

    def look(self, publication: Publication) -> None:
        text = b"".join(piece.plain for piece in publication.exposition.text.pieces)
        now: dict[bytes, float] = {}
        counted: Counter[str] = Counter()
        for family, labels, value in _SAMPLE.findall(text):
            is_counter = family == b"fal_spend_usd_total"
            if is_counter:
                now[labels] = float(value)
            if (model := _MODEL.search(labels)) is not None:
                counted[model[1].decode()] += round(float(value)) * (1 if is_counter else -1)
        if not now and self._highest:
            return  # before the ledger has been read
        for labels, highest in self._highest.items():
            if now.get(labels, -1) < highest:
                raise SystemExit(f"a counter fell from {highest} to {now.get(labels)}: {labels!r}")
        self._highest, self.counted = now, counted
        self.publications += 1


def _until(collector: Collector, watch: Watch, bill: Bill, *, is_ready: bool) -> None:
    """Wait until a publication says what the bill says."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        publication = collector.published(1)
        if publication is None:
            continue
        watch.look(publication)
        if publication.ready >= is_ready and +watch.counted == +bill.dollars:
            return
    raise SystemExit(f"the ledger says {dict(watch.counted)}, fal {dict(bill.dollars)}")


def main(url: str, ledger: str, kills: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  reproducible, no secrets
    settings = Settings(
        key=SecretStr(ADMIN_KEY),
        platform_url=f"{url}/v1",
        reporting_url=url,
        listen=Listen("127.0.0.1", 0),
        mcp_listen=None,
        ledger_url=SecretStr(f"sqlite:///{ledger}"),
        history=timedelta(hours=2),
        poll_interval=timedelta(seconds=10),
        series_birth_hold=timedelta(0),
        log_level="error",
    )
    bill, watch = Bill(url, chance), Watch()
    # The ledger is born before the first late charge, so that all of them count.
    first = Collector(settings)
    _until(first, watch, bill, is_ready=True)
    first.kill()
    publishing = 0
    for number in range(kills):
        if not number % 10:
            bill.change()
        before = watch.publications
        collector = Collector(settings)
        # Every fourth is let live until it has published what its ledger holds, and dies in its polls after that.
        waits = not number % 4
        end = time.monotonic() + chance.uniform(0, LONGEST_LIFE)
        while (left := end - time.monotonic()) > 0 or (waits and left > -PATIENCE):
            if (publication := collector.published(max(left, 0.01))) is not None:
                watch.look(publication)
                if waits and watch.publications > before:
                    waits, end = False, time.monotonic() + chance.uniform(0, LONGEST_LIFE)
        collector.kill()
        publishing += watch.publications > before
    last = Collector(settings)
    _until(last, watch, bill, is_ready=True)
    last.kill()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in used)
    print(
        f"seed {seed}: {kills} kills, {publishing} of collectors that had published, {seconds:.0f} s processor time, "
        f"{watch.publications} publications, ${sum(bill.dollars.values())} billed and counted"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
