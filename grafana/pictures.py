"""Draws the pictures of the documentation: `python grafana/pictures.py --renderer PROGRAM`."""  # noqa: INP001  a script

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from states import LIVE, STATES, scene  # noqa: E402  beside this script

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
pictures of the documentation stay, and every dashboard is drawn in both themes, 1280 and 1920 pixels wide; with
--browser CHROMIUM the landing page, too, 400, 1280 and 1920 pixels wide. --state chooses what they are drawn of:

"""


def draw(renderer: str, dashboard: Path, prometheus: str, picture: Path, width: int, *, light: bool) -> None:
    """Have a dashboard drawn.

    Raises:
        subprocess.CalledProcessError: the program has failed.
    """
    options = ["--prometheus", prometheus, "--out", str(picture), "--width", str(width), "--timezone", "UTC"]
    theme = ["--light"] if light else []
    # A month of the exporter's own health is not in a history that was loaded just now.
    if dashboard.stem == "fal-exporter-health":
        theme += ["--from", f"now-{LIVE // 60}m"]
    command = [renderer, str(dashboard), *options, "--allow-empty", *theme]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)  # noqa: S603  what the user names
    if pngquant := shutil.which("pngquant"):
        # A palette makes a third of it, and nothing of a dashboard is lost.
        subprocess.run([pngquant, "--force", "--ext", ".png", str(picture)], check=True, timeout=60)  # noqa: S603
    print(picture)  # noqa: T201  a script


THEMES = ("dark", "light")

_PAGE_HEIGHT = 3600
"""Pixels of the landing page that are drawn."""


def draw_page(browser: str, url: str, picture: Path, width: int, *, light: bool) -> None:
    """Have the landing page drawn.

    Raises:
        subprocess.CalledProcessError: the browser has failed.
    """
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *(f"--user-data-dir={profile}", f"--window-size={width},{_PAGE_HEIGHT}"),
            *(f"--blink-settings=preferredColorScheme={1 if light else 0}", "--virtual-time-budget=15000"),
            *(f"--screenshot={picture}", url),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)  # noqa: S603
    print(picture)  # noqa: T201  a script


def draw_all(given: argparse.Namespace, prometheus: str) -> None:
    """Have the dashboards drawn, those of the documentation or all in every width and theme."""
    for dashboard in sorted(DASHBOARDS.glob("*.json")):
        uid = dashboard.stem
        if given.all is None:
            picture = PICTURES / f"{uid.removeprefix('fal-')}.png"
            draw(given.renderer, dashboard, prometheus, picture, 1280, light=uid in LIGHT)
            continue
        for width, theme in product((1280, 1920), THEMES):
            picture = given.all / f"{uid}-{width}-{theme}.png"
            draw(given.renderer, dashboard, prometheus, picture, width, light=theme == "light")


def main() -> None:
    """Draw what the command line asks for."""
    states = "".join(f"  {state:9}{text}\n" for state, text in STATES.items())
    parser = argparse.ArgumentParser(description=_HELP + states, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renderer", required=True, metavar="PROGRAM")
    parser.add_argument("--prometheus", metavar="URL", help="one that is filled already, in place of the demo's")
    parser.add_argument("--all", type=Path, metavar="DIRECTORY", help="where the pictures in both themes go")
    parser.add_argument("--state", choices=STATES, default="month", help="of exporter and accounts, for --all")
    parser.add_argument("--browser", metavar="CHROMIUM", help="draws the landing page, for --all")
    parser.add_argument("--live", type=int, default=LIVE, metavar="SECONDS", help="of scrapes that are waited for")
    given = parser.parse_args()
    # What was started is ended, and gigabytes of history removed, also when this is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    if given.all is not None:
        given.all.mkdir(parents=True, exist_ok=True)
    if given.prometheus:
        draw_all(given, given.prometheus)
        return
    with tempfile.TemporaryDirectory() as folder, scene(given.state, Path(folder), live=given.live) as found:
        if given.all is not None and given.browser:
            for width, theme in product((400, 1280, 1920), THEMES):
                picture = given.all / f"page-{width}-{theme}.png"
                draw_page(given.browser, f"{found.exporter}/", picture, width, light=theme == "light")
        draw_all(given, found.prometheus)


if __name__ == "__main__":
    main()
