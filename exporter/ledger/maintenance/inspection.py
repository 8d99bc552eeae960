"""Inspection of a ledger without taking it: its version, who uses it, and whether an exporter could."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import NullPool, TextClause, text
from sqlalchemy.engine import URL

from exporter.errors import LedgerError
from exporter.ledger.collector_lock import collector_of
from exporter.ledger.tables import schema
from exporter.ledger.tables.database import (
    NoLedgerError,
    clear_errors,
    ledger_url,
    reading,
    reading_engine,
    shown,
    sqlite_path,
)

_MAY_CREATE = text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
_MAY_STAGE = text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")


@dataclass(frozen=True, slots=True)
class Inspection:
    """State of a ledger.

    Attributes:
        name: the database, without a password.
        version: of its schema; None where there is no ledger yet.
        born_at: when it began to count.
        collector: the exporter that uses it, in words; empty where none does.
        problem: what will keep an exporter from using it, as a sentence; empty if nothing will.
    """

    name: str
    version: int | None = None
    born_at: datetime | None = None
    collector: str = ""
    problem: str = ""


def inspect_ledger(address: str) -> Inspection:
    """Open a ledger for reading and look who uses it; nothing is created or changed.

    Raises:
        ConfigurationError: the address is not a database's.
    """
    url = ledger_url(address)
    name = shown(url)
    try:
        collector = collector_of(url)
        try:
            with reading(address, of_any_version=True) as connection:
                version = int(schema.read(connection, "schema") or 0)
                born_at = schema.read(connection, schema.BORN_AT)
            problem = _too_new(version) or _cannot_write(url)
        except NoLedgerError:
            return Inspection(name, collector=collector, problem=_cannot_begin(url))
    except LedgerError as error:
        return Inspection(name, problem=f"{error}.")
    return Inspection(
        name,
        version,
        datetime.fromisoformat(born_at) if born_at else None,
        collector,
        problem,
    )


def _too_new(version: int) -> str:
    if version <= schema.SCHEMA_VERSION:
        return ""
    return (
        f"The ledger has schema {version}, this exporter knows up to {schema.SCHEMA_VERSION}; run the newer exporter, "
        "or start with a new ledger."
    )


def _cannot_begin(url: URL) -> str:
    """Return what keeps an exporter from making a new ledger; empty if nothing does."""
    path = sqlite_path(url)
    if path is not None:
        return _folder_problem(path.absolute().parent)
    if url.get_backend_name() == "sqlite":
        return ""
    if not _granted(url, _MAY_CREATE):
        return "There is no ledger yet, and the user may not create tables; grant it CREATE on the schema."
    return _cannot_write(url)


def _cannot_write(url: URL) -> str:
    path = sqlite_path(url)
    if path is not None:
        if not os.access(path, os.R_OK | os.W_OK):
            return f"This user may not write the ledger's file {path}; give it the right to."
        return _folder_problem(path.absolute().parent)
    if url.get_backend_name() == "sqlite" or _granted(url, _MAY_STAGE):
        return ""
    return (
        "The user may not create temporary tables, through which many rows are written; "
        "grant it TEMPORARY on the database."
    )


def _granted(url: URL, question: TextClause) -> bool:
    """Ask a server for a right of the user."""
    engine = reading_engine(url, poolclass=NullPool)
    try:
        with clear_errors(url), engine.connect() as connection:
            return bool(connection.scalar(question))
    finally:
        engine.dispose()


def _folder_problem(folder: Path) -> str:
    if not folder.is_dir():
        return f"The ledger's directory {folder} does not exist; create it."
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"This user may not write into the ledger's directory {folder}; give it the right to."
    return ""
