"""The landing page in a real browser: within its policy, on a phone, in the light and in the dark."""

import asyncio
import json
import re
import subprocess
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from html import escape, unescape
from pathlib import Path
from typing import NamedTuple

import programs
import pytest
from web.conftest import served

from exporter.charges import NANO, Window
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast, Outlook
from exporter.overview import (
    AccountOverview,
    Billed,
    DailySpend,
    Gap,
    Mover,
    NewName,
    Observations,
    Overview,
    Ranking,
    SourceOverview,
)
from exporter.publication import Exposition, Publication
from exporter.web.application import Application
from exporter.web.pages import LandingPage

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
MONTH = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))

Browse = Callable[..., Awaitable["Seen"]]
LONG = "fal-ai/" + "a-very-long-name-without-an-end-" * 4


class Seen(NamedTuple):
    """Result of a browser for a page: its document, and its complaints."""

    document: str
    complaints: str


@pytest.fixture
def browse(program: Callable[[str, str], str], tmp_path: Path) -> Browse:
    chromium = program("chromium", "chromium")

    async def seen(url: str, *flags: str) -> Seen:
        process = await asyncio.create_subprocess_exec(
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
            *(f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1400,900"),
            *flags,
            "--dump-dom",
            url,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        return Seen(output.decode(), "\n".join(word for word in errors.decode().splitlines() if "CONSOLE" in word))

    return seen


def publication(accounts: int) -> Publication:
    """Return what is published of so many accounts, the first of them locked, names and amounts of every length."""
    sources = (
        SourceOverview("models", "set by SOURCES", "up", AT, AT, AT - timedelta(days=2), 1.0),
        SourceOverview("serverless", "set by SOURCES", "failing", history_progress=0.5, problem="answered 500 " * 20),
    )
    made = [
        AccountOverview(
            f"team-{index}",
            sources,
            24_512 * NANO,
            AT,
            current_hour=10 ** min(index, 15),
            last_hour=NANO,
            today=20 * NANO,
            month_to_date=400 * NANO,
            last_month=900 * NANO,
        )
        for index in range(accounts)
    ]
    made[0] = replace(made[0], name=LONG, locked="the balance is exhausted", balance=-(2**62))
    days = tuple(date(2026, 11, 8) + timedelta(days=index) for index in range(14))
    products = (("model_apis", (8_123 * NANO,) * 14), ("serverless", (900 * NANO,) * 14), (LONG, (NANO,) * 14))
    forecast = Forecast(2**60, 2**59, 2**61)
    return Publication(
        1,
        AT,
        Exposition(),
        Overview(
            "1.2.3",
            tuple(made),
            daily=DailySpend(days, products, days[2]),
            rankings=tuple(
                Ranking(item, ((LONG, 2**60), ("H100", 1)), 9, NANO, 2**61) for item in ("model", "gpu_class")
            ),
        ),
        ready=True,
        outlook=Outlook(
            tuple(AccountOutlook(item.name, MONTH, runway=timedelta(hours=30), forecast=forecast) for item in made),
            (BudgetOutlook(LONG, "month", MONTH, 2**60, {}, (Fraction(1, 2),), 2**61, forecast),),
        ),
    )


async def test_the_page_is_dressed_within_its_policy(browse: Browse) -> None:
    application = Application(clock=lambda: AT)
    application.publish(publication(1))
    async with served(application) as client:
        seen = await browse(str(client.base_url))
    assert "Locked by fal: the balance is exhausted" in unescape(seen.document)
    assert seen.complaints == ""


@pytest.mark.long
async def test_nothing_reaches_beyond_the_edge_of_a_phone(browse: Browse, tmp_path: Path) -> None:
    for accounts in (0, 1, 20):
        html = LandingPage(lambda: AT).html(publication(accounts) if accounts else None, ready=True)
        measured = await browse(framed(tmp_path, html))
        assert 'data-beyond="0"' in measured.document, measured.document[-500:]


@pytest.mark.parametrize(
    ("scheme", "paper"), [pytest.param(1, "rgb(246, 247, 251)", marks=pytest.mark.long), (0, "rgb(14, 16, 24)")]
)
async def test_it_follows_the_light(browse: Browse, tmp_path: Path, scheme: int, paper: str) -> None:
    html = LandingPage(lambda: AT).html(publication(1), ready=True)
    measured = await browse(framed(tmp_path, html), f"--blink-settings=preferredColorScheme={scheme}")
    assert f'data-paper="{paper}"' in measured.document


UP = SourceOverview("models", "set by SOURCES", "up", AT, AT, AT - timedelta(days=2), 1.0)
WELL = AccountOverview(
    "production",
    (UP,),
    balance=900 * NANO,
    balance_at=AT,
    month_to_date=800 * NANO,
    last_month=900 * NANO,
    last_month_to_date=640 * NANO,
    month_compared=800 * NANO,
    bill=Billed("FAL-202610-0001", "paid", 900 * NANO, AT, 0),
)
STATES: dict[str, Overview] = {
    "well": Overview("1.2.3", (WELL,), movers=(Mover("production", "model_apis", "fal-ai/flux/dev", 9 * NANO, "new"),)),
    "worth knowing": Overview(
        "1.2.3",
        (WELL,),
        observations=Observations(
            new_names=(NewName("production", "fal-ai/veo3", 60 * NANO, AT - timedelta(hours=3)),)
        ),
    ),
    "loading": Overview(
        "1.2.3",
        (
            replace(
                WELL,
                sources=(replace(UP, history_progress=0.43),),
                month_to_date=None,
                gaps={"month_to_date": Gap("loading", 0.43, AT - timedelta(days=4), AT)},
            ),
        ),
    ),
    "partial": Overview("1.2.3", (replace(WELL, sources=(replace(UP, state="partial", problem="3 rows are odd."),)),)),
    "stale": Overview("1.2.3", (replace(WELL, sources=(replace(UP, data_through=AT - timedelta(hours=9)),)),)),
    "locked": Overview("1.2.3", (replace(WELL, locked="the balance is exhausted; buy credit."),)),
    "no permission": Overview(
        "1.2.3",
        (
            replace(
                WELL,
                sources=(),
                problems=("This key reads no usage. Create a key of admin scope in fal's dashboard.",),
                remarks=("Compute machines are not read by this key.",),
            ),
        ),
    ),
    "many accounts": publication(40).overview,
}
SAYS = {
    "well": "25% more than the same part of last month, $640.00",
    "worth knowing": "fal-ai/veo3 is new since 2026-11-21 19:00 UTC and has cost $60.00 in a day.",
    "loading": "Loading the history: 43%.",
    "partial": "The source models is partial: 3 rows are odd.",
    "stale": "The source models is 9 hours behind.",
    "locked": "Locked by fal: the balance is exhausted; buy credit.",
    "no permission": "Create a key of admin scope in fal's dashboard.",
    "many accounts": "team-39",
}


@pytest.mark.long
@pytest.mark.parametrize("scheme", [1, 0])
async def test_every_state_can_be_read_by_everybody_wide_and_narrow(
    browse: Browse, tmp_path: Path, axe: str, scheme: int
) -> None:
    # With nothing wrong besides, what is worth knowing has a banner of its own.
    outlooks = {"worth knowing": Outlook()}
    pages = {
        name: LandingPage(lambda: AT).html(
            Publication(1, AT, Exposition(), overview, True, outlooks.get(name, publication(1).outlook)),  # noqa: FBT003
            ready=True,
        )
        for name, overview in STATES.items()
    }
    for name, words in SAYS.items():
        assert words in unescape(pages[name])
    address = judged(tmp_path, pages, axe)
    flags = (f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=60000")
    seen = await browse(address, *flags)
    (verdict,) = re.findall(r'data-verdict="([^"]*)"', seen.document)
    assert json.loads(unescape(verdict)) == {f"{name} at {width}": [] for name in pages for width in (1400, 360)}


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which checks pages for barriers; of npm."""
    npm = programs.required("npm", "npm")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "pack", "--silent", "axe-core@4.14.1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        programs.missing(f"axe-core of npm ({done.stderr.strip()[-200:]})", "npm")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()


def judged(folder: Path, pages: dict[str, str], axe: str) -> str:
    """Return the address of a page that shows others in two widths and writes down what axe finds in each."""
    (folder / "axe.js").write_text(axe)
    frames = "".join(
        f'<iframe title="{name} at {width}" width="{width}" height="800" srcdoc="'
        + escape(html.replace("<details", "<details open").replace("</body>", '<script src="axe.js"></script></body>'))
        + '"></iframe>'
        for name, html in pages.items()
        for width in (1400, 360)
    )
    path = folder / "judged.html"
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><body>{frames}<script>'
        "window.onload = async () => { const verdict = {};"
        " for (const frame of document.querySelectorAll('iframe')) {"
        "  const found = await frame.contentWindow.axe.run(frame.contentDocument, {resultTypes: ['violations']});"
        "  verdict[frame.title] = found.violations.map(v => v.id + ' ' + v.nodes.map(n => n.target).join(' ')); }"
        " document.body.dataset.verdict = JSON.stringify(verdict); };</script>"
    )
    return path.as_uri()


def framed(folder: Path, html: str) -> str:
    """Return the address of a page that shows another in the width of a phone, and writes down what it measures."""
    path = folder / "frame.html"
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><iframe width="360" height="800" style="border:0" '
        f'srcdoc="{escape(html.replace("<details", "<details open"))}"></iframe>'
        "<script>const frame = document.querySelector('iframe');"
        "frame.onload = () => {"
        " const inner = frame.contentDocument;"
        " const { scrollWidth, clientWidth } = inner.documentElement;"
        " document.body.dataset.beyond = scrollWidth - clientWidth;"
        " document.body.dataset.paper = frame.contentWindow.getComputedStyle(inner.body).backgroundColor; };"
        "</script>"
    )
    return path.as_uri()
