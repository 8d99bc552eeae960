"""The ledger's database: connections that write, connections that read beside the writer, and errors in sentences.

Either database is written by one transaction at a time. SQLite has a lock for that, which a writing transaction takes
as it begins; on PostgreSQL an advisory lock of the whole database stands in for it. A transaction that waits for it too
long fails. Transactions that only read take no lock, change nothing and create no ledger.

That one process alone is a ledger's collector is another matter: see `collector_lock`.
"""

import errno
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

import structlog
from sqlalchemy import (
    Connection,
    Delete,
    Dialect,
    Engine,
    Insert,
    NullPool,
    Pool,
    Update,
    create_engine,
    event,
    inspect,
    make_url,
    select,
)
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger.tables import schema
from exporter.ledger.tables.schema import key_owners, scopes

_log = structlog.get_logger(__name__)

_BUSY_SECONDS = 5
"""Seconds that a write waits for another writer."""

_CHANGE_SECONDS = 600
"""Seconds that an exporter which opens a ledger waits for another one that migrates it."""

WRITE_LOCK = 0x66616C
"""The number of the advisory lock that PostgreSQL's writers take."""

DISK_FULL = "disk is full"
"""Words in the sentences, below, of the errors after which a smaller write may still succeed."""

_SQLITE_SENTENCES = {
    sqlite3.SQLITE_BUSY: "is locked by another process; one exporter at a time can write a SQLite ledger",
    sqlite3.SQLITE_LOCKED: "is locked by another process; one exporter at a time can write a SQLite ledger",
    sqlite3.SQLITE_READONLY: "is read-only; give the exporter's user write access to the file and its directory",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; free some space (nothing was written partly)",
    sqlite3.SQLITE_IOERR: "cannot be read or written, the disk reports an error",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a backup, or move it away and let the exporter start a new one",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; move the file away, or name another",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; its directory must exist and be writable for the exporter's user",
}

_POSTGRESQL_SENTENCES = {
    "55P03": "is locked by another process; one exporter at a time can write a ledger",
    "40001": "is a standby that had to end the question to take over what is newer; repeat it, or set its "
    "hot_standby_feedback to on",
    "25006": "is read-only; name the primary server, or end its read-only mode",
    "42501": "refuses the user; give it the right to create and write tables",
    "53100": "cannot grow, the server's disk is full; free some space (nothing was written partly)",
    "42P05": "is behind a pooler that lends connections for a transaction and does not show it; have it keep sessions",
    "57P01": "has been shut down; it is retried at the next poll",
    "57P03": "is not accepting connections yet; it is retried at the next poll",
}
"""By SQLSTATE."""

_NO_CONNECTION_LEFT = (
    "has no connection left; raise max_connections of the server, or the limit of the role, the database or the "
    "pooler, or end other clients; it is retried at the next poll"
)
_POSTGRESQL_REASONS = {
    "unsupported startup parameter: options": "is behind a pooler that refuses the options in its address; set the "
    "search path by ALTER ROLE ... SET search_path instead",
    "connection slots are reserved": _NO_CONNECTION_LEFT,
    "too many clients already": _NO_CONNECTION_LEFT,
    "too many connections for": _NO_CONNECTION_LEFT,
    "no more connections allowed": _NO_CONNECTION_LEFT,
    "due to statement timeout": "ended a question that took longer than its statement_timeout; raise that for the "
    "exporter's user (ALTER ROLE ... SET statement_timeout)",
}
"""By what is said: a connection that is refused has no SQLSTATE, and one stands for several reasons."""


def shown(url: URL) -> str:
    """Return the database's name for a sentence: without a password, and without the driver, as settings have it."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def ledger_url(address: str) -> URL:
    """Return the parsed address of a ledger: `sqlite:///path` or `postgresql://user@host/database`.

    Several servers, of which libpq takes the one that it is to, are `postgresql://user@host1,host2:5433/database`.

    Raises:
        ConfigurationError: the address is not a database's, or the database is not supported.
    """
    try:
        url = _postgresql_url(make_url(_one_host_at_most(address)))
        backend = url.get_backend_name()
    # One that is no number where a port is to be.
    except (ArgumentError, SQLAlchemyError, ValueError):
        raise ConfigurationError(
            "FAL_EXPORTER_LEDGER_URL is not a database address; an example is sqlite:///fal-exporter.sqlite"
        ) from None
    if backend not in {"sqlite", "postgresql"}:
        raise ConfigurationError(f"FAL_EXPORTER_LEDGER_URL names a {backend} database; use sqlite:/// or postgresql://")
    return url


_SEVERAL_HOSTS = re.compile(r"(postgres(?:ql)?(?:\+\w+)?://)([^/?#]*@)?([^/?#@]*,[^/?#@]*)(/[^?#]*)?(?:\?(.*))?")

_HOST_AND_PORT = re.compile(r"(?:\[(.+)\]|([^:]*))(?::(.*))?")
_PORT = "5432"


def _one_host_at_most(address: str) -> str:
    """Return an address of several servers as SQLAlchemy takes it, from the form that libpq takes."""
    found = _SEVERAL_HOSTS.fullmatch(address)
    if found is None:
        return address
    scheme, user, hosts, name, parameters = found.groups(default="")
    split = [_HOST_AND_PORT.fullmatch(host) for host in hosts.split(",")]
    named = ",".join(quote((host[1] or host[2] or "") if host else "", safe="") for host in split)
    ports = [(host[3] if host else None) or _PORT for host in split]
    if "port=" in parameters or not all(map(str.isdecimal, ports)):
        raise ValueError("ports are numbers, each after its host")
    parameters = "&".join(filter(None, (f"host={named}", f"port={','.join(ports)}", parameters)))
    return f"{scheme}{user}{name or '/'}?{parameters}"


def _postgresql_url(url: URL) -> URL:
    """Return the address of a PostgreSQL database as SQLAlchemy takes it, from the forms that libpq takes, too."""
    name, plus, driver = url.drivername.partition("+")
    if name == "postgres":
        url = url.set(drivername=f"postgresql{plus}{driver}")
    if url.get_backend_name() == "postgresql" and url.host and url.host.lower().startswith("%2f"):
        # The folder of a Unix socket in place of a host.
        url = URL.create(
            url.drivername,
            url.username,
            url.password,
            None,
            url.port,
            url.database,
            {**url.query, "host": unquote(url.host)},
        )
    return url


def sqlite_path(url: URL) -> Path | None:
    """Return the file of a SQLite ledger; None for a database in memory, or on a server."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database.removeprefix("file:"))


def open_database(address: str) -> Engine:
    """Connect to a ledger for writing.

    Raises:
        ConfigurationError: the address is not a database's, or its driver is not installed.
    """
    url = ledger_url(address)
    return _open_sqlite(url) if url.get_backend_name() == "sqlite" else _open_postgresql(url)


def for_reading(engine: Engine) -> Engine:
    """Return an engine on the same connections whose transactions see one instant and take no write lock."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{_READS: True})
    return engine.execution_options(**{_READS: True}, isolation_level="REPEATABLE READ", postgresql_readonly=True)


_READS = "ledger_reads"
_CHANGES_TABLES = "ledger_changes_tables"


def _open_sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        del entry
        # The driver would begin transactions by itself, too late and without the write lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        # A published counter must be on the disk before a scrape can see it, else a power loss makes it fall.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get(_READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _open_postgresql(url: URL) -> Engine:
    engine = postgresql_engine(url, pool_pre_ping=True, paramstyle="format")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(_READS):
            connection.exec_driver_sql(_limits_of_a_write(connection.dialect))
            if connection.get_execution_options().get(_CHANGES_TABLES):
                _wait_for_migration(connection)
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    return engine


def _wait_for_migration(connection: Connection) -> None:
    """Take the write lock however long another exporter takes to migrate the ledger."""
    if connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({WRITE_LOCK})").scalar():
        return
    _log.info("another exporter is writing or migrating the ledger; waiting for it")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_CHANGE_SECONDS}s'")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_BUSY_SECONDS}s'")


_HAS_TRANSACTION_TIMEOUT = (17,)


def _limits_of_a_write(dialect: Dialect) -> str:
    """Return the statement that sets the time limits of a transaction which writes.

    A write that a limit for questions ends is made again from its beginning and ended again: a migration, or a month
    read for the first time, would never be written. One whose machine is gone without a word has the write lock for ten
    minutes at most.
    """
    limits = {
        "lock_timeout": f"{_BUSY_SECONDS}s",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": f"{_CHANGE_SECONDS}s",
    }
    if (getattr(dialect, "server_version_info", None) or ()) >= _HAS_TRANSACTION_TIMEOUT:
        limits["transaction_timeout"] = "0"
    return "SELECT " + ", ".join(f"set_config('{name}', '{limit}', true)" for name, limit in limits.items())


_NOTICES_A_CUT: Mapping[str, object] = MappingProxyType(
    {
        "connect_timeout": 10,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
)
"""Parameters of libpq: a connection fails half a minute after the network has gone, not a quarter of an hour."""


def postgresql_engine(
    url: URL, *, connect_args: Mapping[str, object] = MappingProxyType({}), **options: object
) -> Engine:
    """Connect to PostgreSQL by its driver, also through a pooler that gives each transaction another connection.

    Args:
        url: of the database; may have parameters of libpq.
        connect_args: further ones, which go before those.
        options: as of SQLAlchemy's `create_engine`.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    timeouts = {name: value for name, value in _NOTICES_A_CUT.items() if name not in url.query}
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"), connect_args={**timeouts, **connect_args}, **options
        )
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"FAL_EXPORTER_LEDGER_URL needs the driver {missing.name}; install fal-exporter[postgresql]"
        ) from None

    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        del entry
        if is_pooled(connection):
            # What is prepared on one connection of the server is unknown, or another's, on the next. Without a pooler
            # a restatement takes half the time with prepared statements.
            connection.prepare_threshold = None

    return engine


def is_pooled(connection: DBAPIConnection) -> bool:
    """Return whether a pooler answers for the server: it makes up the process id that a client is greeted with."""
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    (answering,) = cursor.fetchone() or (None,)
    cursor.close()
    connection.rollback()
    return bool(connection.info.backend_pid != answering)


@contextmanager
def changing_tables(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction that may write tables anew that others refer to.

    SQLite checks each row of a table that is dropped against those that refer to it, unless it is told before the
    transaction not to. On PostgreSQL another exporter that does the same is waited for.
    """
    with engine.execution_options(**{_CHANGES_TABLES: True}).connect() as connection:
        driver = connection.connection.cursor()
        is_file = engine.dialect.name == "sqlite"
        if is_file:
            driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
        finally:
            if is_file:
                driver.execute("PRAGMA foreign_keys = ON")
            driver.close()


def write_many(connection: Connection, statement: Insert | Update | Delete, rows: Sequence[tuple[object, ...]]) -> None:
    """Execute a statement for many rows of the database's own values, in the order in which it names its parameters.

    As `Connection.execute` would, but without a dictionary and a line of Python for every parameter.
    """
    if rows:
        connection.exec_driver_sql(_text(statement, connection.dialect), list(rows))


@lru_cache(maxsize=256)
def _text(statement: Insert | Update | Delete, dialect: Dialect) -> str:
    return str(statement.compile(dialect=dialect))


@contextmanager
def clear_errors(url: URL) -> Iterator[None]:
    """Turn the database driver's errors into one sentence.

    Raises:
        LedgerError: says which ledger, what is wrong and what to do.
    """
    try:
        yield
    except DBAPIError as error:
        raise LedgerError(f"the ledger {shown(url)} {_sentence(error)}") from error


def file_sentence(error: OSError) -> str:
    """Return what is wrong with a ledger's file, as the end of a sentence about the ledger."""
    codes = {
        **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), sqlite3.SQLITE_CANTOPEN),
        **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), sqlite3.SQLITE_READONLY),
        **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), sqlite3.SQLITE_FULL),
    }
    return _SQLITE_SENTENCES[codes.get(error.errno or 0, sqlite3.SQLITE_IOERR)]


def _sentence(error: DBAPIError) -> str:
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        return _SQLITE_SENTENCES.get(code, f"cannot be used: {error.orig}")
    lines = str(error.orig).strip().splitlines()
    for reason, sentence in _POSTGRESQL_REASONS.items():
        if any(reason in line for line in lines):
            return sentence
    known = _POSTGRESQL_SENTENCES.get(getattr(error.orig, "sqlstate", None) or "")
    return known or f"cannot be used: {lines[0] if lines else 'no reason given'}"


_ROWS = 5000
"""Rows that are fetched at once, so that a large ledger is never in memory as a whole."""


class NoLedgerError(LedgerError):
    """There is no ledger at the address yet."""


@contextmanager
def reading(address: str, *, of_any_version: bool = False) -> Iterator[Connection]:
    """Open a ledger for reading; all that is read is of one instant, however long it takes.

    Args:
        address: `sqlite:///path` or `postgresql://user@host/database`.
        of_any_version: whether what is read is the same in every version of the schema.

    Raises:
        NoLedgerError: there is no ledger.
        LedgerError: it is of another version, or it cannot be read.
    """
    url = ledger_url(address)
    engine = reading_engine(url, poolclass=NullPool, yield_per=_ROWS)
    try:
        with clear_errors(url), engine.connect() as connection:
            check_tables(connection, url)
            check_version(schema.read(connection, "schema"), url, of_any_version=of_any_version)
            yield connection
    finally:
        engine.dispose()


def reading_engine(url: URL, *, poolclass: type[Pool], yield_per: int | None = None) -> Engine:
    """Connect to a ledger for reading.

    Args:
        url: of the ledger.
        poolclass: how connections are kept; those of a pool are for any thread.
        yield_per: how many rows to fetch at once; None for all.

    Raises:
        NoLedgerError: there is no file.
    """
    options = {} if yield_per is None else {"yield_per": yield_per}
    if url.get_backend_name() != "sqlite":
        return postgresql_engine(
            url,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True, **options},
            poolclass=poolclass,
            pool_pre_ping=poolclass is not NullPool,
        )
    path = sqlite_path(url)
    if path is None or not path.is_file():
        raise no_ledger(url)
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False),
        execution_options=options,
        poolclass=poolclass,
    )

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def no_ledger(url: URL) -> NoLedgerError:
    """Return the error that there is no ledger yet."""
    return NoLedgerError(f"there is no ledger {shown(url)} yet; fal-exporter serve creates it")


def check_tables(connection: Connection, url: URL) -> None:
    """Raise NoLedgerError where the database has no ledger in it."""
    if not inspect(connection).has_table(schema.facts.name):
        raise NoLedgerError(f"there is no ledger in {shown(url)} yet; fal-exporter serve creates it")


def check_version(version: str | None, url: URL, *, of_any_version: bool = False) -> None:
    """Raise LedgerError where a ledger is of another version than this exporter reads."""
    if version is None:
        raise LedgerError(f"the ledger {shown(url)} {schema.UNFINISHED_MOVE}")
    if version != str(schema.SCHEMA_VERSION) and not of_any_version:
        raise LedgerError(
            f"the ledger {shown(url)} has schema {version}, this exporter reads schema {schema.SCHEMA_VERSION}; "
            "use the version of the exporter that writes the ledger"
        )


def recorded_owners(address: str) -> dict[str, str]:
    """Return the username of the fal account that was polled as each account, as far as that is known.

    There are none where there is no ledger yet, or one of an older version.

    Raises:
        LedgerError: the database cannot be read.
    """
    try:
        with reading(address, of_any_version=True) as connection:
            if not inspect(connection).has_table(key_owners.name):
                return {}
            return {row.account: row.username for row in connection.execute(select(key_owners))}
    except NoLedgerError:
        return {}


def recorded_sources(address: str) -> dict[str, tuple[str, ...]]:
    """Return the sources that a ledger counts for each account; none where there is no ledger yet.

    Raises:
        LedgerError: the database cannot be read.
    """
    found: dict[str, tuple[str, ...]] = {}
    question = select(scopes.c.account, scopes.c.source).where(scopes.c.active).order_by(scopes.c.id)
    try:
        with reading(address, of_any_version=True) as connection:
            for account, source in connection.execute(question):
                found[account] = (*found.get(account, ()), source)
    except NoLedgerError:
        return {}
    return found
