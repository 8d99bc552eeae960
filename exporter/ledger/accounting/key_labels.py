"""Labels of API keys: what charges of a key are published under.

People know the alias of a key, so that is what the label `api_key` shows; the id is what a key is. An alias may be
given to several keys, changed, or given on to another key. Labels of one account are therefore never the same for two
keys, and a counter whose label changes is born again under the new one (see `counters.renamed`).
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from exporter.charges import ApiKey, Dimensions, label_text
from exporter.ledger.accounting.counters import OTHER


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key in the ledger.

    Attributes:
        label: what its charges are published under.
        is_listed: whether fal's last list has it.
        last_used: start of the last hour that was charged for with it; None where none is known.
    """

    key: ApiKey
    label: str
    is_listed: bool = True
    last_used: datetime | None = None

    def unused_since(self, told_from: datetime) -> datetime:
        """Return since when the key has had no charge, where charges are known by key from an hour on."""
        if self.last_used is not None:
            return self.last_used
        return told_from if self.key.created_at is None else max(told_from, self.key.created_at)

    def used(self, hour: datetime) -> "KeyRecord":
        """Return the record after a charge of an hour."""
        return replace(self, last_used=hour if self.last_used is None else max(hour, self.last_used))


KeyLabels = Mapping[tuple[str, str], str]
"""The label of a key by account and id."""


def wanted_labels(keys: Collection[ApiKey], taken: Collection[str]) -> dict[str, str]:
    """Return the label of each key of an account, by its id: its alias, with the id where that could be another.

    Args:
        keys: all that the account has, and had.
        taken: what else stands in the label: ids of keys that fal has not listed, and its words for other callers.
    """
    with_alias = Counter(key.alias for key in keys)
    spoken_for = {*taken, *(key.id for key in keys), OTHER}
    labels = {}
    for key in keys:
        if not key.alias or key.alias == key.id:
            labels[key.id] = key.id
        elif with_alias[key.alias] > 1 or key.alias in spoken_for:
            labels[key.id] = label_text(f"{key.alias} ({key.id})")
        else:
            labels[key.id] = key.alias
    uses = Counter(labels.values())
    return {key_id: label if uses[label] == 1 and label not in taken else key_id for key_id, label in labels.items()}


def labelled(dimensions: Dimensions, labels: KeyLabels) -> Dimensions:
    """Return the dimensions of a charge with the label of its key in place of the id."""
    label = labels.get((dimensions.account, dimensions.api_key))
    return dimensions if label is None else dimensions._replace(api_key=label)


def values_of(wanted: Collection[str], labels: KeyLabels) -> frozenset[str]:
    """Return the ids that are meant by some values of the label; an id may be given as such, too."""
    return frozenset(wanted) | {key_id for (_, key_id), label in labels.items() if label in wanted}
