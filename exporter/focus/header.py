"""The first line: which columns there are, of which version, or what else this is."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from exporter.focus.columns import COLUMNS, other_data_set, version_of
from exporter.focus.dialect import Record, unquoted
from exporter.focus.errors import WrongContentError

_LONGEST_QUOTE = 200
_FILE_KINDS: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x1f\x8b": "a gzip file; decompress it first",
        b"PK": "a ZIP or Excel file; save it as CSV first",
        b"PAR1": "a Parquet file; save it as CSV first",
        b"\xff\xfe": "a UTF-16 file; save it as UTF-8 first",
        b"\xfe\xff": "a UTF-16 file; save it as UTF-8 first",
        b"<": "an HTML or XML page, not a CSV file; was the address of the download right, and the login still valid?",
    }
)


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a file.

    Attributes:
        names: in order.
        version: the oldest version of FOCUS whose columns they fit best.
    """

    names: tuple[str, ...]
    version: str

    @property
    def places(self) -> dict[str, int]:
        """The place of every column by its name."""
        return {name: place for place, name in enumerate(self.names)}


def parse_header(record: Record) -> Header:
    """Read the first record.

    Raises:
        WrongContentError: it is no header of a Cost and Usage file; the message says what it looks like.
    """
    names = [unquoted(raw).decode("utf-8", "replace").strip() for raw in record.fields]
    _refuse_other_kinds(b",".join(record.fields))
    if record.malformed:
        raise WrongContentError(f"line 1 is no CSV header: {record.malformed}")
    other = other_data_set(names)
    if other is not None:
        raise WrongContentError(f"this is a FOCUS {other} file; a Cost and Usage file is needed")
    if not any(name in COLUMNS for name in names):
        raise WrongContentError(_no_column_sentence(names))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise WrongContentError(f"the header names the column {twice[0]!r} more than once")
    return Header(tuple(names), version_of(names))


def nothing_at_all() -> WrongContentError:
    """Return the error for a file without a first line."""
    return WrongContentError("the file is empty: there is not even a header; was the download complete?")


def _refuse_other_kinds(line: bytes) -> None:
    start = line.lstrip()
    for magic, what in _FILE_KINDS.items():
        if start.startswith(magic):
            raise WrongContentError(f"this is {what}")
    if start[:1] in {b"{", b"["}:
        message = _message_of(start)
        raise WrongContentError(f"this is JSON, not CSV{f'; it says: {message}' if message else ''}")


def _message_of(text: bytes) -> str:
    """Return what a JSON error answer of fal says, whichever of its hosts gave it."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return ""
    if isinstance(found, dict):
        error = found.get("error", found)
        for value in (error.get("message"), error.get("detail")) if isinstance(error, dict) else ():
            if isinstance(value, str):
                return value[:_LONGEST_QUOTE]
    return ""


def _no_column_sentence(names: Sequence[str]) -> str:
    folded = {name.lower(): name for name in COLUMNS}
    for name in names:
        if name.lower() in folded:
            return f"the header writes {name!r} for {folded[name.lower()]!r}; FOCUS column names are case-sensitive"
    return f"the header has no column of FOCUS; it begins with {names[0][:_LONGEST_QUOTE]!r}"
