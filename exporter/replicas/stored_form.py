"""The form in which a publication is stored: its pieces deflated, all else JSON, compressed.

Never a pickle: whoever can write to the database must not be able to run code in an exporter. A hash of the form stands
beside each publication, so that another version's is refused in words.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from exporter.forecasting.state import Outlook
from exporter.overview import Overview
from exporter.publication import ExpositionDelta, Piece, Publication, PublicationDelta, RenderingDelta


@dataclass(frozen=True, slots=True)
class StoredBody:
    """All of a publication but its sequence and the pieces."""

    at: datetime
    text: RenderingDelta
    openmetrics: RenderingDelta
    protobuf: RenderingDelta
    overview: Overview
    ready: bool
    outlook: Outlook

    def numbers(self) -> set[int]:
        """Return the numbers of all pieces."""
        return {number for form in (self.text, self.openmetrics, self.protobuf) for number in form.numbers}

    def delta(self, sequence: int, new: tuple[Piece, ...]) -> PublicationDelta:
        """Return the publication with the pieces that its reader lacks."""
        delta = ExpositionDelta(self.text, self.openmetrics, self.protobuf, new)
        return PublicationDelta(sequence, self.at, delta, self.overview, self.ready, self.outlook)


@cache
def _adapter() -> TypeAdapter[StoredBody]:
    return TypeAdapter(StoredBody)


@cache
def body_format() -> str:
    """Return a short hash of the shape in which publications are stored; versions with the same read each other's."""
    return hashlib.sha256(json.dumps(_shape(_adapter().json_schema()), sort_keys=True).encode()).hexdigest()[:16]


def _shape(schema: object) -> object:
    """Return a JSON schema without its words, so that a better docstring is not another format."""
    if isinstance(schema, Mapping):
        return {
            name: _shape(part)
            for name, part in schema.items()
            if not (name in {"title", "description"} and isinstance(part, str))
        }
    return [*map(_shape, schema)] if isinstance(schema, list | tuple) else schema


_AT, _ZONE, _UTC = "$at", "zone", "Z"
"""Keys of an object that stands for an instant, as JSON's text has no place for the name of its zone."""


def stored_body(publication: Publication) -> bytes:
    """Return all of a publication but its sequence and the pieces, as it is stored."""
    # A holder of this very exposition lacks no piece: what is left is what names them.
    delta = publication.pack(publication.exposition)
    renderings = (delta.delta.text, delta.delta.openmetrics, delta.delta.protobuf)
    body = StoredBody(delta.at, *renderings, delta.overview, delta.ready, delta.outlook)
    text = json.dumps(_adapter().dump_python(body), default=_plain, separators=(",", ":"))
    # Of many accounts it is half a megabyte of much the same.
    return zlib.compress(text.encode(), 1)


def parsed_body(body: bytes) -> StoredBody:
    """Return what was stored.

    Raises:
        ValueError: it is of another shape.
    """
    try:
        text = zlib.decompress(body)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return _adapter().validate_python(json.loads(text, object_hook=_instant))


def _plain(value: object) -> object:
    if not isinstance(value, datetime):
        return to_jsonable_python(value)
    zone = _UTC if value.tzinfo is UTC else getattr(value.tzinfo, "key", None)
    return {_AT: value.isoformat(), _ZONE: zone}


def _instant(found: dict[str, object]) -> object:
    if found.keys() != {_AT, _ZONE}:
        return found
    at, zone = datetime.fromisoformat(str(found[_AT])), found[_ZONE]
    if zone == _UTC:
        return at.astimezone(UTC)
    # A zone that this system does not know keeps its distance from UTC.
    with suppress(ZoneInfoNotFoundError):
        return at if zone is None else at.astimezone(ZoneInfo(str(zone)))
    return at


def inflated(deflated: bytes) -> bytes:
    """Return the text of a piece."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated)
