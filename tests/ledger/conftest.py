"""A clock that is moved by hand, and ledgers on the databases that the exporter supports."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import programs
import pytest
from sqlalchemy import create_engine, make_url, text

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of
from exporter.ledger import Ledger, Rules

NOON = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)

OpenLedger = Callable[..., Ledger]


class Clock:
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(address: str, clock: Clock) -> Ledger:
    """Open the ledger at an address, which the caller closes; its counters are shown at once."""
    ledger = Ledger(address, rules=Rules(birth_hold=timedelta(0)), clock=clock)
    ledger.activate({"main": ("models",)})
    return ledger


def polled(ledger: Ledger, clock: Clock, **dollars: int) -> None:
    """Have fal state what the current hour has cost by model."""
    hour = hour_of(clock.now)
    charges = [
        Charge(hour, Dimensions("main", model=name), Amounts(cost=cost * NANO)) for name, cost in dollars.items()
    ]
    ledger.restate("main", "models", Window(hour, hour + HOUR), charges, at=clock.now)


def published(ledger: Ledger, clock: Clock, **dollars: int) -> None:
    """Have fal state what the current hour has cost by model, and a scrape see it."""
    polled(ledger, clock, **dollars)
    ledger.scraped(ledger.view().sequence)


def counted(ledger: Ledger) -> dict[str, int]:
    """Return the counters of spend by model, in dollars."""
    pages = ledger.view().spend
    return {sample.labels[3]: int(sample.value) // NANO for page in pages for sample in page.samples}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of the test's SQLite ledger."""
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def sqlite_address(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def open_sqlite(sqlite_address: str, clock: Clock) -> Iterator[OpenLedger]:
    """Open the test's SQLite ledger, as often as it is called; all are closed at the end."""
    yield from _opener(sqlite_address, clock)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def address(request: pytest.FixtureRequest) -> str:
    """The address of an empty ledger, once in either database.

    In the short run PostgreSQL has what speaks SQL (the tests of `tables`), its lock, its pooler, and lives of a whole
    ledger (the properties of accounting).
    """
    return address_of(request)


def address_of(request: pytest.FixtureRequest) -> str:
    """Return the address of an empty ledger in the database that is this run's parameter."""
    name = "sqlite_address" if request.param == "sqlite" else "postgresql_address"
    found: str = request.getfixturevalue(name)
    return found


@pytest.fixture
def open_ledger(address: str, clock: Clock) -> Iterator[OpenLedger]:
    """Open the test's ledger, as often as it is called; all are closed at the end."""
    yield from _opener(address, clock)


def _opener(address: str, clock: Clock) -> Iterator[OpenLedger]:
    opened: list[Ledger] = []

    def open_it(**rules: object) -> Ledger:
        ledger = Ledger(address, rules=Rules(**rules), clock=clock)  # type: ignore[arg-type]  # a mapping has one type for all its values
        opened.append(ledger)
        return ledger

    yield open_it
    for ledger in opened:
        ledger.close()


@pytest.fixture
def postgresql_address(empty_postgresql: Callable[[], str]) -> str:
    """The address of an empty PostgreSQL database."""
    return empty_postgresql()


@pytest.fixture(scope="session")
def empty_postgresql(postgresql_server: str) -> Callable[[], str]:
    """Remove all that the test's PostgreSQL database holds, and return its address."""

    def empty() -> str:
        engine = create_engine(postgresql_server)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        return postgresql_server

    return empty


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL server of its own that lives as long as the tests; yields the address of its database."""
    programs.required_module("psycopg", "pip:psycopg[binary]")
    initdb, pg_ctl = (programs.required(name, "postgresql") for name in ("initdb", "pg_ctl"))
    as_user = as_unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="ledger-postgresql-"))
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    data, port = folder / "data", free_port()

    def run(*command: str) -> None:
        subprocess.run(
            [*as_user, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
        )

    run(initdb, "-D", str(data), "-A", "trust", "-U", "ledger", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off -c full_page_writes=off"
    run(pg_ctl, "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://ledger@127.0.0.1:{port}/postgres"
    finally:
        run(pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def pooler(postgresql_server: str) -> Iterator[str]:
    """PgBouncer in transaction mode before the test's PostgreSQL server; yields the address of its database."""
    pgbouncer = programs.required("pgbouncer", "pgbouncer")
    server = make_url(postgresql_server)
    folder, port = Path(tempfile.mkdtemp(prefix="ledger-pgbouncer-")), free_port()
    (folder / "users").write_text('"ledger" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder / 'users'}\npool_mode = transaction\ndefault_pool_size = 5\n"
    )
    as_user = as_unprivileged_user()
    if as_user:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "postgres", "postgres")
    with subprocess.Popen(
        [*as_user, pgbouncer, str(folder / "pgbouncer.ini")], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("process up" in line for line in process.stderr), "PgBouncer does not start"
        yield server.set(port=port).render_as_string(hide_password=False)
        process.kill()
    shutil.rmtree(folder)


@pytest.fixture
def pooled_address(empty_postgresql: Callable[[], str], pooler: str) -> str:
    """The address of an empty PostgreSQL database behind a pooler in transaction mode."""
    empty_postgresql()
    return pooler


def as_unprivileged_user() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
