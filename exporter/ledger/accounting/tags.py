"""Allocation of an hour's spend by tags, exact to the nano-dollar.

Fal states what of an hour's spend on a model had which tags. The ledger has what the hour cost. What tags do not
explain is a row of its own, `untagged`: the ledger's cost less all that is tagged. Where fal has tagged more than it
charges, that row is below zero, and says by how much. So the rows of an hour always add up to what the ledger has.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime

from exporter.charges import NOTHING, Amounts, hour_number
from exporter.ledger.accounting.counters import OTHER
from exporter.ledger.accounting.coverage import ScopeState
from exporter.samples import Pages
from exporter.tags import MODEL_SOURCES, UNTAGGED, TagValues

READ_AFTER = 2
"""Hours after its end from which on a reading of an hour by tags counts: they come later than charges do."""

Place = tuple[str, TagValues]
"""Model and values of the tags."""


def untagged(keys: int) -> TagValues:
    """Return the values of what none of so many keys explains."""
    return (UNTAGGED,) * keys


def allocated(cost: Mapping[str, int], tagged: Mapping[Place, int], keys: int) -> dict[Place, int]:
    """Return what an hour cost by model and tags; the sum is that of `cost`.

    Args:
        cost: nano-USD by model, as the ledger has it; what is of no model has the empty name.
        tagged: nano-USD by model and tags, as fal states it.
        keys: how many tags there are.
    """
    found = {place: amount for place, amount in tagged.items() if amount}
    rest = dict(cost)
    for (model, _), amount in found.items():
        rest[model] = rest.get(model, 0) - amount
    for model, amount in rest.items():
        if amount:
            place = model, untagged(keys)
            found[place] = found.get(place, 0) + amount
    return {place: amount for place, amount in found.items() if amount}


def hours_to_divide(scopes: Iterable[ScopeState], account: str) -> range:
    """Return the numbers of the hours of which the ledger has everything of an account that tags divide.

    Args:
        scopes: those that are published, of any account.
        account: whose hours.
    """
    own = [scope for scope in scopes if scope.account == account and scope.source in MODEL_SOURCES]
    since = [hour_number(scope.history_from) for scope in own if scope.history_from is not None]
    through = [hour_number(scope.data_through) for scope in own if scope.data_through is not None]
    if not own or len(since) < len(own) or len(through) < len(own):
        return range(0)
    return range(max(since), min(through))


def divided(whole: Amounts, tagged: Mapping[str, Amounts]) -> tuple[tuple[str, Amounts], ...]:
    """Divide the one charge of an hour, model and unit by its tags; what has none comes last, without tags.

    Only where that is certain: where more is tagged than is charged, of any measure, the charge stays whole.

    Args:
        whole: the charge.
        tagged: what is stated of the same hour, model and unit, by tags as text.
    """
    rest = whole
    for part in tagged.values():
        rest = rest.plus(part.negated())
    if whole.gpu_seconds or min(rest) < 0 or not tagged:
        return (("", whole),)
    parts = tuple((tags, part) for tags, part in sorted(tagged.items()) if part != NOTHING)
    return parts if rest == NOTHING else (*parts, ("", rest))


Counted = tuple[str, str, TagValues]
"""Account, model and values of the tags."""


def admitted(key: Counted, known: AbstractSet[Counted], limit: int) -> Counted:
    """Return what a combination is published under: itself, or beyond the limit that of all other tags.

    What no tag explains is never folded into what has tags.
    """
    account, model, tags = key
    if key in known or len(known) < limit:
        return key
    return account, model, tuple(value if value == UNTAGGED else OTHER for value in tags)


@dataclass(frozen=True, slots=True)
class TagFigures:
    """Published figures of spend by tags, by account, model and tags; nano-USD.

    Attributes:
        keys: of the tags; none where spend is not read by tags.
        spend: counters.
        pending: by how much a counter is ahead of the truth.
        month: month to date, of accounts all of whose month has been read.
        by_key: the same by account, key of a tag and its value, whatever the other tags are.
        through: end of the last hour that has been read by tags for good, by account.
        difference: what fal states by tags in the month so far, tagged or not, less what the ledger has of models in
            the same hours, by account.
    """

    keys: TagValues = ()
    spend: Pages = ()
    pending: Pages = ()
    month: Pages = ()
    by_key: Pages = ()
    through: Mapping[str, datetime] = field(default_factory=dict)
    difference: Mapping[str, int] = field(default_factory=dict)

    def with_counters(self, keys: TagValues, spend: Pages, pending: Pages) -> "TagFigures":
        """Return the figures with these counters."""
        return replace(self, keys=keys, spend=spend, pending=pending)


NO_TAGS = TagFigures()
