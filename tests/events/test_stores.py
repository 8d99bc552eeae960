from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import httpx
import pytest
from events.in_process_clickhouse import InProcessClickHouse
from events.requests_of import HOUR_13, costs
from events.requests_of import request as request_of
from programs import CLICKHOUSE, required_module

from exporter.charges import HOUR, Window
from exporter.errors import ConfigurationError, EventsError
from exporter.events import parquet_files
from exporter.events import store as store_module
from exporter.events.bucket import Bucket
from exporter.events.clickhouse_store import ClickHouseStore
from exporter.events.layout import DayFiles
from exporter.events.objects import Folder
from exporter.events.parquet_store import ParquetStore
from exporter.events.questions import RequestsQuestion, Sort
from exporter.events.store import EventStore, open_reader, open_store
from exporter.interruption import wanted_until

if TYPE_CHECKING:
    from exporter.events.summaries import HourSummary

READ_AT = HOUR_13 + HOUR + timedelta(minutes=10)
WINDOW = Window(HOUR_13, HOUR_13 + HOUR)
DAY = HOUR_13.date()


@pytest.fixture(params=["folder", "objects", "clickhouse"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    made: ClickHouseStore | ParquetStore
    if request.param == "clickhouse":
        required_module("chdb", CLICKHOUSE)
        made = ClickHouseStore(
            "clickhouse://127.0.0.1:1/requests", transport=InProcessClickHouse(tmp_path / "clickhouse")
        )
    else:
        made = ParquetStore(Folder(tmp_path / "events") if request.param == "folder" else Bucket("memory:///"))
    made.clean()
    yield made
    made.close()


EVERYTHING = RequestsQuestion(HOUR_13 - 24 * HOUR, HOUR_13 + 24 * HOUR)


def test_a_request_comes_out_as_it_went_in(store: EventStore) -> None:
    odd = request_of(
        1, 123_456_789, tags='{"customer":"O\'Brien \\\\ \\"x\\"","x.y":"ä"}', api_key="a,b", quantity=None, team="t\\N"
    )
    store.keep_part("default", HOUR_13, READ_AT, 0, [odd])
    assert store.find("id-1") == ("default", odd)
    assert store.find("id-2") is None
    assert store.find("id-1", days=[DAY - timedelta(days=1)]) is None
    assert store.find("id-1", days=[DAY]) == ("default", odd)


def test_a_page_that_comes_twice_counts_once_and_a_changed_request_as_it_was_read_last(store: EventStore) -> None:
    page = [request_of(1), request_of(2)]
    store.keep_part("default", HOUR_13, READ_AT, 0, page)
    store.keep_part("default", HOUR_13, READ_AT, 1, page)
    summary = store.keep_hour("default", HOUR_13, READ_AT, 2, [request_of(2, 5), request_of(3), request_of(3)])
    assert costs(store.select(EVERYTHING)) == {"id-1": 25_000_000, "id-2": 5, "id-3": 25_000_000}
    assert (summary.requests, summary.models["fal-ai/flux/dev"].cost) == (3, 50_000_005)
    assert store.sums(WINDOW) == {("default", HOUR_13, "fal-ai/flux/dev"): 50_000_005}
    assert store.summaries("default", WINDOW) == (summary,)


def test_what_fal_has_taken_back_goes_with_the_next_complete_reading(store: EventStore) -> None:
    store.keep_hour("default", HOUR_13, READ_AT, 0, [request_of(1), request_of(2)])
    store.keep_hour("default", HOUR_13, READ_AT + HOUR, 0, [request_of(2)])
    assert costs(store.select(EVERYTHING)) == {"id-2": 25_000_000}
    store.drop_stale("default", DAY)
    assert costs(store.select(EVERYTHING)) == {"id-2": 25_000_000}


def test_an_hour_without_requests_is_read_too(store: EventStore) -> None:
    summary = store.keep_hour("default", HOUR_13, READ_AT, 0, [])
    assert summary.models == {}
    assert store.select(EVERYTHING) == []
    assert store.sums(WINDOW) == {}


def test_compacting_changes_no_answer(store: EventStore) -> None:
    for hours in range(3):
        hour = HOUR_13 + hours * HOUR
        store.keep_hour("default", hour, READ_AT + hours * HOUR, 0, [request_of(10 * hours + 1, hour=hour)])
    store.keep_part("default", HOUR_13 + 3 * HOUR, READ_AT + 3 * HOUR, 0, [request_of(40, hour=HOUR_13 + 3 * HOUR)])
    before = store.select(EVERYTHING)
    store.compact("default", DAY)
    assert store.select(EVERYTHING) == before
    assert not store.compact("default", DAY)
    store.keep_hour("default", HOUR_13, READ_AT + 9 * HOUR, 0, [request_of(2, 7)])
    after = costs(store.select(EVERYTHING))
    assert after == {"id-2": 7, "id-11": 25_000_000, "id-21": 25_000_000, "id-40": 25_000_000}
    store.compact("default", DAY)
    assert costs(store.select(EVERYTHING)) == after


def test_filters_and_orders(store: EventStore) -> None:
    store.keep_hour(
        "default",
        HOUR_13,
        READ_AT,
        0,
        [
            request_of(1, 10, tags='{"customer":"acme","feature":"a"}'),
            request_of(2, 20, model="fal-ai/veo3", tags='{"customer":"acme","feature":"b"}'),
            request_of(3, 30, api_key="key-2", tags='{"customer":"globex"}'),
            request_of(4, 40, member="grace"),
        ],
    )
    store.keep_hour("other", HOUR_13, READ_AT, 0, [request_of(5, 50, team="research")])

    def found(question: RequestsQuestion) -> list[str]:
        return list(costs(store.select(question)))

    assert found(EVERYTHING) == ["id-5", "id-4", "id-3", "id-2", "id-1"]
    assert found(replace(EVERYTHING, sort="time", accounts=frozenset({"default"}))) == ["id-4", "id-3", "id-2", "id-1"]
    assert found(replace(EVERYTHING, where={"model": frozenset({"fal-ai/veo3"})})) == ["id-2"]
    assert found(replace(EVERYTHING, where={"api_key": frozenset({"key-2"}), "member": frozenset({"ada"})})) == ["id-3"]
    assert found(replace(EVERYTHING, where={"team": frozenset({"research"})})) == ["id-5"]
    assert found(replace(EVERYTHING, tags={"customer": frozenset({"acme"})})) == ["id-2", "id-1"]
    assert found(
        replace(EVERYTHING, tags={"customer": frozenset({"acme", "globex"}), "feature": frozenset({"a"})})
    ) == ["id-1"]
    assert found(replace(EVERYTHING, cost_above=20)) == ["id-5", "id-4", "id-3"]
    assert found(replace(EVERYTHING, limit=2)) == ["id-5", "id-4"]
    assert costs(store.costs_of(["id-1", "id-4", "nothing"]).values()) == {"id-1": 10, "id-4": 40}
    assert store.accounts() == ("default", "other")


@pytest.mark.parametrize("sort", ["cost", "time"])
def test_pages_of_an_answer_hold_every_request_once(store: EventStore, sort: Sort) -> None:
    store.keep_hour("default", HOUR_13, READ_AT, 0, [request_of(number, 10 + number % 3) for number in range(10)])
    question, pages = replace(EVERYTHING, sort=sort, limit=4), []
    while page := store.select(question):
        pages.append([one.request.request_id for one in page])
        question = replace(EVERYTHING, sort=sort, limit=4, after=question.place_of(page[-1]))
    assert [len(page) for page in pages] == [4, 4, 2]
    assert [one for page in pages for one in page] == list(costs(store.select(replace(EVERYTHING, sort=sort))))


def test_what_is_older_than_the_retention_goes_day_by_day(store: EventStore) -> None:
    for days in range(3):
        hour = HOUR_13 + timedelta(days=days)
        store.keep_hour("default", hour, hour + 2 * HOUR, 0, [request_of(days, hour=hour)])
    assert store.days("default") == (date(2026, 11, 27), date(2026, 11, 28), date(2026, 11, 29))
    assert store.expire("default", date(2026, 11, 29))
    assert store.days("default") == (date(2026, 11, 29),)
    assert not store.expire("default", date(2026, 11, 29))


def test_documents_are_replaced(store: EventStore) -> None:
    assert store.document("progress/default") is None
    store.keep_document("progress/default", b'{"a":"\\t"}')
    store.keep_document("progress/default", b'{"b":2}')
    assert store.document("progress/default") == b'{"b":2}'


def test_an_export_has_every_column_that_others_read(store: EventStore, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    store.keep_hour("default", HOUR_13, READ_AT, 0, [request_of(1, 10), request_of(2, 20)])
    assert store.export(replace(EVERYTHING, cost_above=15, limit=1), tmp_path / "out.parquet") == 1
    assert store.export(replace(EVERYTHING, limit=1), tmp_path / "all.parquet", in_order=False) == 2
    rows = duckdb.sql(f"SELECT account, request_id, cost_nano_usd FROM '{tmp_path}/out.parquet'").fetchall()
    assert [tuple(str(value) for value in row) for row in rows] in (
        [("default", "id-2", "20")],
        [("b'default'", "b'id-2'", "20")],
    )


def test_folders_are_hive_partitions_that_other_engines_read_without_us(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    store = open_store(f"file://{tmp_path}/events")
    store.keep_hour("default", HOUR_13, READ_AT, 0, [request_of(1, 10), request_of(2, 20)])
    store.close()
    rows = duckdb.sql(
        "SELECT account, day::VARCHAR, sum(cost_nano_usd) FROM "
        f"read_parquet('{tmp_path}/events/*/*/*.parquet', hive_partitioning = true) GROUP BY ALL"
    ).fetchall()
    assert rows == [("default", "2026-11-27", 30)]


def test_a_reader_sees_what_a_writer_has_replaced_meanwhile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    writer, reader = open_store(f"file://{tmp_path}/events"), ParquetStore(Folder(tmp_path / "events"))
    writer.keep_hour("default", HOUR_13, READ_AT, 0, [request_of(1, 10)])
    listed = reader._days_of
    replaced: list[HourSummary] = []

    def replacing(accounts: Collection[str] | None, days: Collection[date] | None) -> list[DayFiles]:
        files = listed(accounts, days)
        if not replaced:
            replaced.append(writer.keep_hour("default", HOUR_13, READ_AT + HOUR, 0, [request_of(1, 20)]))
            writer.drop_stale("default", DAY)
        return files

    monkeypatch.setattr(reader, "_days_of", replacing)
    assert costs(reader.select(EVERYTHING)) == {"id-1": 20}
    reader.close()
    writer.close()


def test_a_store_that_cannot_be_written_says_so_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file")
    store = ParquetStore(Folder(tmp_path / "events"))
    with pytest.raises(EventsError, match=r"^the store of requests at .*events cannot be read or written: .*; check"):
        store.keep_hour("default", HOUR_13, READ_AT, 0, [request_of(1)])
    store.close()


def test_a_damaged_file_is_told_of_and_not_passed_over(tmp_path: Path) -> None:
    store = ParquetStore(Folder(tmp_path / "events"))
    store.keep_hour("default", HOUR_13, READ_AT, 0, [request_of(1)])
    (file,) = (tmp_path / "events").glob("account=default/*/*.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(EventsError, match="files are whole"):
        store.find("id-1")
    store.close()


def broken(path: Path) -> None:
    """Lose the end of a file, as a disk that was full or a machine that went down leaves it."""
    path.write_bytes(path.read_bytes()[:-20])


def test_what_a_damaged_file_lacks_is_said_and_the_rest_is_answered(tmp_path: Path) -> None:
    with closing(open_store(f"file://{tmp_path}")) as store:
        store.keep_hour("studio", HOUR_13, READ_AT, 0, [request_of(1, 10)])
        store.keep_hour("studio", HOUR_13 + HOUR, READ_AT, 0, [request_of(2, 20, hour=HOUR_13 + HOUR)])
        broken(next(tmp_path.glob("account=*/*/hour-13-*")))
        damaged: list[str] = []
        question = RequestsQuestion(HOUR_13, HOUR_13 + 2 * HOUR)
        assert costs(store.select(question, damaged=damaged)) == {"id-2": 20}
        (sentence,) = damaged
        assert "is damaged, so that requests of the hour 2026-11-27T13:00Z of account studio are missing" in sentence
        assert (store.find("id-1", damaged=damaged), len(damaged)) == (None, 2)
        with pytest.raises(EventsError, match="hour-13-"):
            store.select(question)


@pytest.mark.parametrize("is_joined", [False, True])
def test_damaged_files_are_set_aside_and_their_hours_forgotten(tmp_path: Path, is_joined: bool) -> None:  # noqa: FBT001
    window = Window(HOUR_13, HOUR_13 + 2 * HOUR)
    with closing(open_store(f"file://{tmp_path}")) as store:
        for hour in window.hours():
            store.keep_hour("studio", hour, READ_AT, 0, [request_of(1, 10, hour=hour)])
        assert store.check("studio") == ()
        assert set(store.read_hours("studio", window)) == set(window.hours())
        if is_joined:
            store.compact("studio", HOUR_13.date())
        path = next(tmp_path.glob("account=*/*/day-*" if is_joined else "account=*/*/hour-13-*"))
        content = path.read_bytes()[:-20]
        broken(path)
        (sentence,) = store.check("studio")
        assert sentence == f"The file {path} is damaged"
        assert (tmp_path / "_damaged" / path.relative_to(tmp_path)).read_bytes() == content
        assert set(store.read_hours("studio", window)) == (set() if is_joined else {HOUR_13 + HOUR})
        assert len(store.select(RequestsQuestion(window.start, window.end))) == (0 if is_joined else 1)
        assert store.check("studio") == ()


def test_a_file_that_is_damaged_within_is_set_aside_when_its_day_is_joined(tmp_path: Path) -> None:
    with closing(open_store(f"file://{tmp_path}")) as store:
        store.keep_hour("studio", HOUR_13, READ_AT, 0, [request_of(number) for number in range(500)])
        path = next(tmp_path.glob("account=*/*/hour-13-*"))
        content = path.read_bytes()
        path.write_bytes(b"PAR1" + b"\xff" * 900 + content[904:])
        assert store.check("studio") == (), "its end is whole"
        with pytest.raises(EventsError):
            store.compact("studio", HOUR_13.date())
        assert not path.exists()
        assert not store.compact("studio", HOUR_13.date())


def test_unfinished_files_of_an_earlier_process_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "events" / ".unfinished" / "abc"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    store = open_store(f"file://{tmp_path}/events")
    assert left.exists(), "nothing is asked of a store while it is opened"
    store.clean()
    store.close()
    assert not left.exists()


@pytest.mark.parametrize("url", ["clickhouse://", "clickhouse://host/a/b", "clickhouse://host?x=1"])
def test_an_address_that_is_none_of_clickhouse_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the address of a ClickHouse database"):
        open_reader(url)


def test_clickhouse_that_is_not_there_is_an_error_of_the_store() -> None:
    store = open_store("clickhouse://user:secret@127.0.0.1:1/db")
    with pytest.raises(EventsError, match=r"ClickHouse at 127\.0\.0\.1:1 cannot be read or written: ConnectError"):
        store.clean()
    store.close()


def test_a_clickhouse_that_repeats_its_password_does_not_make_it_known() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, text=f"no such user: {request.headers}")

    with pytest.raises(EventsError, match="no such user") as caught:
        ClickHouseStore("clickhouse://user:sword%2Dfish@host/db", transport=httpx.MockTransport(refuse)).clean()
    assert "'user'" in str(caught.value)
    assert "sword-fish" not in str(caught.value)


@pytest.mark.parametrize("missing", ["duckdb", "msgspec"])
def test_without_the_extra_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    monkeypatch.setattr(store_module, "find_spec", lambda name: None if name == missing else name)
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"install fal-exporter\[events\]"):
        open_store(f"file://{tmp_path}/events")


def test_an_hour_of_more_requests_than_are_sorted_at_once_is_written_in_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parquet_files, "_RUN", 40)
    store = ParquetStore(Folder(tmp_path / "events"))
    # Shuffled by a step that has no divisor in common with their number; the second part has the first's ids again.
    for part, cost in enumerate((10, 20)):
        store.keep_part("default", HOUR_13, READ_AT, part, [request_of(number * 77 % 90, cost) for number in range(45)])
    rest = [request_of(number * 77 % 90, 30) for number in range(45, 90)]
    summary = store.keep_hour("default", HOUR_13, READ_AT, 2, [*rest, request_of(0, 40)])
    store.drop_stale("default", DAY)
    expected = {f"id-{number * 77 % 90}": 20 if number < 45 else 30 for number in range(90)} | {"id-0": 40}
    assert costs(store.select(replace(EVERYTHING, limit=1000))) == expected
    assert (summary.requests, sum(of.cost for of in summary.models.values())) == (90, sum(expected.values()))
    (file,) = (tmp_path / "events").glob("account=default/*/*.parquet")
    duckdb = pytest.importorskip("duckdb")
    ids = [row[0] for row in duckdb.sql(f"SELECT request_id FROM '{file}'").fetchall()]
    assert ids == sorted(expected)
    later = HOUR_13 + HOUR
    store.keep_hour(
        "default", later, later + HOUR, 0, [request_of(number, 5, hour=later) for number in range(300, 330)]
    )
    assert store.compact("default", DAY)
    (file,) = (tmp_path / "events").glob("account=default/*/*.parquet")
    ids = [row[0] for row in duckdb.sql(f"SELECT request_id FROM '{file}'").fetchall()]
    assert ids == sorted({*expected, *(f"id-{number}" for number in range(300, 330))})
    assert not [*store._parquet._spill.path.iterdir()]
    store.close()


@pytest.mark.long
def test_an_hour_of_a_million_requests_with_duplicates_stays_within_the_writers_memory(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/events")
    for part in range(20):
        first = part * 50_000
        numbers = [*range(first, first + 50_000), *range(max(0, first - 500), first)]
        store.keep_part("default", HOUR_13, READ_AT, part, [request_of(number, 10, at=HOUR_13) for number in numbers])
    assert store.keep_hour("default", HOUR_13, READ_AT, 20, []).requests == 1_000_000
    store.drop_stale("default", DAY)
    later = HOUR_13 + HOUR
    store.keep_hour("default", later, later + HOUR, 0, [request_of(1_000_000, 5, at=later)])
    assert store.compact("default", DAY)
    assert costs(found for found in [store.find("id-999999")] if found) == {"id-999999": 10}
    store.close()


class _GoneError(Exception):
    """Nobody waits any more."""


def test_a_statement_of_clickhouse_is_ended_when_nobody_waits_any_more() -> None:
    asked: list[tuple[str, str]] = []
    begun, killed = Event(), Event()

    def answer(request: httpx.Request) -> httpx.Response:
        sql, query_id = request.read().decode(), request.url.params.get("query_id", "")
        asked.append((sql, query_id))
        if sql.startswith("KILL"):
            killed.set()
            return httpx.Response(200)
        begun.set()
        assert killed.wait(10)
        return httpx.Response(500, text="Code: 394. DB::Exception: Query was cancelled. (QUERY_WAS_CANCELLED)")

    def check() -> None:
        if begun.is_set():
            raise _GoneError

    store = ClickHouseStore("clickhouse://user:secret@host/db", transport=httpx.MockTransport(answer))
    with pytest.raises(_GoneError), wanted_until(check):
        store.accounts()
    (_, query_id), (kill, _) = asked
    assert len(query_id) == 32
    assert kill == f"KILL QUERY WHERE query_id = '{query_id}'"


def test_a_statement_of_clickhouse_that_cannot_be_ended_runs_to_its_end() -> None:
    begun, refused = Event(), Event()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.read().startswith(b"KILL"):
            refused.set()
            return httpx.Response(500, text="Code: 497. DB::Exception: Not enough privileges. (ACCESS_DENIED)")
        begun.set()
        assert refused.wait(10)
        return httpx.Response(200, text='["one"]')

    def check() -> None:
        if begun.is_set():
            raise _GoneError

    store = ClickHouseStore("clickhouse://user:secret@host/db", transport=httpx.MockTransport(answer))
    with wanted_until(check):
        assert store.accounts() == ("one",)
