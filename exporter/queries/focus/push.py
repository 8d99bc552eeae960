"""Push: months of the ledger as FOCUS files in a folder or an object store, of which a manifest tells the state.

Each month is a file, written whole: the current one as an estimate to date, one that is over as it was invoiced, or,
before its invoice, as an estimate. A file whose content is at the destination already is not written again. The
manifest is written after the files, and files that it no longer lists are deleted after that.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from exporter.charges import Window
from exporter.errors import ConfigurationError
from exporter.events.objects import Objects, Use
from exporter.events.store import open_objects
from exporter.focus.charge import month_start, next_month
from exporter.focus.dataset import MANIFEST
from exporter.focus.outputs import Format, Part, column_document, manifest_text, require, same_but_for_time, totals_of
from exporter.focus.writer import layout
from exporter.ledger.export import Statement, open_statement
from exporter.queries.focus.files import Dataset, FileContents, LackingError, facts_of, file_contents, ledger_dataset
from exporter.queries.focus.question import CHARGE_MONTH, ESTIMATE, INVOICE, EstimateRequest, InvoiceRequest
from exporter.unfinished import ScratchFolder

FIRST_VERSION = "1.2"
"""Version of files whose manifest does not say it."""

DESTINATION = Use(
    "the destination of FOCUS files",
    "FAL_EXPORTER_FOCUS_PUSH_URL",
    "FOCUS files go to an object store with a library that is not installed; install fal-exporter[events], or push to "
    "a folder (file:///...)",
)


class Change(StrEnum):
    """Fate of a file at the destination."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class PushedFile:
    """A file at the destination.

    Attributes:
        document: what the manifest says of it; empty where it is removed.
    """

    path: str
    change: Change
    document: Mapping[str, object] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Its rows."""
        return int(str(self.document.get("rows", 0)))


@dataclass(frozen=True, slots=True)
class Push:
    """Outcome of a push.

    Attributes:
        files: those of the months that were pushed.
        notes: months that were left out, and why.
    """

    files: Sequence[PushedFile]
    notes: Sequence[str]

    @property
    def rows(self) -> int:
        """Rows of the months that were pushed."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class PushOrder:
    """Order of a push: what, and where to.

    Attributes:
        address: of the ledger.
        url: of the destination.
        months: those that are wanted; none for the current one and the one before.
        dry: whether nothing is written.
        version: of FOCUS.
    """

    address: str
    url: str
    output_format: Format
    now: datetime
    months: tuple[Window, ...] = ()
    dry: bool = False
    version: str = FIRST_VERSION


def push(order: PushOrder) -> Push:
    """Bring the files of a destination up to date.

    Raises:
        ConfigurationError: the destination or the format cannot be used.
        EventsError: the destination cannot be read or written.
        LedgerError: the ledger cannot be read.
        LackingError: the ledger has nothing of any of the months.
    """
    require(order.output_format)
    return _push(order, open_objects(order.url, DESTINATION))


def asked_month(text: str) -> Window:
    """Read a month that was asked for.

    Raises:
        ConfigurationError: the text is not a month.
    """
    try:
        return CHARGE_MONTH.read(text)
    except ValueError as error:
        raise ConfigurationError(f"--month {error}") from None


def default_months(now: datetime) -> tuple[Window, ...]:
    """Return the month before and the current one, of UTC."""
    current = month_start(now)
    before = month_start(current - timedelta(days=1))
    return Window(before, current), Window(current, next_month(current))


@dataclass(frozen=True, slots=True)
class _Before:
    """The destination as it was found."""

    manifest: bytes | None
    documents: Mapping[str, Mapping[str, object]]


@dataclass(slots=True)
class _Made:
    """Months whose files are made, those that were left out, and the files with what the manifest will say of them."""

    months: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[tuple[Part, dict[str, object]]] = field(default_factory=list)


def _push(order: PushOrder, place: Objects) -> Push:
    manifest = place.get(MANIFEST)
    before = _Before(manifest, _documents(manifest, order.url))
    with open_statement(order.address) as statement, _working(order, place) as work:
        if not statement.accounts:
            raise LackingError("nothing has been read from fal yet; push again when it has")
        made = _Made()
        for window in order.months or default_months(order.now):
            _make(statement, window, work=work, order=order, before=before, made=made)
        if not made.months:
            raise LackingError("; ".join(made.notes))
        return _placed(order, place, before, made)


@contextmanager
def _working(order: PushOrder, place: Objects) -> Iterator[Path]:
    """Give a folder for files that are being made, from which the destination takes them."""
    if order.dry:
        with ScratchFolder() as scratch:
            yield scratch
        return
    beside = place.unfinished().parent
    beside.mkdir(parents=True, exist_ok=True)
    try:
        with ScratchFolder(beside) as work:
            yield work
    finally:
        with suppress(OSError):
            beside.rmdir()


def _make(statement: Statement, window: Window, *, work: Path, order: PushOrder, before: _Before, made: _Made) -> None:
    """Make the file of a month, or note why it is left out."""
    name = f"{window.start:%Y-%m}"
    try:
        source, contents = month_contents(statement, window, order.now)
    except LackingError as error:
        made.notes.append(f"{name} is left out: {error}")
        return
    if window.end <= order.now and contents.missing and _is_whole(before.documents.values(), name):
        made.notes.append(
            f"{name} is left out: {contents.missing:,} of its hours have not been read from fal, and what the "
            "destination has is whole"
        )
        return
    dataset = ledger_dataset(
        statement, contents, work, output_format=order.output_format, version=order.version, created=order.now
    )
    made.months.append(name)
    facts = {"source": source, "focus_version": order.version}
    made.files += [(part, _document(part, facts, dataset)) for part in dataset.parts]


def _placed(order: PushOrder, place: Objects, before: _Before, made: _Made) -> Push:
    """Write what differs, then the manifest, then delete what it lists no longer."""
    files: list[PushedFile] = []
    known = before.documents
    after = {path: document for path, document in known.items() if document.get("billing_period") not in made.months}
    for part, document in made.files:
        change = _change(part, known, place)
        if change is not Change.UNCHANGED and not order.dry:
            place.take(part.made, part.path)
        after[part.path] = document
        files.append(PushedFile(part.path, change, document))
    removed = [path for path in known if path not in after]
    files += [PushedFile(path, Change.REMOVED) for path in removed]
    if not order.dry:
        listed = [after[path] for path in sorted(after)]
        manifest = {
            **facts_of("the ledger", order.now),
            "focus_version": order.version,
            **totals_of(listed),
            "schema": [column_document(name) for name in layout(order.version)],
            "files": listed,
        }
        if not same_but_for_time(before.manifest, manifest):
            place.put(MANIFEST, manifest_text(manifest))
        place.delete(removed)
    return Push(files, [*made.notes, *_other_versions(after.values(), order.version)])


def _other_versions(documents: Iterable[Mapping[str, object]], version: str) -> Iterator[str]:
    """Yield a note on each file that has stayed as it was and is of another version of FOCUS."""
    for document in documents:
        other = document.get("focus_version", FIRST_VERSION)
        if other != version:
            month = document.get("billing_period")
            yield f"{month} is of FOCUS {other}, not {version}; write it again with focus push --month {month}"


def _change(part: Part, known: Mapping[str, Mapping[str, object]], place: Objects) -> Change:
    old = known.get(part.path)
    if old is None or part.path not in place.names(f"{part.path.rpartition('/')[0]}/"):
        return Change.NEW
    return Change.UNCHANGED if old.get("sha256") == part.sha256 else Change.CHANGED


def month_contents(statement: Statement, window: Window, now: datetime) -> tuple[str, FileContents]:
    """Return the charges of a month and their source: its invoices where they are there, else an estimate."""
    if window.end <= now:
        try:
            return INVOICE, file_contents(statement, InvoiceRequest(charge_month=window), None, now)
        except LackingError:
            # Its invoice has not been issued yet, or the estimate says what else is missing.
            pass
    return ESTIMATE, file_contents(statement, EstimateRequest(ESTIMATE, window.start, window.end), None, now)


def _document(part: Part, facts: Mapping[str, object], made: Dataset) -> dict[str, object]:
    kept = ("format", "granularity", "accounts", "completeness", "tags")
    return {**part.document, **facts, **{name: made.manifest[name] for name in kept if name in made.manifest}}


def _documents(manifest: bytes | None, url: str) -> dict[str, Mapping[str, object]]:
    """Return what a manifest says of each file.

    Raises:
        ConfigurationError: it is not one of a push, so that something else is kept there.
    """
    if manifest is None:
        return {}
    try:
        files = json.loads(manifest)["files"]
        totals_of(files)
        return {str(file["path"]): file for file in files if file["billing_period"]}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigurationError(
            f"{DESTINATION.setting} ({url}) has a {MANIFEST} that is not of a push; name a folder or a prefix that "
            "holds nothing else"
        ) from None


def _is_whole(documents: Iterable[Mapping[str, object]], month: str) -> bool:
    """Return whether all hours of a month that was over had been read when it was pushed."""
    of_month = [document for document in documents if document.get("billing_period") == month]
    return bool(of_month) and all(
        isinstance(completeness := document.get("completeness"), dict) and completeness.get("complete") is True
        for document in of_month
    )
