"""The script that draws the pictures of the documentation calls a program for every dashboard."""

import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
from grafana.shipped import DOCUMENTS, REPOSITORY

from exporter.simulator.faults.fault_requests import faults_of

RENDERER = """\
#!/bin/sh
all="$*"
while [ "$1" != --out ]; do shift; done
echo "$all" > "$2"
exit {status}
"""


def drawn(tmp_path: Path, status: int) -> subprocess.CompletedProcess[str]:
    renderer = tmp_path / "renderer"
    renderer.write_text(RENDERER.format(status=status))
    renderer.chmod(0o755)
    return subprocess.run(
        [
            *(sys.executable, str(REPOSITORY / "grafana" / "pictures.py"), "--renderer", str(renderer)),
            *("--prometheus", "http://127.0.0.1:9090", "--all", str(tmp_path / "pictures")),
        ],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_every_dashboard_is_drawn_in_both_themes_and_widths(tmp_path: Path) -> None:
    done = drawn(tmp_path, status=0)
    assert done.returncode == 0, done.stderr
    pictures = {path.name: path.read_text().split() for path in (tmp_path / "pictures").iterdir()}
    assert set(pictures) == {
        f"{document.stem}-{width}-{theme}.png"
        for document in DOCUMENTS
        for width in (1280, 1920)
        for theme in ("dark", "light")
    }
    for name, arguments in pictures.items():
        assert Path(arguments[0]).is_file()
        assert arguments[arguments.index("--prometheus") + 1] == "http://127.0.0.1:9090"
        assert arguments[arguments.index("--width") + 1] in name
        assert ("--light" in arguments) == name.endswith("light.png")


def test_a_program_that_fails_ends_the_script(tmp_path: Path) -> None:
    done = drawn(tmp_path, status=1)
    assert done.returncode != 0
    assert len(list((tmp_path / "pictures").iterdir())) == 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_the_documentation_has_a_picture_of_each(document: Path) -> None:
    page = (REPOSITORY / "docs" / "dashboards.md").read_text(encoding="utf-8")
    assert f"](images/dashboards/{document.stem.removeprefix('fal-')}.png)" in page


def test_every_state_is_one_that_fal_can_be_brought_into_and_the_help_names_it() -> None:
    states = run_path(str(REPOSITORY / "grafana" / "states.py"))
    script = [sys.executable, str(REPOSITORY / "grafana" / "pictures.py"), "--help"]
    shown = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60).stdout
    for state, words in states["STATES"].items():
        assert f"  {state:9}{words}" in shown
    assert states["FAULTS"].keys() == states["BROKEN"].keys()
    assert states["FAULTS"].keys() < states["STATES"].keys()
    for faults in states["FAULTS"].values():
        assert len(faults_of(list(faults))) == len(faults) >= 1
