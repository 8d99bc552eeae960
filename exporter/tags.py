"""Tags: what callers say a request is for, as fal allocates spend by them. Imports nothing of the project but charges.

Callers send `X-Fal-Tags: key=value,...`. Only keys of a configured list become dimensions. Tags allocate what the
ledger has; they never add to it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from exporter.charges import Amounts, Window, label_text

MODEL_SOURCES = frozenset({"models", "organization", "reporting", "focus"})
"""Usage sources that report what models are charged for, which tags divide and single requests add up to."""

UNTAGGED = "untagged"
"""Value of a tag for all that it does not explain; a request that is tagged with this word counts as not tagged."""

MOST_KEYS = 10
"""Pairs that fal takes of a request."""

_KEY = re.compile(r"[a-z0-9._-]{1,64}")
_OWN = "fal."

TAG = "tag:"
"""Prefix of a tag's key where it is named among dimensions, such as `tag:customer`."""

BESIDE_TAGS = frozenset({"account", "model"})
"""Dimensions that spend by tags is known by."""

TagValues = tuple[str, ...]
"""Values of the configured keys, in their order; UNTAGGED for one that is missing."""


def check_keys(keys: Iterable[str]) -> TagValues:
    """Return keys of tags in the order in which they are published.

    Raises:
        ValueError: one cannot be a tag's key, or two make the same label.
    """
    chosen = list(keys)
    for key in chosen:
        if not _KEY.fullmatch(key):
            raise ValueError(
                "names something that cannot be a tag's key at fal: 1 to 64 of a-z, 0-9, dot, underscore and hyphen, "
                "such as customer,feature"
            )
        if key.startswith(_OWN):
            raise ValueError("names a key that begins with fal., which are fal's own; callers cannot send it")
    labels: dict[str, str] = {}
    for key in chosen:
        twin = labels.setdefault(tag_label(key), key)
        if twin != key:
            raise ValueError(
                f"names {twin} and {key}, which would both be the label {tag_label(key)}; keep one of them"
            )
    if len(chosen) > len(labels):
        raise ValueError("names a key twice; name each once")
    if len(chosen) > MOST_KEYS:
        raise ValueError(f"names more than {MOST_KEYS} keys, which is all that fal takes of a request")
    return tuple(sorted(chosen))


def tag_label(key: str) -> str:
    """Return the Prometheus label of a key: dots and hyphens become underscores."""
    return "tag_" + re.sub(r"[.-]", "_", key)


def tag_values(tags: Mapping[str, object], keys: Iterable[str]) -> TagValues:
    """Return the values that a request's tags have for some keys; what is no text, or empty, is missing."""
    values = (tags.get(key) for key in keys)
    return tuple(label_text(value) if isinstance(value, str) and value else UNTAGGED for value in values)


def tags_text(keys: Iterable[str], values: TagValues) -> str:
    """Return tags as JSON text, in the order of keys, without those that are missing."""
    return json.dumps(
        {key: value for key, value in zip(keys, values, strict=True) if value != UNTAGGED}, sort_keys=True
    )


class TaggedCharge(NamedTuple):
    """Part of an hour's spend on a model endpoint that has these tags; `hour` is its start."""

    hour: datetime
    model: str
    unit: str
    tags: TagValues
    amounts: Amounts


class TaggedReading(NamedTuple):
    """Allocation of a window by tags as fal states it.

    Attributes:
        charges: what has at least one of the configured tags, one for every hour, model, unit and values.
        stated: nano-USD of each hour that has any, of all rows, tagged or not.
        rejected: rows that were not understood, by reason; what they cost stays untagged.
    """

    account: str
    window: Window
    keys: TagValues
    charges: tuple[TaggedCharge, ...]
    stated: Mapping[datetime, int]
    rejected: Mapping[str, int]
