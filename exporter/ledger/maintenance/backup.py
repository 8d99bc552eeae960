"""Backup of a SQLite ledger, beside the exporter that writes it, and its restoration.

A backup is SQLite's own: one state, copied while others write, into one whole file. It is verified before it gets its
name. PostgreSQL has `pg_dump` and `pg_restore` for the same.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger.accounting.counters import Counter, CounterKey, Labels, LabelValues
from exporter.ledger.accounting.key_labels import KeyLabels
from exporter.ledger.collector_lock import LedgerNote, as_collector, give_to_owner_of
from exporter.ledger.loss import copy_database, free_name, sync_folder
from exporter.ledger.maintenance.verification import Verified, verify
from exporter.ledger.name_ledger import renamed_key
from exporter.ledger.tables import rows, schema
from exporter.ledger.tables.database import (
    changing_tables,
    clear_errors,
    ledger_url,
    no_ledger,
    open_database,
    reading,
    shown,
    sqlite_path,
)
from exporter.ledger.tables.keys import labels_of, read_keys, write_keys
from exporter.ledger.tables.migrations import bring_up_to_date
from exporter.unfinished import ScratchFolder


@dataclass(frozen=True, slots=True)
class Restored:
    """Result of a restoration.

    Attributes:
        verified: the ledger that is in place now.
        kept: where the ledger is that was in its place; None where there was none.
        raised: counters that go on at the value that scrapes have seen, which is above that of the backup.
        is_seen_by_scrapes: whether it is known what scrapes have seen; if not, counters may fall.
    """

    verified: Verified
    kept: Path | None
    raised: int
    is_seen_by_scrapes: bool


def verify_ledger(address: str) -> Verified:
    """Verify a ledger, beside a running exporter too.

    Raises:
        ConfigurationError: the address is not a database's.
        LedgerError: there is no ledger, or it cannot be read.
    """
    url = ledger_url(address)
    with reading(address, of_any_version=True) as connection:
        return _verified(connection, url)


def back_up(address: str, target: Path) -> Verified:
    """Copy a ledger to a file that does not exist yet.

    Raises:
        ConfigurationError: the ledger is not a SQLite file.
        LedgerError: there is no ledger, the file exists or cannot be written, or the copy is not sound.
    """
    url = ledger_url(address)
    path = _file(url, f"pg_dump --format=custom --file={target}")
    if target.exists():
        raise LedgerError(f"{target} exists; name a new file, nothing was written")
    if not path.is_file():
        raise no_ledger(url)
    with _unfinished(target) as copy:
        _copy(path, copy, url)
        verified = verify_ledger(f"sqlite:///{copy}")
        _refuse(verified, f"the ledger {shown(url)}")
        copy.chmod(path.stat().st_mode)
        _name(copy, target)
    sync_folder(target.parent)
    return verified


def restore(address: str, backup: Path, *, now: datetime) -> Restored:
    """Put a backup in the place of a ledger that no exporter is using; the ledger that was there is kept beside it.

    Counters that can be read in the ledger that was there go on at the values that scrapes have seen: where the backup
    is behind, they wait until what is read from fal again has caught up.

    Raises:
        ConfigurationError: the ledger is not a SQLite file.
        LedgerInUseError: an exporter is running on the ledger.
        LedgerError: the file is not a backup, or not sound, or the ledger cannot be written; nothing was changed.
    """
    url = ledger_url(address)
    path = _file(url, f"pg_restore --clean --if-exists {backup}")
    if not backup.is_file():
        raise LedgerError(f"there is no file {backup}; nothing was changed")
    with as_collector(address) as lock, _unfinished(path) as copy:
        _copy(backup, copy, ledger_url(f"sqlite:///{backup}"))
        new = f"sqlite:///{copy}"
        with _opened(new, f"the backup {backup}") as connection:
            if bring_up_to_date(connection):
                raise LedgerError(f"the file {backup} contains no ledger; nothing was changed")
        _refuse(verify_ledger(new), f"the backup {backup}")
        seen = _published(address) if path.exists() else None
        with _opened(new, f"the backup {backup}") as connection:
            if seen is not None:
                _name_keys(connection, seen.key_labels)
            raised = 0 if seen is None else _raise_counters(connection, seen)
            revision = int(schema.read(connection, schema.REVISION) or 0) + 1
            schema.write(connection, schema.REVISION, str(revision))
            schema.write(connection, schema.CHARGES_REVISION, str(revision))
            born_at = schema.read(connection, schema.BORN_AT) or ""
        _settle(copy)
        verified = verify_ledger(new)
        kept = _set_aside(path, now)
        give_to_owner_of(path.parent, copy)
        copy.replace(path)
        sync_folder(path.parent)
        lock.note(LedgerNote(born_at, revision))
    return Restored(verified, kept, raised, seen is not None)


def _file(url: URL, remedy: str) -> Path:
    path = sqlite_path(url)
    if path is None:
        raise ConfigurationError(
            f"the ledger {shown(url)} is not a SQLite file, which this command is for; use PostgreSQL's own: {remedy}"
        )
    return path


def _verified(connection: Connection, url: URL) -> Verified:
    try:
        return verify(connection)
    except ValueError as error:
        raise LedgerError(
            f"the ledger {shown(url)} is damaged, a row cannot be read: {error}; restore a backup"
        ) from error


def _refuse(verified: Verified, name: str) -> None:
    if verified.problems:
        raise LedgerError(f"{name} is not sound: {'; '.join(verified.problems)}")


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """Yield a name in a folder of its own beside a file; whatever is left there is removed."""
    try:
        folder = ScratchFolder(target.parent)
    except OSError as error:
        raise LedgerError(f"{target.parent} cannot be written: {error.strerror}") from None
    try:
        yield folder.path / target.name
    except OSError as error:
        raise LedgerError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        folder.close()


def _copy(source: Path, target: Path, url: URL) -> None:
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            copy_database(connection, target)
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {shown(url)} cannot be copied: {error}; nothing was written") from None


@contextmanager
def _opened(address: str, name: str) -> Iterator[Connection]:
    engine = open_database(address)
    try:
        with clear_errors(engine.url), changing_tables(engine) as connection:
            yield connection
    except ValueError as error:
        raise LedgerError(f"{name} is damaged, a row cannot be read: {error}; nothing was changed") from error
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class _Published:
    """The part of a ledger that scrapes have seen: its counters, and what its API keys are published under."""

    counters: Mapping[tuple[LabelValues, str, str], Counter]
    key_labels: KeyLabels


def _published(address: str) -> _Published | None:
    """Return what scrapes see of the ledger that is in place; None if it cannot be read."""
    with suppress(LedgerError, ValueError), reading(address) as connection:
        labels = rows.read_label_sets(connection)
        label_names = schema.read(connection, schema.LABELS) or ""
        counters = {
            ((label_names, *labels[key.label_set]), key.measure, key.unit): counter
            for key, counter in rows.read_counters(connection).items()
        }
        return _Published(counters, labels_of(read_keys(connection)))
    return None


def _name_keys(connection: Connection, seen: KeyLabels) -> None:
    """Publish API keys under the labels that scrapes have seen last; that of the backup may be an earlier one."""
    labels = Labels(tuple(json.loads(schema.read(connection, schema.LABELS) or "[]")))
    keys = read_keys(connection)
    new = {name: seen[name] for name, record in keys.items() if seen.get(name, record.label) != record.label}
    new_labels = {(name[0], keys[name].label): label for name, label in new.items()}
    before = rows.read_label_sets(connection)
    after = {number: renamed_key(values, labels, new_labels) for number, values in before.items()}
    if len(set(after.values())) == len(after):
        rows.rename_label_sets(
            connection, {number: values for number, values in after.items() if values != before[number]}
        )
        write_keys(connection, [replace(keys[name], label=label) for name, label in new.items()])


def _raise_counters(connection: Connection, seen: _Published) -> int:
    """Publish what has been seen of counters that are behind it, or that the backup does not have."""
    label_names = schema.read(connection, schema.LABELS) or ""
    numbers = {values: number for number, values in rows.read_label_sets(connection).items()}
    counters = rows.read_counters(connection)
    new: dict[int, LabelValues] = {}
    raised: dict[CounterKey, Counter] = {}
    for ((its_names, *values), measure, unit), known in seen.counters.items():
        labels = tuple(values)
        if its_names != label_names or not known.published:
            continue
        if labels not in numbers:
            numbers[labels] = max(numbers.values(), default=0) + 1
            new[numbers[labels]] = labels
        key = CounterKey(numbers[labels], measure, unit)
        counter = counters.get(key, Counter(0, 0, known.created_at, released=True))
        if known.base > counter.base:
            raised[key] = known._replace(grown=counter.grown)
        elif known.shown > counter.shown:
            raised[key] = counter._replace(published=counter.base + known.shown, released=True)
    rows.add_label_sets(connection, new)
    rows.write_counters(connection, counters, raised)
    return len(raised)


def _settle(file: Path) -> None:
    """Make a database one whole file again."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _set_aside(path: Path, now: datetime) -> Path | None:
    """Rename a ledger, which nobody has open, together with its log, which would be played into another file."""
    kept = free_name(path, "before-restore", now)
    log, index = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm"))
    if log.exists() and log.stat().st_size:
        log.rename(kept.with_name(f"{kept.name}-wal"))
    log.unlink(missing_ok=True)
    index.unlink(missing_ok=True)
    if not path.exists():
        return None
    path.rename(kept)
    return kept


def _name(file: Path, target: Path) -> None:
    """Give a file its name, not over one that has come to be there meanwhile."""
    try:
        target.hardlink_to(file)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links.
        file.rename(target)
