"""The real thing, killed: a process restates and publishes in a loop and is ended by SIGKILL at any moment."""

import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter.charges import HOUR, Amounts, Charge, Dimensions, Window
from exporter.ledger import Ledger, Rules

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
HOUR_START = datetime(2026, 11, 20, 12, tzinfo=UTC)

CHILD = """
import sys
from datetime import timedelta
from test_crash import NOW, charges, open_ledger, WINDOW

ledger = open_ledger(sys.argv[1])
step = int(sys.argv[2])
print("ready", flush=True)
while True:
    step += 1
    ledger.restate("main", "models", WINDOW, charges(step), at=NOW + timedelta(hours=1))
    view = ledger.view()
    ledger.scraped(view.sequence)
    print(step, *(f"{s.labels[1]}={s.value}" for page in view.spend for s in page.samples), flush=True)
"""

WINDOW = Window(HOUR_START - HOUR, HOUR_START + 2 * HOUR)


def charges(step: int) -> list[Charge]:
    """Return what fal states at a step: it grows for the most part, is taken back now and then, and gets new models."""
    cost = step * 10 - (7 if step % 3 == 0 else 0)
    return [
        Charge(hour, Dimensions("main", model=f"m{n}"), Amounts(cost=cost + n))
        for hour in list(WINDOW.hours())[1:]
        for n in range(20 + step % 50)
    ]


def open_ledger(address: str) -> Ledger:
    rules = Rules(labels=("account", "model"), birth_hold=0 * HOUR)
    ledger = Ledger(address, rules=rules, clock=lambda: NOW - HOUR)
    ledger.activate({"main": ("models",)})
    return ledger


def published(ledger: Ledger) -> dict[str, int]:
    return {sample.labels[1]: int(sample.value) for page in ledger.view().spend for sample in page.samples}


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_ledger_whose_process_is_killed_again_and_again_goes_on_where_it_was(tmp_path: Path, kills: int) -> None:
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    rng = random.Random(5)  # noqa: S311  moments, not secrets
    seen: dict[str, int] = {}
    step = 0
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, address, str(step)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(rng.randrange(1, 8))]
            spin = rng.randrange(0, 60_000)
            while spin:  # a moment that no clock can hit
                spin -= 1
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        for line in lines:
            if line.endswith("\n") and line[0].isdigit():
                number, *scraped = line.split()
                step = int(number)
                seen = {**seen, **{name: int(value) for name, value in (item.split("=") for item in scraped)}}
        ledger = open_ledger(address)
        after = published(ledger)
        assert all(after[name] >= value for name, value in seen.items())
        seen = after
        ledger.close()
    assert step > kills
    ledger = open_ledger(address)
    ledger.restate("main", "models", WINDOW, charges(9_999), at=NOW)
    for _ in range(2):
        ledger.scraped(ledger.view().sequence)
    total = {charge.dimensions.model: 0 for charge in charges(9_999)}
    for charge in charges(9_999):
        total[charge.dimensions.model] += charge.amounts.cost
    assert {name: value for name, value in published(ledger).items() if name in total} == total
    assert ledger.view().charges == len(charges(9_999))
    ledger.close()
