import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.settings.fields import Listen, check_ledger_url, parse_base_url, parse_listen


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
        ("https://user@api.fal.ai", "has user information"),
        ("https://user:password@api.fal.ai", "has user information"),
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
        "mysql://user:secret@db/ledger",
    ],
)
def test_a_ledger_that_would_be_lost_or_is_unknown_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of an SQLite file"):
        check_ledger_url(url)
