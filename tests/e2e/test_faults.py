"""Fault campaign: every fault of fal, its network, the clock and the disk, alone and in pairs, for many days."""

import random
import resource
from pathlib import Path

import pytest
from e2e.campaign import FAULTS, Campaign, Surroundings, new_health, new_world, pairs, pragmas_of

from exporter.simulator import Simulator, serving

SEED = 20261128
SINGLES = sorted(FAULTS)
ALWAYS_DARK = (
    *("server_error", "locked", "key_revoked", "not_json", "truncated_body", "giant_body", "gzip_bomb", "dns_gone"),
    *("ledger_read_only", "ledger_locked", "hang", "endless_pages", "wrong_types_everywhere"),
)


def lives() -> list[list[tuple[str, ...]]]:
    """Return the days of each life: those of single faults, and those of pairs."""
    singles = [(name,) for name in SINGLES]
    both = pairs(random.Random(SEED), 36)  # noqa: S311  reproducible, no secrets
    return [[*life, ()] for days in (singles, both) for life in (days[: len(days) // 2], days[len(days) // 2 :])]


@pytest.mark.long
@pytest.mark.parametrize("number", range(4))
async def test_the_ledger_equals_fals_statement_whatever_has_failed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ledger.tables.database._BUSY_SECONDS", 0.02)
    world, birth = new_world(SEED + number)
    around = Surroundings(birth, tmp_path / "ledger.sqlite")
    simulator = Simulator(world, lambda: around.now)
    began = resource.getrusage(resource.RUSAGE_SELF)
    async with serving(simulator) as running:
        with pragmas_of(around):
            days = await Campaign(running, around, new_health).live(lives()[number])
    ended = resource.getrusage(resource.RUSAGE_SELF)
    print("\n| faults of a day | polls that failed | hours compared | charges that differ |\n|---|---|---|---|")
    for day in days:
        print(day)
    print(
        f"{len(days)} days, {ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime:.0f} s of processor time"
    )
    assert not any(day.differing for day in days)
    assert all(day.hours >= 24 for day in days)
    # The faults are felt: those of which every poll fails leave the day dark while they last.
    dark = {day.faults for day in days if day.is_dark}
    assert {(name,) for name in ALWAYS_DARK} & {day.faults for day in days} <= dark
