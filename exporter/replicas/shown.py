"""Counters as a publication shows them: all that a follower knows of what the leader before it had in memory.

A follower that becomes the leader after the database has failed over to a standby that was behind finds a ledger of
an earlier instant than what it has served. It must not show less (`exporter.ledger.heights`), and what it has shown is
in the lines that it holds.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from exporter.charges import NANO
from exporter.ledger.accounting.counters import Counter
from exporter.ledger.accounting.machines import STATE_LABELS
from exporter.ledger.heights import Heights, Named, Restated, Tagged
from exporter.publication import Publication
from exporter.tags import tag_label

_SPEND = {
    "fal_spend_usd": "cost",
    "fal_discount_usd": "discount",
    "fal_gpu_seconds": "gpu_seconds",
    "fal_usage_quantity": "quantity",
}
_STATES = {"fal_gpu_spend_by_state_usd": "cost", "fal_gpu_time_by_state_seconds": "gpu_seconds"}
_TAGGED = "fal_tagged_spend_usd"
_RESTATED = {"fal_restated_usd": "", "fal_restatements": "hours", "fal_spend_relabelled_usd": "relabelled"}
_OVERFLOWED = "fal_exporter_series_overflow"

_NAMES = "|".join((*_SPEND, *_STATES, _TAGGED, *_RESTATED, _OVERFLOWED))
_LINE = re.compile(rf"^({_NAMES})_(total|created)(?:\{{(.*)\}})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}

_Series = tuple[str, str]
"""Name of a family and its labels as they are written."""


@dataclass(slots=True)
class _Lines:
    values: dict[_Series, Decimal] = field(default_factory=dict)
    created: dict[_Series, datetime] = field(default_factory=dict)

    def of(self, name: str) -> Iterator[tuple[Mapping[str, str], Decimal, datetime | None]]:
        """Yield labels, value and beginning of each sample of a family."""
        for series, value in self.values.items():
            if series[0] == name:
                yield _labels(series[1]), value, self.created.get(series)


def heights_shown(publication: Publication, labels: tuple[str, ...], tags: tuple[str, ...]) -> Heights | None:
    """Return the heights of all counters of the ledger in a publication; None where it does not say of which state.

    Args:
        publication: of another replica's ledger or an earlier one of this.
        labels: names of the labels of charges.
        tags: keys of the tags by which spend is read.
    """
    ledger = publication.overview.ledger
    if ledger.born_at is None:
        return None
    lines = _lines(publication)

    def counter(value: Decimal, created: datetime | None) -> Counter:
        shown = round(value * NANO)
        return Counter(0, shown, created or publication.at, released=shown > 0)

    spend: dict[Named, Counter] = {}
    for name, measure in _SPEND.items():
        for found, value, created in lines.of(name):
            values = tuple(found.get(label, "") for label in labels)
            spend[values, measure, found.get("unit", "") if measure == "quantity" else ""] = counter(value, created)
    states: dict[Named, Counter] = {}
    for name, measure in _STATES.items():
        for found, value, created in lines.of(name):
            values = tuple(found.get(label, "") for label in STATE_LABELS.names)
            states[values, measure, found.get("state", "")] = counter(value, created)
    tagged: dict[Tagged, Counter] = {}
    for found, value, created in lines.of(_TAGGED):
        key = (found["account"], found.get("model", ""), tuple(found.get(tag_label(tag), "") for tag in tags))
        tagged[key] = counter(value, created)
    return Heights(
        born_at=ledger.born_at,
        revision=ledger.revision,
        labels=labels,
        spend=spend,
        states=states,
        tag_keys=tags,
        tagged=tagged,
        restated=_restated(lines),
        overflowed=max((int(value) for _, value, _ in lines.of(_OVERFLOWED)), default=0),
    )


def _restated(lines: _Lines) -> dict[tuple[str, str], Restated]:
    amounts: dict[tuple[str, str], dict[str, int]] = {}
    for name, amount in _RESTATED.items():
        for found, value, _ in lines.of(name):
            of_source = amounts.setdefault((found["account"], found["source"]), {})
            of_source[amount or found["direction"]] = round(value * (1 if amount == "hours" else NANO))
    return {source: Restated(**found) for source, found in amounts.items()}


def _lines(publication: Publication) -> _Lines:
    found = _Lines()
    for piece in publication.exposition.openmetrics.pieces:
        for name, kind, labels, number in _LINE.findall(piece.plain.decode()):
            if kind == "total":
                found.values[name, labels] = Decimal(number)
            else:
                found.created[name, labels] = datetime.fromtimestamp(float(number), UTC)
    return found


def _labels(written: str) -> dict[str, str]:
    return {
        name: re.sub(r"\\.", lambda escaped: _ESCAPED[escaped[0]], value) for name, value in _LABEL.findall(written)
    }
