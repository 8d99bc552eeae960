"""Draws the pictures of the documentation: `python grafana/pictures.py --renderer PROGRAM`."""  # noqa: INP001  a script

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DASHBOARDS = REPOSITORY / "grafana" / "dashboards"
PICTURES = REPOSITORY / "docs" / "images" / "dashboards"

LIGHT = {"fal-models-and-prices", "fal-month"}
"""Drawn in the light theme, so that the documentation shows both."""

_HELP = """\
Starts `fal-exporter demo --with-prometheus` and has PROGRAM draw every dashboard of grafana/dashboards, called as

  PROGRAM DASHBOARD.json --prometheus URL --out FILE.png --width PIXELS --timezone UTC --allow-empty [--light]
      [--from START]

It is to draw the whole dashboard with the data of that Prometheus and to end with status 0. With --all DIRECTORY the
pictures of the documentation stay, and every dashboard is drawn in both themes, 1280 and 1920 pixels wide.
"""

_LIVE = 1800
"""Seconds of scrapes that the dashboard of the exporter's health shows something of."""

_PATIENCE = 3600.0
"""Seconds the demo may take to load its history, bring it to Prometheus and be scraped for a while."""

_KNOWN = (
    "count(fal_spend_month_forecast_usd) and count(fal_spend_month_change_usd) and count(fal_budget_burn_ratio)"
    f" and max(time() - fal_exporter_ledger_birth_timestamp_seconds) > {_LIVE}"
)
"""Returns a value once everything that the dashboards show has been scraped."""


@contextmanager
def demo(log: Path) -> Iterator[str]:
    """Run the demo with its Prometheus until the block is left; yield the address of Prometheus once it knows all.

    Raises:
        TimeoutError: the demo does not start, or publishes no forecasts, in half an hour.
    """
    command = [sys.executable, "-m", "exporter", "demo", "--with-prometheus", "--listen", "127.0.0.1:0"]
    with log.open("w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603  its own
        try:
            end = time.monotonic() + _PATIENCE
            while not (found := re.search(r"Prometheus +(http://[0-9.:]+)/", log.read_text(encoding="utf-8"))):
                wait(process, end, log)
            while not answers(found[1]):
                wait(process, end, log)
            yield found[1]
        finally:
            process.terminate()
            process.wait(30)


def wait(process: subprocess.Popen[bytes], end: float, log: Path) -> None:
    """Wait a second.

    Raises:
        TimeoutError: the demo has ended, or has had its time.
    """
    if process.poll() is not None or time.monotonic() > end:
        raise TimeoutError(f"the demo is not ready: {log.read_text(encoding='utf-8')[-2000:]}")
    time.sleep(1)


def answers(prometheus: str) -> bool:
    """Tell whether a Prometheus knows everything that the dashboards show."""
    query = urllib.parse.urlencode({"query": _KNOWN})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=10) as answer:  # noqa: S310  its own
        return bool(json.load(answer)["data"]["result"])


def draw(renderer: str, dashboard: Path, prometheus: str, picture: Path, width: int, *, light: bool) -> None:
    """Have a dashboard drawn.

    Raises:
        subprocess.CalledProcessError: the program has failed.
    """
    options = ["--prometheus", prometheus, "--out", str(picture), "--width", str(width), "--timezone", "UTC"]
    theme = ["--light"] if light else []
    # A month of the exporter's own health is not in a history that was loaded just now.
    if dashboard.stem == "fal-exporter-health":
        theme += ["--from", f"now-{_LIVE // 60}m"]
    command = [renderer, str(dashboard), *options, "--allow-empty", *theme]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)  # noqa: S603  what the user names
    if pngquant := shutil.which("pngquant"):
        # A palette makes a third of it, and nothing of a dashboard is lost.
        subprocess.run([pngquant, "--force", "--ext", ".png", str(picture)], check=True, timeout=60)  # noqa: S603
    print(picture)  # noqa: T201  a script


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renderer", required=True, metavar="PROGRAM")
    parser.add_argument("--prometheus", metavar="URL", help="one that is filled already, in place of the demo's")
    parser.add_argument("--all", type=Path, metavar="DIRECTORY", help="where the pictures in both themes go")
    given = parser.parse_args()

    def pictures(prometheus: str) -> None:
        for dashboard in sorted(DASHBOARDS.glob("*.json")):
            uid = dashboard.stem
            if given.all is None:
                picture = PICTURES / f"{uid.removeprefix('fal-')}.png"
                draw(given.renderer, dashboard, prometheus, picture, 1280, light=uid in LIGHT)
                continue
            for width in (1280, 1920):
                for theme in ("dark", "light"):
                    picture = given.all / f"{uid}-{width}-{theme}.png"
                    draw(given.renderer, dashboard, prometheus, picture, width, light=theme == "light")

    if given.all is not None:
        given.all.mkdir(parents=True, exist_ok=True)
    if given.prometheus:
        pictures(given.prometheus)
    else:
        with tempfile.TemporaryDirectory() as folder, demo(Path(folder) / "demo.log") as prometheus:
            pictures(prometheus)


if __name__ == "__main__":
    main()
