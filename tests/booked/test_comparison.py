import json
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from booked.conftest import HERE, REQUESTS, WINDOW
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples
from prometheus_client.parser import text_string_to_metric_families

from exporter.booked.comparison import EXAMPLES, NOT_CHARGED, Comparison, Example, Sums, compare, default_window
from exporter.booked.report import METRICS, metrics_text
from exporter.booked.sources import BookingsError, Columns
from exporter.charges import HOUR, NANO, BilledRequest, Window
from exporter.cli import commands
from exporter.events.store import EventReader, open_store

BOOKINGS = """\
request_id,amount,timestamp
r-1,0.000001,2026-11-27T13:01:00Z
r-2,0.000002,2026-11-27T13:02:00Z
r-2,0.000002,2026-11-27T13:02:00Z
r-3,3.5e-06,2026-11-27T13:03:00Z
r-9,0.00001,2026-11-27T13:09:00Z
r-20,5,2026-11-27T14:20:00Z
r-30,7,2026-11-28T01:00:00Z
,1,2026-11-27T13:01:00Z
r-4,much,2026-11-27T13:04:00Z
"""


def kept(folder: Path, text: str, name: str = "bookings.csv") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def compared(source: str, reader: EventReader, *, tags: Collection[str] = (), **columns: str) -> Comparison:
    return compare(source, reader, WINDOW, columns=Columns(**columns), tags=tags)


def test_every_kind_of_difference_is_found_once_and_nothing_is_lost(reader: EventReader, tmp_path: Path) -> None:
    found = compared(kept(tmp_path, BOOKINGS), reader, tags=["customer"])
    # Booked 1 + 4 + 3.5 + 10; charged 1 to 6; in micro-dollars.
    assert found.total == Sums(18_500, 21_000, 4, 6)
    assert [example.request_id for example in found.never_booked.examples] == ["r-6", "r-5", "r-4"]
    assert (found.never_booked.requests, found.never_booked.amount) == (3, -15_000)
    assert (found.booked_twice.requests, found.booked_twice.amount) == (1, 2000)
    assert (found.never_charged.requests, found.never_charged.amount) == (1, 10_000)
    assert (found.differing.requests, found.differing.amount) == (1, 500)
    # Of 14:20 nothing can be said yet; what lies outside the window is no matter.
    assert [example.request_id for example in found.not_read.examples] == ["r-20"]
    assert found.unreadable == 2
    assert found.unread_hours == 1
    assert found.by_model == {
        NOT_CHARGED: Sums(10_000, 0, 1, 0),
        "kling": Sums(4000, 12_000, 1, 3),
        "flux": Sums(4500, 9000, 2, 3),
    }
    assert found.by_tag == {
        ("customer", "untagged"): Sums(3500, 18_000, 1, 4),
        ("customer", NOT_CHARGED): Sums(10_000, 0, 1, 0),
        ("customer", "acme"): Sums(5000, 3000, 2, 2),
    }
    assert sum(sums.difference for sums in found.by_key.values()) == found.total.difference == -2500
    causes = (found.never_booked, found.booked_twice, found.never_charged, found.differing)
    assert sum(cause.amount for cause in causes) == found.total.difference


def test_the_largest_differences_stand_first_and_are_shown_with_both_amounts(
    reader: EventReader, tmp_path: Path
) -> None:
    found = compared(kept(tmp_path, BOOKINGS), reader, tags=["customer"])
    assert [*found.by_model] == [NOT_CHARGED, "kling", "flux"]
    assert [*found.by_tag] == [("customer", "untagged"), ("customer", NOT_CHARGED), ("customer", "acme")]
    assert found.never_booked.examples[0] == Example("r-6", 0, 6000, "kling")
    assert found.booked_twice.examples == (Example("r-2", 4000, 2000, "kling"),)
    assert found.never_charged.examples == (Example("r-9", 10_000, 0, ""),)
    assert found.differing.examples == (Example("r-3", 3500, 3000, "flux"),)


def test_of_many_requests_the_dearest_are_named_and_all_are_counted(reader: EventReader, tmp_path: Path) -> None:
    ghosts = range(1, EXAMPLES + 6)
    lines = [f"ghost-{number:02},0.00000{number:02},2026-11-27T13:30:00Z" for number in ghosts]
    found = compared(kept(tmp_path, "\n".join(["request_id,amount,timestamp", *lines])), reader).never_charged
    assert (found.requests, found.amount) == (len(ghosts), sum(ghosts) * 100)
    assert [one.request_id for one in found.examples] == [f"ghost-{number:02}" for number in ghosts][
        : -EXAMPLES - 1 : -1
    ]


def test_accounts_count_as_they_are_configured_whatever_the_store_has_of_them(
    events_url: str, reader: EventReader, tmp_path: Path
) -> None:
    """One that fal refuses requests of has none in the store, and one that is gone has no new ones."""
    source = kept(tmp_path, BOOKINGS)

    def of(*configured: str, accounts: Collection[str] = ()) -> Comparison:
        return compare(source, reader, WINDOW, columns=Columns(), configured=configured, accounts=accounts)

    assert of("main") == compared(source, reader)
    # The booking that was never charged may be one of the account of which nothing has been read.
    both = of("main", "unread")
    assert (both.never_charged.requests, both.unread_hours) == (0, 1 + 2)
    assert [example.request_id for example in both.not_read.examples] == ["r-20", "r-9"]
    assert both.differing == of("main").differing
    with closing(open_store(events_url)) as store:
        gone = [replace_id(REQUESTS[0], "r-9", 9000), replace_id(REQUESTS[0], "r-10", 9000)]
        store.keep_hour("gone", HERE, HERE + 3 * HOUR, 0, gone)
    # What was charged to an account that is gone is not never charged, nor never booked; its later hours are no gap.
    remaining = of("main")
    assert (remaining.never_charged.requests, remaining.unread_hours) == (0, 1)
    assert remaining.never_booked == of("main", accounts=["main"]).never_booked == both.never_booked
    assert of().unread_hours == 2


def test_requests_of_an_account_that_has_got_another_name_are_charged_once(
    events_url: str, reader: EventReader, tmp_path: Path
) -> None:
    source = kept(tmp_path, BOOKINGS)
    before = compared(source, reader)
    with closing(open_store(events_url)) as store:
        for hour in WINDOW.hours():
            store.keep_hour("old", hour, HERE + 3 * HOUR, 0, REQUESTS if hour == HERE else [])
    again = compared(source, reader)
    assert (again.total, again.by_model, again.differing) == (before.total, before.by_model, before.differing)


def replace_id(request: BilledRequest, request_id: str, cost: int) -> BilledRequest:
    return request._replace(request_id=request_id, cost=cost, list_cost=cost)


def test_bookings_as_charged_have_no_difference(reader: EventReader, tmp_path: Path) -> None:
    lines = [f"{one.request_id},{Decimal(one.cost) / NANO}" for one in REQUESTS]
    found = compared(kept(tmp_path, "\n".join(["request_id,cost", *lines])), reader)
    assert found.total == Sums(21_000, 21_000, 6, 6)
    assert not any(
        kind.requests for kind in (found.never_booked, found.booked_twice, found.never_charged, found.differing)
    )


def test_json_with_the_request_id_in_its_metadata_keeps_every_digit(reader: EventReader, tmp_path: Path) -> None:
    rows = [
        {
            "id": "obs-1",
            "metadata": {"fal_request_id": "r-1"},
            "totalCost": 0.000001,
            "startTime": "2026-11-27T13:01:00Z",
        },
        {
            "id": "obs-2",
            "metadata": {"fal_request_id": "r-5"},
            "totalCost": 0.000005,
            "startTime": "2026-11-27T13:05:00Z",
        },
    ]
    whole = kept(tmp_path, json.dumps(rows), "export.json")
    lines = kept(tmp_path, "\n".join(map(json.dumps, rows)), "export.jsonl")
    for source in (whole, lines):
        found = compared(source, reader, request_id="metadata.fal_request_id")
        assert found.total == Sums(6000, 21_000, 2, 6)
        assert (found.differing.requests, found.never_charged.requests) == (0, 0)


def test_parquet_of_floats_is_read_as_what_was_written(reader: EventReader, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "bookings.parquet"
    duckdb.sql(
        "SELECT * FROM (VALUES ('r-1', 0.000001::DOUBLE), ('r-3', 0.000003::DOUBLE)) AS t(request_id, spend)"
    ).write_parquet(str(path))
    assert compared(str(path), reader).total == Sums(4000, 21_000, 2, 6)


@pytest.mark.parametrize(
    ("text", "columns", "sentence"),
    [
        (
            "request_id,price\nr-1,1\n",
            {},
            "has no column that holds the amount; name it with --amount: request_id, price",
        ),
        ("key,amount\nr-1,1\n", {}, "has no column that holds the request id; name it with --id"),
        ("request_id,amount\nr-1,1\n", {"amount": "cost"}, "has no column cost; it has request_id, amount"),
    ],
)
def test_bookings_that_cannot_be_understood_are_a_sentence(
    text: str, columns: dict[str, str], sentence: str, reader: EventReader, tmp_path: Path
) -> None:
    with pytest.raises(BookingsError, match=sentence):
        compared(kept(tmp_path, text), reader, **columns)


def test_a_file_that_is_not_there_is_a_sentence(reader: EventReader) -> None:
    with pytest.raises(BookingsError, match=r"there is no file nowhere\.csv"):
        compared("nowhere.csv", reader)


def test_the_window_is_the_last_month_and_this_one_up_to_the_last_hour_that_is_over() -> None:
    assert str(default_window(datetime(2026, 11, 27, 13, 30, tzinfo=UTC))) == "2026-10-01T00Z/2026-11-27T13Z"
    assert str(default_window(datetime(2026, 1, 1, 0, 10, tzinfo=UTC))) == "2025-12-01T00Z/2026-01-01T00Z"


@pytest.mark.parametrize("form", ["table", "json", "csv", "metrics"])
def test_the_command_prints_the_outcome_and_tells_by_its_exit_code(form: str, events_url: str, tmp_path: Path) -> None:
    arguments = ["--events-url", events_url, "--start", "2026-11-27T13:00Z", "--end", "2026-11-27T15:00Z"]
    source = kept(tmp_path, BOOKINGS)
    done = CliRunner().invoke(
        commands, ["reconcile", source, *arguments, "--format", form, "--tag", "customer"], standalone_mode=False
    )
    assert done.return_value == 1, done.output
    if form == "json":
        document = json.loads(done.output)
        assert document["total"]["difference"] == "-0.0000025"
        assert document["never_booked"]["requests"] == 3
        assert document["by_tag"][0]["tag"] == "customer"
    elif form == "metrics":
        families = {family.name: family for family in text_string_to_metric_families(done.output)}
        assert families.keys() == METRICS.keys()
        requests = {
            sample.labels["finding"]: sample.value for sample in families["fal_booked_finding_requests"].samples
        }
        assert requests == {"never_booked": 3, "booked_twice": 1, "never_charged": 1, "differing": 1, "not_read": 1}
    elif form == "csv":
        assert "total,,0.0000185,0.000021,-0.0000025,4,6" in done.output.splitlines()
        assert "never_charged,r-9,0.00001,0,0.00001,," in done.output.splitlines()
    else:
        assert "Charged but never booked: 3 requests, -0.000015" in done.output
        assert "tag:customer acme" in done.output


_BOOKED = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 10**13)), max_size=12)


@settings(max_examples=examples(4, long=100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(booked=_BOOKED)
def test_the_causes_add_up_to_booked_less_charged(
    booked: list[tuple[int, int]], reader: EventReader, tmp_path: Path
) -> None:
    lines = [f"r-{number},{Decimal(amount) / NANO:f}" for number, amount in booked]
    source = kept(tmp_path, "\n".join(["request_id,amount", *lines]))
    found = compare(source, reader, Window(HERE, HERE + HOUR), columns=Columns())
    charged = {one.request_id: one.cost for one in REQUESTS}
    assert found.total.booked == sum(amount for _, amount in booked)
    assert found.total.charged == sum(charged.values())
    for sums in (found.by_model, found.by_key):
        assert sum(one.difference for one in sums.values()) == found.total.difference
    ids = {f"r-{number}" for number, _ in booked}
    assert found.never_booked.requests == len(charged.keys() - ids)
    assert found.never_charged.requests == len(ids - charged.keys())
    assert found.booked_twice.requests == sum(
        sum(f"r-{number}" == one for number, _ in booked) > 1 for one in ids & charged.keys()
    )
    causes = (found.never_booked, found.booked_twice, found.never_charged, found.differing)
    assert sum(cause.amount for cause in causes) == found.total.difference


def test_of_bookings_without_a_time_nothing_is_said_while_an_hour_of_the_window_is_missing(
    reader: EventReader, tmp_path: Path
) -> None:
    source = kept(tmp_path, "request_id,amount\nr-1,0.000001\nghost,3\n")
    found = compare(source, reader, WINDOW, columns=Columns())
    assert [one.request_id for one in found.not_read.examples] == ["ghost"]
    assert (found.never_charged.requests, found.total.booked, found.unread_hours) == (0, 1000, 1)
    found = compare(source, reader, Window(HERE, HERE + HOUR), columns=Columns())
    assert [one.request_id for one in found.never_charged.examples] == ["ghost"]


def test_an_hour_with_rows_that_cannot_be_read_shows_no_booking_to_be_without_charge(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'requests'}"
    with closing(open_store(url)) as store:
        store.keep_hour("main", HERE, HERE + 3 * HOUR, 0, REQUESTS, rejected=1)
        source = kept(tmp_path, "request_id,amount,time\nghost,3,2026-11-27T13:30:00Z\n")
        found = compare(source, store, Window(HERE, HERE + HOUR), columns=Columns())
        assert (found.never_charged.requests, found.not_read.requests, found.unread_hours) == (0, 1, 1)


def test_a_booking_and_its_charge_on_both_sides_of_an_edge_belong_together(reader: EventReader, tmp_path: Path) -> None:
    text = "request_id,amount,time\nr-1,0.000001,2026-11-27T12:59:58Z\nghost,1,2026-11-27T12:59:58Z\n"
    found = compare(kept(tmp_path, text), reader, Window(HERE, HERE + HOUR), columns=Columns())
    assert (found.total, found.never_booked.requests) == (Sums(1000, 21_000, 1, 6), 5)
    # Charged perhaps in the next hour, which has not been read.
    text = "request_id,amount,time\nlate,1,2026-11-27T13:57:00Z\nghost,1,2026-11-27T13:50:00Z\n"
    found = compare(kept(tmp_path, text), reader, Window(HERE, HERE + HOUR), columns=Columns())
    assert [one.request_id for one in found.not_read.examples] == ["late"]
    assert [one.request_id for one in found.never_charged.examples] == ["ghost"]


def test_bookings_without_a_time_that_were_charged_long_ago_are_of_another_window(tmp_path: Path) -> None:
    with closing(open_store(f"file://{tmp_path / 'requests'}")) as store:
        for hour in (HERE, HERE - 48 * HOUR):
            old = [one._replace(request_id=f"{one.request_id}-{hour:%d}", at=hour) for one in REQUESTS]
            store.keep_hour("main", hour, HERE + 3 * HOUR, 0, old)
        source = kept(tmp_path, "request_id,amount\nr-1-27,0.000001\nr-1-25,0.000001\nghost,1\n")
        found = compare(source, store, Window(HERE, HERE + HOUR), columns=Columns())
        assert [one.request_id for one in found.never_charged.examples] == ["ghost"]
        assert found.total.booked == 1000 + NANO


def test_odd_files_are_read_as_they_are_meant(reader: EventReader, tmp_path: Path) -> None:
    at = int(HERE.timestamp()) + 60
    text = (
        "\ufeffRequest-ID,Prompt,Cost (USD),Start Time\r\n"
        f'r-1 ,"a ""quoted""\nprompt",1e-6,{at}\r\n'
        f'r-2,"second\r\nline",+0.000002,{at}000\r\n'
        "r-3,,0.000003,2026-11-27 14:03:00+01:00\r\n"
        "r-4,,99999999999,\r\nr-5,,1e400,\r\nr-6,,NaN\r\n"
        "r-7,,5,2026-11-26T00:00:00Z\r\n"
    )
    found = compare(kept(tmp_path, text), reader, Window(HERE, HERE + HOUR), columns=Columns())
    assert found.total == Sums(6000, 21_000, 3, 6)
    assert (found.unreadable, found.never_booked.requests, found.never_charged.requests) == (3, 3, 0)


def test_sums_beyond_64_bits_are_exact(reader: EventReader, tmp_path: Path) -> None:
    rows = [f"ghost-{number},9000000000" for number in range(3)]
    source = kept(tmp_path, "\n".join(["request_id,amount", *rows]))
    found = compare(source, reader, Window(HERE, HERE + HOUR), columns=Columns())
    assert found.never_charged.amount == 27 * 10**18


def test_an_account_without_requests_is_refused(reader: EventReader, tmp_path: Path) -> None:
    source = kept(tmp_path, BOOKINGS)
    with pytest.raises(BookingsError, match=r"^--account nobody has no requests in the store .* those of main$"):
        compare(source, reader, WINDOW, columns=Columns(), accounts=["nobody"])


def test_requests_a_day_around_the_window_are_known_but_not_missed(
    events_url: str, reader: EventReader, tmp_path: Path
) -> None:
    del events_url
    source = kept(tmp_path, "request_id,amount\nr-1,0.000001\n")
    later = Window(HERE + HOUR, HERE + 2 * HOUR)
    found = compare(source, reader, later, columns=Columns())
    assert found.total == Sums(1000, 1000, 1, 1)
    assert found.never_booked.requests == 0


def test_a_file_is_written_whole_and_names_of_models_are_escaped(
    events_url: str, reader: EventReader, tmp_path: Path
) -> None:
    output = tmp_path / "fal.prom"
    arguments = ["--events-url", events_url, "--start", "2026-11-27T13:00Z", "--end", "2026-11-27T14:00Z"]
    done = CliRunner().invoke(
        commands,
        ["reconcile", kept(tmp_path, BOOKINGS), *arguments, "--format", "metrics", "--output", str(output)],
        standalone_mode=False,
    )
    assert (done.return_value, done.output) == (1, "")
    assert output.read_text().startswith("# HELP fal_booked_usd ")
    found = compared(kept(tmp_path, BOOKINGS), reader)
    odd = replace(found, by_model={'a "b" \\ c\n': Sums(1, 0, 1, 0)})
    (family,) = [
        family
        for family in text_string_to_metric_families(metrics_text(odd))
        if family.name == "fal_booked_difference_usd"
    ]
    assert family.samples[0].labels == {"model": 'a "b" \\ c\n'}
