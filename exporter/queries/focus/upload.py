"""Upload: months of the ledger as cost lines to a cost service, each month in place of its last upload.

The services add up what they are given. So a file beside the ledger remembers the ids of what was uploaded: a month
that has changed is uploaded anew, then what it replaces is deleted; what an interrupted run has left is deleted first.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from exporter.charges import HOUR, Window, hour_of
from exporter.errors import ConfigurationError
from exporter.ledger.export import open_statement
from exporter.queries.focus.cost_services import Costs, CostService, cost_lines
from exporter.queries.focus.files import LackingError
from exporter.queries.focus.push import Change, default_months, month_contents
from exporter.unfinished import written_whole


@dataclass(slots=True)
class _Month:
    """State of a month at a service, as far as it is known.

    Attributes:
        digest: of the files that are there.
        files: their ids.
        stale: ids of files to delete: replaced, or of a run that was interrupted.
        whole: whether the month was over, and all of it had been read.
        begun: whether its first hour had been read.
    """

    digest: str = ""
    files: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    whole: bool = False
    begun: bool = False


class UploadState:
    """Memory of what was uploaded to a service, in a file.

    Args:
        path: of the file, which all services share.
        service: name of the service.

    Raises:
        ConfigurationError: the file is not a state of uploads.
    """

    def __init__(self, path: Path, service: str) -> None:
        self._path = path
        self._service = service
        try:
            self._all: dict[str, dict[str, dict[str, object]]] = json.loads(path.read_bytes()) if path.exists() else {}
            self.months = {
                month: _Month(
                    str(known["digest"]),
                    _texts(known["files"]),
                    _texts(known["stale"]),
                    known.get("whole") is True,
                    known.get("begun") is True,
                )
                for month, known in self._all.get(service, {}).items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise ConfigurationError(
                f"--state {path} is no memory of uploads; name another file, or restore it: without it what was "
                "uploaded before cannot be replaced"
            ) from None

    def save(self) -> None:
        """Write the file.

        Raises:
            ConfigurationError: it cannot be written.
        """
        self._all[self._service] = {month: asdict(known) for month, known in sorted(self.months.items())}
        try:
            with written_whole(self._path) as file:
                file.write(f"{json.dumps(self._all, indent=2)}\n".encode())
        except OSError as error:
            raise ConfigurationError(f"--state {self._path} cannot be written: {error.strerror}") from None


def _texts(found: object) -> list[str]:
    if not isinstance(found, list):
        raise TypeError("no list")
    return [str(item) for item in found]


def state_path(address: str, given: Path | None = None) -> Path:
    """Return the file that remembers uploads: beside a ledger in SQLite unless it is given.

    Raises:
        ConfigurationError: there is no such place.
    """
    if given is not None:
        return given
    if not address.startswith("sqlite"):
        raise ConfigurationError("a ledger in PostgreSQL has no folder beside it; name a file with --state")
    return Path(f"{address.partition(':///')[2]}-uploads.json").absolute()


@dataclass(frozen=True, slots=True)
class UploadedMonth:
    """A month at a service.

    Attributes:
        name: of the month, `YYYY-MM`.
        costs: its lines, and what they cost.
        files: what stands for it at the service, or would.
        replaced: ids of the files that were deleted for it, or would be.
    """

    name: str
    change: Change
    costs: Costs
    files: Sequence[bytes]
    replaced: Sequence[str]


@dataclass(frozen=True, slots=True)
class Upload:
    """Outcome of an upload.

    Attributes:
        months: those that the ledger has.
        notes: months that were left out, and what others lack.
    """

    months: Sequence[UploadedMonth]
    notes: Sequence[str]


def upload(
    address: str, service: CostService, state: Path, now: datetime, *, months: Sequence[Window] = (), dry: bool = False
) -> Upload:
    """Bring months up to date at a service.

    Args:
        address: of the ledger.
        service: where to.
        state: file that remembers uploads.
        now: the present.
        months: those that are wanted; none for the current one and the one before.
        dry: whether nothing is sent.

    Raises:
        ConfigurationError: the state cannot be used.
        CostServiceError: the service cannot be reached, or refuses; what is remembered is true all the same.
        LedgerError, LackingError: the ledger cannot be read, or has nothing of the months.
    """
    known = UploadState(state, service.name)
    found, notes = _costs(address, months or default_months(now), now)
    if not found:
        raise LackingError("; ".join(notes))
    done = []
    for name, (costs, is_whole, is_begun) in found.items():
        files = service.files(costs)
        month = known.months.setdefault(name, _Month())
        if (month.whole and not is_whole) or (month.begun and not is_begun):
            notes.append(f"{name} is left as it was uploaded: the ledger has less of it than it had then")
            continue
        digest = hashlib.sha256(b"\0".join(files)).hexdigest() if files else ""
        change, replaced = Change.NEW, [*month.stale, *month.files]
        if month.digest == digest and not month.stale:
            change, replaced = Change.UNCHANGED, []
        elif month.files:
            change = Change.CHANGED
        done.append(UploadedMonth(name, change, costs, files, replaced))
        if dry:
            continue
        if change is not Change.UNCHANGED:
            _replace(service, known, name, files, digest)
        if (month.whole, month.begun) != (is_whole, is_begun):
            month.whole, month.begun = is_whole, is_begun
            known.save()
    return Upload(done, notes)


class _Found(NamedTuple):
    """A month that the ledger has; see `_Month` for what else is said of it."""

    costs: Costs
    whole: bool
    begun: bool


def _costs(address: str, windows: Iterable[Window], now: datetime) -> tuple[Mapping[str, _Found], list[str]]:
    """Return the costs of each month that the ledger has, and why others are left out."""
    found: dict[str, _Found] = {}
    notes = []
    with open_statement(address) as statement:
        if not statement.accounts:
            raise LackingError("nothing has been read from fal yet; upload again when it has")
        for window in windows:
            name = f"{window.start:%Y-%m}"
            try:
                _, contents = month_contents(statement, window, now)
            except LackingError as error:
                notes.append(f"{name} is left out: {error}")
                continue
            first = Window(window.start, window.start + HOUR)
            over = Window(window.start, max(min(window.end, hour_of(now)), first.end))
            missing = statement.coverage(over).missing
            is_over, is_begun = window.end <= now, not statement.coverage(first).missing
            found[name] = _Found(cost_lines(contents.charges), is_over and not missing, is_begun)
            # The hour that is just over may be read with the next poll.
            if missing > (0 if is_over else 1):
                notes.append(f"{name} lacks {missing:,} hours that have not been read from fal")
    return found, notes


def _replace(service: CostService, known: UploadState, name: str, files: list[bytes], digest: str) -> None:
    """Upload a month, then delete what it replaces; remember each step."""
    month = known.months[name]
    _delete_stale(service, known, month)
    if month.digest == digest:
        return
    uploaded: list[str] = []
    for number, content in enumerate(files, 1):
        uploaded.append(service.upload(f"fal-exporter-{name}-{digest[:12]}-{number}", content))
        # Until all are there they are no month: a run that ends here leaves them for the next one to delete.
        month.stale.append(uploaded[-1])
        known.save()
    month.digest, month.files, month.stale = digest, uploaded, month.files
    known.save()
    _delete_stale(service, known, month)


def _delete_stale(service: CostService, known: UploadState, month: _Month) -> None:
    while month.stale:
        service.delete(month.stale[0])
        del month.stale[0]
        known.save()
