"""Two thousand collectors are killed while fal's past changes: nothing is lost, nothing is doubled."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from e2e import killed_collectors
from e2e.processes import Fal

KILLS = 2_000


@pytest.mark.long
def test_thousands_of_killed_collectors_lose_and_double_nothing(fal: Fal, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    done = subprocess.run(
        [
            sys.executable,
            killed_collectors.__file__,
            fal.running.url,
            str(tmp_path / "ledger.sqlite"),
            str(KILLS),
            str(seed),
        ],
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    assert f"{KILLS} kills" in done.stdout
    assert "Traceback" not in done.stderr
