"""The unit of systemd."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.settings import load_settings

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/fal-exporter.service"
MOST_EXPOSED = 1.5
"""Of 10; what systemd itself calls "OK"."""

Program = Callable[[str, str], str]


def test_systemd_finds_nothing_wrong_with_it(program: Program, tmp_path: Path) -> None:
    # The program is there once it is installed.
    installed = tmp_path / UNIT.name
    installed.write_text(UNIT.read_text().replace("/opt/fal-exporter/bin/fal-exporter", "/bin/true"))
    done = subprocess.run(
        [program("systemd-analyze", "systemd"), "verify", "--man=no", installed],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_is_hardly_exposed(program: Program) -> None:
    done = subprocess.run(
        [program("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= MOST_EXPOSED


def test_the_exporter_accepts_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What systemd puts in the place of %d and %S.
    places = {"%d": str(tmp_path), "%S": "/var/lib"}
    (tmp_path / "fal-key").write_text("id:secret\n")
    given = re.findall(r"^Environment=(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE)
    given += re.findall(r"^#? ?(FAL_\w+)=(.*)$", (UNIT.parent / "fal-exporter.env").read_text(), re.MULTILINE)
    for name, text in given:
        value = text
        for place, path in places.items():
            value = value.replace(place, path)
        if name == "FAL_EXPORTER_CONFIG_FILE":
            value = str(tmp_path / "fal-exporter.yaml")
            Path(value).write_text("")
        monkeypatch.setenv(name, value)
    settings = load_settings({})
    assert settings.ledger_url.get_secret_value() == "sqlite:////var/lib/fal-exporter/ledger.sqlite"
    assert settings.accounts[0].key().get_secret_value() == "id:secret"
    assert str(settings.listen) == "127.0.0.1:8080"


def test_a_wrong_setting_is_not_tried_again() -> None:
    assert "RestartPreventExitStatus=2\n" in UNIT.read_text()
