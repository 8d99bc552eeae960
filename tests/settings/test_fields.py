from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Dimensions
from exporter.settings import Settings
from exporter.settings.parsing import (
    DEFAULT_LABELS,
    FILE_ONLY,
    LABELS,
    NEVER_IN_FILE,
    Listen,
    Origins,
    check_events_url,
    check_ledger_url,
    check_push_url,
    choose_endpoints,
    choose_labels,
    choose_services,
    choose_sources,
    environment_name,
    file_name,
    flag_name,
    format_duration,
    format_size,
    nearest,
    parse_base_url,
    parse_duration,
    parse_listen,
    parse_size,
)


def test_no_two_settings_share_a_name() -> None:
    for name in (environment_name, flag_name, file_name):
        assert len({name(field) for field in Settings.model_fields}) == len(Settings.model_fields)


def test_keys_go_by_the_names_of_fals_own_clients() -> None:
    assert environment_name("key") == "FAL_KEY"
    assert environment_name("key_file") == "FAL_KEY_FILE"
    assert environment_name("poll_interval") == "FAL_EXPORTER_POLL_INTERVAL"
    assert flag_name("poll_interval") == "--poll-interval"


def test_a_file_can_hold_every_setting_but_its_own_path() -> None:
    assert {"config_file"} == NEVER_IN_FILE
    assert {file_name(field) for field in FILE_ONLY} == {"accounts", "budgets"}


@pytest.mark.parametrize(
    ("name", "meant"), [("intervall", "interval"), ("Interval", "interval"), ("xyz", None), ("", None)]
)
def test_the_nearest_name_is_suggested_only_when_it_is_near(name: str, meant: str | None) -> None:
    assert nearest(name, ["interval", "timeout"]) == meant


def test_a_setting_that_nobody_wrote_goes_by_its_variable() -> None:
    origins = Origins({"listen": "--listen"})
    assert origins["listen"] == "--listen"
    assert origins["history"] == "FAL_EXPORTER_HISTORY"
    assert origins["entries"] == "accounts"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("30d", 2_592_000), ("1w", 604_800), ("0s", 0), (" 2h ", 7200)],
)
def test_durations_are_numbers_with_units(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "300", "m", "5 m", "1.5h", "-5m", "5M", "5min", "30m1h", "1h1h", "\N{ARABIC-INDIC DIGIT FIVE}m"],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it like 90s, 5m, 1h30m or 30d"):
        parse_duration(text)


def test_an_absurd_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than a hundred years"):
        parse_duration("999999999w")


def test_a_duration_is_a_hundred_years_at_most() -> None:
    assert parse_duration("36500d") == timedelta(days=36_500)
    with pytest.raises(ValueError, match="longer than a hundred years"):
        parse_duration("36500d1s")


@given(st.integers(0, 3_000_000_000))
def test_a_written_duration_reads_the_same(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["0s", "90s", "5m", "48h", "72h", "4d", "8d", "400d", "4d1h", "1h30m"])
def test_durations_are_written_as_people_write_them(text: str) -> None:
    written = {"90s": "1m30s"}.get(text, text)
    assert format_duration(parse_duration(text)) == written


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("1B", 1), ("512KiB", 2**19), ("64 MiB", 2**26), ("1GiB", 2**30)]
)
def test_sizes_are_numbers_with_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "64MB", "64mib", "1.5GiB", "-1B", "64 M"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write it like 512KiB, 64MiB or 1GiB"):
        parse_size(text)


@given(st.integers(1, 2**40))
def test_a_written_size_reads_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Listen("127.0.0.1", 8080)),
        ("localhost:0", Listen("localhost", 0)),
        (":8080", Listen("0.0.0.0", 8080)),  # noqa: S104  named, not bound
        ("[::]:8080", Listen("::", 8080)),
        ("[::1]:65535", Listen("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Listen) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text", ["", "8080", "localhost", "::1:8080", "host:", "host:65536", "http://host:80", "a b:1"]
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address to listen on; write it like"):
        parse_listen(text)


@given(st.sampled_from(["::1", "::", "10.1.2.3", "exporter.example"]), st.integers(0, 65_535))
def test_a_written_address_reads_the_same(host: str, port: int) -> None:
    assert parse_listen(str(Listen(host, port))) == Listen(host, port)


@given(st.text())
def test_no_text_breaks_a_reader(text: str) -> None:
    for read in (parse_listen, parse_base_url, check_ledger_url):
        try:
            read(text)
        except ValueError as error:
            assert str(error).startswith(("is not", "has"))  # noqa: PT017  a text may be accepted as well


def test_a_client_reaches_a_wildcard_by_the_loopback_address() -> None:
    assert parse_listen(":80").reachable == Listen("127.0.0.1", 80)
    assert parse_listen("[::]:80").reachable == Listen("::1", 80)
    assert parse_listen("10.0.0.1:80").reachable == Listen("10.0.0.1", 80)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://api.fal.ai/v1/", "https://api.fal.ai/v1"),
        ("http://127.0.0.1:9025", "http://127.0.0.1:9025"),
        ("HTTPS://api.fal.ai//", "https://api.fal.ai"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
    ],
)
def test_a_base_url_has_no_trailing_slash(text: str, url: str) -> None:
    assert parse_base_url(text) == url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("api.fal.ai/v1", "is not an http or https URL"),
        ("ftp://api.fal.ai", "is not an http or https URL"),
        ("https://", "is not an http or https URL"),
        ("https://api fal.ai", "is not an http or https URL"),
        ("https://api.fal.ai:port", "is not an http or https URL"),
        ("https://[::1", "is not an http or https URL"),
        ("https://user@api.fal.ai", "contains user information"),
        ("https://user:password@api.fal.ai", "contains user information"),
        ("https://api.fal.ai?x=1", "has a query"),
        ("https://api.fal.ai#x", "has a query or a fragment"),
    ],
)
def test_anything_else_is_no_base_url(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_base_url(text)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///ledger.sqlite",
        "sqlite:////data/ledger.sqlite",
        "sqlite+pysqlite:///l.db",
        "postgresql://fal:p%40ss@db.internal:5432/ledger",
        "postgresql+psycopg://db/ledger?sslmode=verify-full",
        "postgresql:///ledger",
        "postgres://fal:p%40ss@db.internal/ledger",
        "postgresql:///ledger?host=/var/run/postgresql",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/ledger",
        "postgresql://fal:a,b:c@[::1]:5432/ledger",
        "postgresql://fal:secret@a,b:5433,[::1]:5434/ledger?target_session_attrs=read-write",
    ],
)
def test_a_ledger_is_an_sqlite_file_or_a_postgresql_database(url: str) -> None:
    assert check_ledger_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ledger.sqlite",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a?mode=memory",
        "postgresql://db",
        "postgresql://fal:secret@db:54a/ledger",
        "postgresql://fal:secret@a:5432,b:54a/ledger",
        "postgresql://fal:secret@[::1/ledger",
        "mysql://user:secret@db/ledger",
    ],
)
def test_a_ledger_that_would_be_lost_or_is_unknown_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of an SQLite file"):
        check_ledger_url(url)


def test_auto_leaves_the_choice_of_sources_open() -> None:
    assert choose_sources(["auto"]) is None


@pytest.mark.parametrize(
    ("names", "sources"),
    [
        (["models"], ("models",)),
        (["serverless", "models"], ("models", "serverless")),
        (["compute", "serverless", "models"], ("models", "serverless", "compute")),
        (["compute"], ("compute",)),
        (["organization"], ("organization",)),
        (["reporting"], ("reporting",)),
        (["focus"], ("focus",)),
    ],
)
def test_sources_that_do_not_overlap_are_taken_in_a_fixed_order(names: list[str], sources: tuple[str, ...]) -> None:
    assert choose_sources(names) == sources


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["organization", "models"], "counted twice"),
        (["serverless", "organization"], "counted twice"),
        (["compute", "organization"], "counted twice"),
        (["models", "compute", "organization"], "counted twice"),
        (["compute", "reporting"], "counted twice"),
        (["compute", "focus"], "counted twice"),
        (["reporting", "models"], "counted twice"),
        (["reporting", "organization"], "counted twice"),
        (["models", "models"], "names a source twice"),
        (["auto", "models"], 'unknown source "auto"; choose auto alone, or any of models'),
        (["focus", "models"], "counted twice"),
        (["organization", "focus"], "counted twice"),
        (["reporting", "focus"], "counted twice"),
        (["billing"], 'unknown source "billing"'),
        ([], "names no source"),
    ],
)
def test_sources_that_would_count_a_charge_twice_or_do_not_exist_are_refused(names: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        choose_sources(names)


def test_cost_services_are_taken_in_a_fixed_order() -> None:
    assert choose_services([]) == ()
    assert choose_services(["vantage", "datadog"]) == ("datadog", "vantage")
    with pytest.raises(ValueError, match='unknown cost service "cloudzero"'):
        choose_services(["cloudzero"])


@pytest.mark.parametrize(
    "url", ["file:///data/requests", "s3://bucket/fal", "clickhouse://u:p@db:8123/fal", "clickhouses://[::1]:8443/fal"]
)
def test_requests_are_kept_in_a_folder_an_object_store_or_clickhouse(url: str) -> None:
    assert check_events_url(f" {url} ") == url


@pytest.mark.parametrize("host", ["db:port", "db:65536", "db:0", "[::1"])
def test_a_store_of_requests_at_no_port_is_refused_without_repeating_it(host: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a folder") as told:
        check_events_url(f"clickhouse://user:secret@{host}/fal")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("url", ["file:///data/focus", "s3://finance/fal", "gs://finance", "az://finance/a/b"])
def test_focus_files_go_to_a_folder_or_an_object_store(url: str) -> None:
    assert check_push_url(f" {url} ") == url


@pytest.mark.parametrize(
    "url", ["/data/focus", "https://host/x", "s3://", "s3://key:secret@bucket", "s3://bucket?sig=secret"]
)
def test_a_destination_that_is_none_or_holds_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="give credentials in the environment") as told:
        check_push_url(url)
    assert "secret" not in str(told.value)


def test_labels_are_taken_in_a_fixed_order() -> None:
    assert choose_labels(["api_key", "model", "account"]) == ("account", "model", "api_key")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["model"], "leaves out account"),
        (["account", "account"], "names a label twice"),
        (["account", "unit"], 'unknown label "unit"'),
        ([], "names no label"),
    ],
)
def test_labels_that_cannot_be_are_refused(names: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        choose_labels(names)


def test_every_label_is_a_dimension_of_a_charge_in_its_order() -> None:
    assert tuple(field for field in Dimensions._fields if field != "unit") == LABELS
    assert set(DEFAULT_LABELS) <= set(LABELS)


def test_endpoints_are_named_by_their_path_and_each_once() -> None:
    assert choose_endpoints(["fal-ai/flux/dev", "acme/app_2.0", "fal-ai/flux/dev"]) == (
        "fal-ai/flux/dev",
        "acme/app_2.0",
    )
    for name in ("flux", "fal-ai/", "key-id:secret/value", "fal-ai/flux dev"):
        with pytest.raises(ValueError, match="not a model endpoint; write them like fal-ai/flux/dev"):
            choose_endpoints([name])
