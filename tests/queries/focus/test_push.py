"""Pushed months are whole, written once, and told truly by their manifest."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import obstore
import pytest
from events import object_stores
from events.test_s3 import s3 as s3  # noqa: PLC0414  a fixture
from obstore.store import S3Store

from exporter.app.focus.delivery import run_push
from exporter.app.focus.files import run_check, run_summary
from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Invoice, Window
from exporter.errors import ConfigurationError, EventsError
from exporter.focus.dataset import MANIFEST
from exporter.ledger import Ledger, Rules
from exporter.queries.focus.files import LackingError
from exporter.settings import Settings

OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
NOW = datetime(2026, 11, 3, 12, 30, tzinfo=UTC)
FLUX = Dimensions("main", product="model_apis", model="fal-ai/flux", unit="image")


class Pushed:
    """A ledger, and a destination."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.folder = folder / "focus"
        self.address = f"sqlite:///{folder / 'ledger.sqlite'}"
        self.ledger = Ledger(self.address, rules=Rules(), clock=lambda: self.now)
        self.ledger.activate({"main": ("models",)})

    def charge(self, window: Window, cost: int) -> None:
        charges = [Charge(hour, FLUX, Amounts(NANO, 0, cost, 0, cost)) for hour in window.hours()]
        self.ledger.restate("main", "models", window, charges, at=self.now)

    def settings(self, **changes: str | None) -> Settings:
        given = {
            "key": "id:secret",
            "ledger_url": self.address,
            "focus_push_url": self.folder.as_uri(),
            "focus_push_format": "csv",
        }
        return Settings(**(given | changes))  # type: ignore[arg-type]  # texts, as from the environment

    def push(self, *months: str, dry: bool = False, **changes: str | None) -> None:
        assert run_push(self.settings(**changes), months, dry=dry, clock=lambda: self.now) == 0

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text())
        return found

    def stamps(self) -> dict[str, int]:
        return {
            str(path.relative_to(self.folder)): path.stat().st_mtime_ns
            for path in self.folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def pushed(tmp_path: Path) -> Iterator[Pushed]:
    found = Pushed(tmp_path)
    found.charge(OCTOBER, 1_000_000)
    found.charge(Window(OCTOBER.end, NOW.replace(minute=0)), 3_000_000)
    yield found
    found.ledger.close()


def test_the_month_to_date_and_the_one_before_are_files_that_add_up_to_the_ledger(
    pushed: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.push()
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()] == [
        ["new", "BillingPeriod=2026-10/focus.csv", "estimate"],
        ["new", "BillingPeriod=2026-11/focus.csv", "estimate"],
    ]
    told = pushed.manifest
    assert told["sums"] == {"USD": {"BilledCost": "0.924", "EffectiveCost": "0.924"}}
    october, november = told["files"]
    assert (october["rows"], october["completeness"]["complete"]) == (744, True)
    assert (november["rows"], november["completeness"]["missing_hours"], november["completeness"]["open"]) == (
        60,
        1,
        True,
    )
    assert run_summary([str(pushed.folder)], output_format="json") == 0
    grand = json.loads(capsys.readouterr().out)["grand_totals"][0]
    assert Decimal(grand["billed_cost"]) == Decimal("0.924")
    assert run_check([str(pushed.folder)], version="1.2", output_format="text") == 0
    assert pushed.stamps().keys() == {MANIFEST, "BillingPeriod=2026-10/focus.csv", "BillingPeriod=2026-11/focus.csv"}


def test_what_has_not_changed_is_not_written_again_and_a_restated_month_is_written_whole(
    pushed: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.push()
    before = pushed.stamps()
    pushed.now += timedelta(minutes=5)
    pushed.push()
    assert pushed.stamps() == before
    pushed.charge(Window(OCTOBER.start, OCTOBER.start + HOUR), 2_000_000)
    capsys.readouterr()
    pushed.push()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["changed", "unchanged"]
    assert pushed.manifest["sums"]["USD"]["BilledCost"] == "0.925"
    changed = {path for path, stamp in pushed.stamps().items() if before[path] != stamp}
    assert changed == {MANIFEST, "BillingPeriod=2026-10/focus.csv"}


def test_the_version_is_chosen_and_months_of_another_one_are_named(
    pushed: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.push("2026-10")
    capsys.readouterr()
    pushed.push("2026-11", focus_push_version="1.4")
    assert "2026-10 is of FOCUS 1.2, not 1.4; write it again with focus push --month 2026-10" in capsys.readouterr().err
    assert [file["focus_version"] for file in pushed.manifest["files"]] == ["1.2", "1.4"]
    pushed.push("2026-10", focus_push_version="1.4")
    assert "2026-10 is of" not in capsys.readouterr().err
    names = {column["name"] for column in pushed.manifest["schema"]}
    assert (pushed.manifest["focus_version"], "ServiceProviderName" in names, "ProviderName" in names) == (
        "1.4",
        True,
        False,
    )
    assert run_check([str(pushed.folder)], version="1.4", output_format="text") == 0
    as_yaml_has_it = Settings(key="id:secret", focus_push_version=1.3)  # type: ignore[arg-type]
    assert as_yaml_has_it.focus_push_version == "1.3"


def test_an_invoiced_month_takes_the_place_of_its_estimate(pushed: Pushed) -> None:
    pushed.push()
    pushed.ledger.record_invoices(
        "main",
        [
            Invoice(
                account="main",
                id="inv-1",
                number="1",
                status="paid",
                currency="USD",
                period_start=OCTOBER.start,
                period_end=OCTOBER.end,
                issued_at=OCTOBER.end,
                due_at=None,
                subtotal=744_000_000,
                credits=44_000_000,
                tax=100_000_000,
                total=800_000_000,
            )
        ],
    )
    pushed.push()
    october, _ = pushed.manifest["files"]
    assert (october["source"], october["sums"]["USD"]["BilledCost"], october["rows"]) == ("invoice", "0.8", 746)


def test_older_months_stay_and_a_new_format_replaces_the_old_one(pushed: Pushed) -> None:
    pushed.push()
    pushed.now = datetime(2026, 12, 2, tzinfo=UTC)
    pushed.charge(Window(NOW.replace(minute=0), pushed.now), 3_000_000)
    pushed.push(focus_push_format="parquet")
    assert [file["path"] for file in pushed.manifest["files"]] == [
        "BillingPeriod=2026-10/focus.csv",
        "BillingPeriod=2026-11/focus.parquet",
        "BillingPeriod=2026-12/focus.parquet",
    ]
    assert not (pushed.folder / "BillingPeriod=2026-11" / "focus.csv").exists()
    assert (pushed.folder / "BillingPeriod=2026-10" / "focus.csv").exists()


def test_a_dry_run_shows_what_would_be_written_and_writes_nothing(
    pushed: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.push(dry=True)
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["new", "new"]
    assert "nothing was written" in told.err
    assert not pushed.folder.exists()


def test_a_month_that_is_whole_at_the_destination_is_not_replaced_by_less(
    pushed: Pushed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.push()
    october = pushed.manifest["files"][0]
    (tmp_path / "new").mkdir()
    anew = Pushed(tmp_path / "new")
    anew.folder = pushed.folder
    anew.charge(Window(OCTOBER.end - 5 * HOUR, NOW.replace(minute=0)), 1_000_000)
    anew.push()
    assert "2026-10 is left out: 739 of its hours have not been read from fal" in capsys.readouterr().err
    assert anew.manifest["files"][0] == october
    anew.ledger.close()


def test_what_cannot_be_pushed_is_told(pushed: Pushed, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set --focus-push-url"):
        pushed.push(focus_push_url=None)
    with pytest.raises(ConfigurationError, match="--month"):
        pushed.push("October")
    with pytest.raises(LackingError, match=r"2026-12 is left out: .* is in the future"):
        pushed.push("2026-12")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EventsError, match=r"the destination of FOCUS files at .*file cannot be read or written"):
        pushed.push(focus_push_url=(tmp_path / "file").as_uri())
    pushed.folder.mkdir(exist_ok=True)
    (pushed.folder / MANIFEST).write_text('{"files": [{"path": "a.csv"}]}')
    with pytest.raises(ConfigurationError, match=r"has a manifest.json that is not of a push"):
        pushed.push()


@pytest.mark.parametrize("url", ["gs://costs/fal", "az://costs/fal"])
def test_the_stores_of_google_and_azure_get_what_a_folder_gets(
    url: str, pushed: Pushed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with object_stores.serving() as stand_in:
        for name, value in stand_in.environment().items():
            monkeypatch.setenv(name, value)
        for changed in (False, True):
            if changed:
                pushed.charge(Window(OCTOBER.start, OCTOBER.start + HOUR), 2_000_000)
            pushed.push()
            capsys.readouterr()
            pushed.push(focus_push_url=url)
            expected = ["changed", "unchanged"] if changed else ["new", "new"]
            assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == expected
            local = {f"costs/fal/{path}": (pushed.folder / path).read_bytes() for path in pushed.stamps()}
            assert stand_in.objects == local
        pushed.push(focus_push_url=url, focus_push_format="csv.gz")
        assert {name.rpartition("/")[2] for name in stand_in.objects} == {MANIFEST, "focus.csv.gz"}
        assert stand_in.broken == []


@pytest.mark.parametrize("url", ["gs://costs/fal", "az://costs/fal"])
def test_a_store_that_refuses_is_told_without_its_key(
    url: str, pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_stores.serving() as stand_in:
        stand_in.refuses = True
        for name, value in stand_in.environment().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(EventsError, match=f"the destination of FOCUS files at {url} cannot be read") as refused:
            pushed.push(focus_push_url=url)
    assert object_stores.KEY not in str(refused.value)


@pytest.mark.long
@pytest.mark.parametrize("output_format", ["csv.gz", "parquet"])
def test_an_object_store_gets_what_a_folder_gets(
    output_format: str, s3: str, pushed: Pushed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.push(focus_push_format=output_format)
    pushed.push(focus_push_url=f"{s3}/focus", focus_push_format=output_format)
    store = S3Store.from_url(f"{s3}/focus", client_options={"allow_http": True})

    def objects() -> dict[str, tuple[str, bytes]]:
        found = [entry for page in obstore.list(store) for entry in page]
        return {
            entry["path"]: (str(entry["last_modified"]), bytes(obstore.get(store, entry["path"]).bytes()))
            for entry in found
        }

    before = objects()
    local = {path: (pushed.folder / path).read_bytes() for path in pushed.stamps()}
    assert {path: content for path, (_, content) in before.items()} == local
    capsys.readouterr()
    pushed.push(focus_push_url=f"{s3}/focus", focus_push_format=output_format)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["unchanged", "unchanged"]
    assert objects() == before
    pushed.charge(Window(OCTOBER.start, OCTOBER.start + HOUR), 2_000_000)
    pushed.push(focus_push_url=f"{s3}/focus", focus_push_format="csv")
    assert objects().keys() == {MANIFEST, "BillingPeriod=2026-10/focus.csv", "BillingPeriod=2026-11/focus.csv"}
    copy = tmp_path / "copy"
    for path, (_, content) in objects().items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(content)
    assert run_summary([str(copy)], output_format="json") == 0, "the digests of the manifest are those of the files"
