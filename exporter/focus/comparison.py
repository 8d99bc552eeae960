"""Comparison of two data sets: exact sums by groups, and the rows that explain why they differ.

In bounded memory, whatever the size: the first reading adds up by groups. Only where groups differ a second reading
puts their rows into buckets by what identifies a charge, and keeps of each bucket a sum and a sum of hashes: where
both sides have the same rows, in any order, these are equal. A third reading takes the rows of buckets that differ,
the largest differences first, and matches them as multisets.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from exporter.errors import ConfigurationError
from exporter.focus.dataset import sum_up
from exporter.focus.reports import Filter, GroupRow, Groups, PartRead, Total, no_column
from exporter.focus.row_schema import Texts
from exporter.focus.values import EXACTLY, Month, instant, instant_text, json_object

USUAL_GROUPS = ("category", "service", "sku")

IDENTITY = (
    *("BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd", "BillingAccountId", "SubAccountId", "ChargeCategory"),
    *("ChargeClass", "ServiceName", "SkuId", "SkuPriceId", "RegionId", "ResourceId", "CommitmentDiscountId", "Tags"),
)
"""Columns that identify a charge: not its invoice, which an estimate does not have, nor words that describe it."""

COSTS: Mapping[str, Callable[[Total], Decimal]] = {
    "billed": lambda total: total.billed,
    "list": lambda total: total.listed,
    "effective": lambda total: total.effective,
}
"""Sums that can be compared, by name."""

_BUCKETS = 1 << 16
_HASHES = (1 << 64) - 1
_MOST_HELD = 50_000
"""Rows of buckets that differ which are held at once."""

_MOST_CACHED = 20_000
_START, _END, _TAGS = "ChargePeriodStart", "ChargePeriodEnd", "Tags"

Key = tuple[str, ...]
Identity = tuple[str, ...]


class Source(NamedTuple):
    """A data set that is compared.

    Attributes:
        name: in reports.
        paths: files, folders and globs that can be read more than once.
    """

    name: str
    paths: Sequence[str]


@dataclass(slots=True)
class Side:
    """One of both data sets, after it was added up.

    Attributes:
        columns: those that any of its files has.
        undated: rows in the sums without a date that can be read.
    """

    name: str
    groups: Groups
    parts: Sequence[PartRead] = ()
    columns: set[str] = field(default_factory=set)
    undated: int = 0

    @property
    def left_out(self) -> int:
        """Rows that are in no sum."""
        return sum(part.problems.rows for part in self.parts)


class RowDifference(NamedTuple):
    """Rows that are in one of both alone, or have another cost there.

    Attributes:
        group: that they are added up under.
        identity: of the charge, by column.
        before: cost of each in A; None where A lacks them.
        after: cost of each in B; None where B lacks them.
        rows: how many there are.
    """

    group: Key
    identity: Mapping[str, str]
    before: Decimal | None
    after: Decimal | None
    rows: int

    @property
    def change(self) -> str:
        """Outcome of them."""
        if self.before is None:
            return "only in B"
        return "only in A" if self.after is None else "changed"

    @property
    def difference(self) -> Decimal:
        """Part of them in B less A."""
        each = EXACTLY.subtract(self.after or Decimal(0), self.before or Decimal(0))
        return EXACTLY.multiply(each, Decimal(self.rows))


@dataclass(slots=True)
class Comparison:
    """Two data sets, compared.

    Attributes:
        cost: name of the compared sum.
        match: columns that identify a charge.
        rows: those that explain the differences, the largest first.
        unshown: how many more of these were found.
        are_all: whether all rows of groups that differ were looked at.
    """

    a: Side
    b: Side
    cost: str
    match: Sequence[str] = ()
    rows: Sequence[RowDifference] = ()
    unshown: int = 0
    are_all: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> Key:
        """Columns that rows are added up by."""
        return self.a.groups.names

    def pairs(self) -> dict[Key, tuple[Total, Total]]:
        """Return the sums of A and of B by group, the largest differences first."""
        before, after = self.a.groups.sums(), self.b.groups.sums()
        found = {key: (before.get(key) or Total(), after.get(key) or Total()) for key in {**before, **after}}
        return dict(sorted(found.items(), key=lambda item: (-abs(self.difference(item[1])), item[0])))

    def by_currency(self) -> dict[str, tuple[Total, Total]]:
        """Return the grand totals of A and of B."""
        found: dict[str, tuple[Total, Total]] = {}
        for key, pair in sorted(self.pairs().items()):
            totals = found.setdefault(key[0], (Total(), Total()))
            for total, part in zip(totals, pair, strict=True):
                total.add(part)
        return found

    def cost_of(self, total: Total) -> Decimal:
        """Return the sum that is compared."""
        return COSTS[self.cost](total)

    def difference(self, pair: tuple[Total, Total]) -> Decimal:
        """Return the sum of B less that of A."""
        return EXACTLY.subtract(self.cost_of(pair[1]), self.cost_of(pair[0]))

    def unexplained(self) -> dict[str, Decimal]:
        """Return by currency what the shown rows leave of the difference; only what is not 0."""
        left = {currency: self.difference(pair) for currency, pair in self.by_currency().items()}
        for row in self.rows:
            left[row.group[0]] = EXACTLY.subtract(left[row.group[0]], row.difference)
        return {currency: amount for currency, amount in left.items() if amount}

    @property
    def is_equal(self) -> bool:
        """True if every group has the same sum on both sides, and no row is missing from one."""
        complete = not self.a.left_out and not self.b.left_out
        return complete and not any(self.difference(pair) for pair in self.pairs().values())


def compare(
    a: Source,
    b: Source,
    *,
    by: Sequence[str] = (),
    where: Sequence[Filter] = (),
    cost: str = "billed",
    match: Sequence[str] = (),
    most: int = 20,
) -> Comparison:
    """Compare two data sets.

    Args:
        a: what is compared with.
        b: what is compared.
        by: columns to add up by, see `Groups`; none for `USUAL_GROUPS`.
        where: conditions that rows must meet.
        cost: one of `COSTS`.
        match: columns that identify a charge; none for those of `IDENTITY` that both have.
        most: rows to show that explain differences.

    Raises:
        ConfigurationError: neither has a column that is named.
        FocusError: a file cannot be read.
    """
    before = _added_up(a, Groups(by or USUAL_GROUPS, where), match or IDENTITY)
    after = _added_up(b, Groups(by or USUAL_GROUPS, where, like=before.groups), match or IDENTITY)
    common = before.columns & after.columns
    found = Comparison(before, after, cost, match or [name for name in IDENTITY if name in common])
    for name in dict.fromkeys((*before.groups.columns, *match)):
        lacking = [side for side in (before, after) if name not in side.columns]
        if len(lacking) > 1 and (by or where or match):
            raise ConfigurationError(no_column("--by, --where or --match", name, before.columns | after.columns))
        found.notes += [f"{side.name} has no column {name}; it is taken for null there" for side in lacking]
    differing = {key for key, pair in found.pairs().items() if found.difference(pair)}
    if most and differing:
        _explain(found, (a, b), differing, most)
    return found


def _added_up(source: Source, groups: Groups, match: Sequence[str]) -> Side:
    side = Side(source.name, groups)

    def add(rows: list[GroupRow]) -> None:
        side.undated += sum(row.lines for row in rows if row.charge_period_start is None)
        groups.add(rows)

    side.parts, side.columns = sum_up(source.paths, GroupRow, add, groups.leave_out, groups.columns, also=match)
    return side


class _Charge(NamedTuple):
    """The columns that tell charges apart; the same rows as in the sums can be read."""

    texts: Texts
    charge_period_start: str | None
    charge_period_end: str | None
    billed_cost: Decimal
    list_cost: Decimal | None
    effective_cost: Decimal | None


class _Row(NamedTuple):
    """A row of a group that differs; `bucket` is told by its group and its identity."""

    bucket: int
    group: Key
    identity: Identity
    cost: Decimal


class _Rows:
    """Reads the rows of groups that differ.

    Args:
        groups: what rows are added up by.
        differing: keys of those that differ.
        match: columns that identify a charge.
        cost: place of the compared cost among those of a row.
    """

    def __init__(self, groups: Groups, differing: set[Key], match: Sequence[str], cost: int) -> None:
        self._groups = groups
        self._differing = differing
        self._match = match
        self._cost = cost
        self._texts = [name for name in match if name not in {_START, _END}]
        self._known: dict[tuple[Texts, Month | None], tuple[Key | None, Mapping[str, str]]] = {}
        self._dates: dict[str | None, tuple[Month | None, str]] = {}

    def read(self, source: Source, take: Callable[[_Row], None]) -> None:
        """Read a data set."""

        def add(charges: Iterable[_Charge]) -> None:
            for row in self._rows(charges):
                take(row)

        sum_up(source.paths, _Charge, add, lambda _: None, (*self._groups.columns, *self._texts, _END))

    def _rows(self, charges: Iterable[_Charge]) -> Iterator[_Row]:
        for charge in charges:
            month, start = self._date(charge.charge_period_start)
            group, texts = self._of_texts(charge.texts, month)
            if group is None:
                continue
            dates = {_START: start, _END: self._date(charge.charge_period_end)[1]}
            identity = tuple(dates[name] if name in dates else texts[name] for name in self._match)
            cost = (charge.billed_cost, charge.list_cost, charge.effective_cost)[self._cost] or Decimal(0)
            yield _Row(hash((group, identity)) & (_BUCKETS - 1), group, identity, cost)

    def _of_texts(self, texts: Texts, month: Month | None) -> tuple[Key | None, Mapping[str, str]]:
        known = self._known.get((texts, month))
        if known is None:
            if len(self._known) >= _MOST_CACHED:
                self._known.clear()
            width = len(self._groups.columns)
            group = self._groups.key(texts.values[:width], month)
            found = {name: text or "" for name, text in zip((*self._texts, _END), texts.values[width:], strict=True)}
            if found.get(_TAGS):
                found[_TAGS] = _ordered(found[_TAGS])
            known = self._known[texts, month] = (group if group in self._differing else None, found)
        return known

    def _date(self, text: str | None) -> tuple[Month | None, str]:
        known = self._dates.get(text)
        if known is None:
            if len(self._dates) >= _MOST_CACHED:
                self._dates.clear()
            try:
                moment, _ = instant(text or "")
                known = Month(moment.year, moment.month), instant_text(moment)
            except ValueError:
                known = None, text or ""
            self._dates[text] = known
        return known


def _ordered(tags: str) -> str:
    """Write tags in one order, so that the same tags are the same text."""
    try:
        return ", ".join(f"{key}={value}" for key, value in sorted(json_object(tags).items()))
    except ValueError:
        return tags


class _TooManyError(Exception):
    """More rows differ than are held at once."""


def _explain(found: Comparison, sources: tuple[Source, Source], differing: set[Key], most: int) -> None:
    """Find the rows that explain the differences of groups."""
    rows = _Rows(found.b.groups, differing, found.match, list(COSTS).index(found.cost))
    buckets = _differing_buckets(rows, sources)
    chosen: list[int] = []
    held = 0
    for bucket, count in buckets:
        if chosen and held + count > _MOST_HELD:
            break
        chosen.append(bucket)
        held += count
    differences: list[RowDifference] = []
    while chosen:
        try:
            differences = _matched(rows, sources, {*chosen}, found.match)
            break
        except _TooManyError:
            chosen = chosen[: len(chosen) // 2]
    found.are_all = len(chosen) == len(buckets)
    differences.sort(key=lambda row: (-abs(row.difference), row.group, tuple(row.identity.values()), row.change))
    found.rows, found.unshown = differences[:most], max(0, len(differences) - most)


def _differing_buckets(rows: _Rows, sources: tuple[Source, Source]) -> list[tuple[int, int]]:
    """Return the buckets in which both sides differ and how many rows each has, the largest differences first."""
    checks = [0] * _BUCKETS
    counts = [0] * _BUCKETS
    sums: dict[int, Decimal] = defaultdict(Decimal)
    for sign, source in zip((-1, 1), sources, strict=True):

        def take(row: _Row, sign: int = sign) -> None:
            # Of a text, because hashes of tuples that end in 1, 2 and 3 often are as far apart as these.
            checks[row.bucket] = (checks[row.bucket] + sign * hash(str(hash(row)))) & _HASHES
            counts[row.bucket] += 1
            sums[row.bucket] = EXACTLY.add(sums[row.bucket], row.cost if sign > 0 else -row.cost)

        rows.read(source, take)
    differing = [bucket for bucket, check in enumerate(checks) if check or sums.get(bucket)]
    differing.sort(key=lambda bucket: (-abs(sums[bucket]), bucket))
    return [(bucket, counts[bucket]) for bucket in differing]


def _matched(
    rows: _Rows, sources: tuple[Source, Source], buckets: set[int], match: Sequence[str]
) -> list[RowDifference]:
    """Match the rows of some buckets as multisets, and return what is left of them.

    Raises:
        _TooManyError: too many are left.
    """
    left: dict[tuple[Key, Identity], dict[Decimal, int]] = {}
    held = 0
    for sign, source in zip((-1, 1), sources, strict=True):

        def take(row: _Row, sign: int = sign) -> None:
            nonlocal held
            if row.bucket not in buckets:
                return
            costs = left.setdefault((row.group, row.identity), {})
            before = costs.get(row.cost, 0)
            held += (not before) - (before == -sign)
            if held > _MOST_HELD:
                raise _TooManyError
            costs[row.cost] = before + sign
            if before == -sign:
                del costs[row.cost]

        rows.read(source, take)
    found: list[RowDifference] = []
    for (group, identity), costs in left.items():
        named = dict(zip(match, identity, strict=True))
        found += (RowDifference(group, named, *change) for change in _changes(costs))
    return found


def _changes(costs: Mapping[Decimal, int]) -> Iterator[tuple[Decimal | None, Decimal | None, int]]:
    """Pair costs that only A has with those that only B has: of each, how many rows changed, went or came."""
    before = [(cost, -count) for cost, count in sorted(costs.items(), reverse=True) if count < 0]
    after = [(cost, count) for cost, count in sorted(costs.items(), reverse=True) if count > 0]
    while before and after:
        (old, went), (new, came) = before.pop(), after.pop()
        count = min(went, came)
        yield old, new, count
        before += [(old, went - count)] if went > count else []
        after += [(new, came - count)] if came > count else []
    yield from ((cost, None, count) for cost, count in before)
    yield from ((None, cost, count) for cost, count in after)
