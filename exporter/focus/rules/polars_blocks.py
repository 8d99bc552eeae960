"""Blocks of lines that break nothing, proved together with Polars, where that is installed.

The blocks are cut into fields where nothing in them can be read in two ways, see `exporter.focus.polars_reader`.
Polars then tells the different texts of each column, which are judged as everywhere, and the different rows of what a
rule looks at. A block of which anything is in doubt is left to the careful way, which decides; so is one in which
something is wrong. Where two numbers are multiplied, floats only tell what is beyond doubt; sums are of decimals.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import polars as pl

from exporter.focus.columns import COLUMNS, is_custom
from exporter.focus.csv_parser import quoted
from exporter.focus.polars_reader import Cutter
from exporter.focus.rules.compiled import Compiled, FieldToken, NumberTokens, Signature
from exporter.focus.rules.conditions import FILLED
from exporter.focus.rules.measures import BlockFacts, Check, Pair
from exporter.focus.rules.table import Kind

_PLAIN = r"^[0-9]{1,20}\.[0-9]{1,11}$"
_PLACES = 11
_MOST_SIGNATURES = 200
_BEYOND_DOUBT = 0.5e-9
"""Half of the tolerance of products; what floats lose is a millionth of it."""


class Places(NamedTuple):
    """Places of the columns that are looked at beyond single rows.

    Attributes:
        families: children and parents.
        billed, invoice, currency: of the sums; None for columns that the file lacks.
    """

    families: Sequence[tuple[int, int]]
    billed: int | None
    invoice: int | None
    currency: int | None


class PolarsBlocks:
    """Proves blocks of one file.

    Args:
        rules: compiled for its header.
        places: of columns.
    """

    def __init__(self, rules: Compiled, places: Places) -> None:
        self._rules = rules
        self._places = places
        self._cutter = Cutter(len(rules.columns))

    def facts(self, lines: bytes) -> BlockFacts | None:
        """Return what whole lines come to; None if they break something, or may do so."""
        frame = self._cutter.table(lines)
        return None if frame is None else self.facts_of(frame)

    def facts_of(self, frame: pl.DataFrame) -> BlockFacts | None:
        """Return what rows come to; None if they break something, or may do so.

        Args:
            frame: its columns have their places for names.
        """
        try:
            known = self._tokens(frame)
            holds = known is not None and all(self._hold(*each) for each in self._parts(frame, known))
            sums = self._sums(frame) if holds else None
        except pl.exceptions.PolarsError:
            return None
        if sums is None:
            return None
        pairs = [self._pairs(frame, *family) for family in self._places.families]
        return BlockFacts(frame.height, pairs, sums)

    def _tokens(self, frame: pl.DataFrame) -> list[set[FieldToken]] | None:
        """Return the different tokens of each column; None if one is of a field that breaks something."""
        found: list[set[FieldToken]] = []
        for tokens, series in zip(self._rules.columns, frame.iter_columns(), strict=True):
            kinds: set[FieldToken] = {None} if series.null_count() else set()
            filled = series.drop_nulls()
            if isinstance(tokens, NumberTokens) and filled.len() and filled.str.contains(_PLAIN).all():
                kinds.add(FILLED)
            else:
                texts = filled.unique().to_list()
                # An empty text in quotes is not null, and a header may follow in mid-file.
                if "" in texts or (not found and any(text in COLUMNS or is_custom(text) for text in texts)):
                    return None
                kinds |= {tokens[quoted(text)] for text in texts}
            if not all(kind is None or kind is FILLED or isinstance(kind, str) for kind in kinds):
                return None
            found.append(kinds)
        return found

    def _parts(
        self, frame: pl.DataFrame, known: Sequence[set[FieldToken]]
    ) -> Iterator[tuple[pl.DataFrame, Signature | None]]:
        """Yield the rows of each signature; none where there are too many."""
        varying = [place for place, kinds in enumerate(known) if len(kinds) > 1]
        base = [next(iter(kinds)) for kinds in known]
        if not varying:
            yield frame, tuple(base)
            return
        names = [f"s{place}" for place in varying]
        marks = [
            (pl.col(str(place)).is_null() if known[place] == {None, FILLED} else pl.col(str(place))).alias(name)
            for place, name in zip(varying, names, strict=True)
        ]
        marked = frame.with_columns(marks)
        parts = marked.partition_by(names, as_dict=True)
        for key, part in parts.items():
            signature = list(base)
            for place, mark in zip(varying, key, strict=True):
                signature[place] = (None if mark else FILLED) if isinstance(mark, bool) else mark
            yield part, tuple(signature) if len(parts) <= _MOST_SIGNATURES else None

    def _hold(self, rows: pl.DataFrame, signature: Signature | None) -> bool:
        """Return whether rows of one signature break nothing."""
        if signature is None:
            return False
        plan = self._rules.plan_of(signature)
        return not plan.breaks and all(self._holds(check, rows) for check in plan.checks)

    def _holds(self, check: Check, rows: pl.DataFrame) -> bool:
        names = [*map(str, check.places)]
        doubtful = rows.select(names)
        if check.rule.kind is Kind.PRODUCT:
            cost, price, quantity = (pl.col(name).cast(pl.Float64, strict=False) for name in names)
            difference = (price * quantity - cost).abs()
            tolerated = pl.max_horizontal(cost.abs(), pl.lit(1.0)) * _BEYOND_DOUBT
            doubtful = doubtful.filter(~(difference <= tolerated).fill_null(value=False))
        elif check.rule.kind is Kind.EQUAL and len(names) > 1:
            doubtful = doubtful.filter(pl.col(names[0]) != pl.col(names[1]))
        places = range(len(names))
        different = doubtful.unique().iter_rows() if doubtful.height else ()
        return not any(check.measure(check.rule, places, [*map(quoted, row)]) for row in different)

    def _pairs(self, frame: pl.DataFrame, child: int, parent: int) -> set[Pair]:
        rows = frame.select(str(child), str(parent)).drop_nulls().unique().iter_rows()
        return {(one.encode(), other.encode()) for one, other in rows}

    def _sums(self, frame: pl.DataFrame) -> Mapping[Pair, tuple[int, Decimal]] | None:
        places = self._places
        if places.billed is None:
            return {}
        billed = frame.to_series(places.billed)
        # A cost that is negative or in E notation is rare, and left to the careful way.
        if billed.null_count() or not billed.str.contains(_PLAIN).all():
            return None
        keys = [
            pl.lit("") if place is None else pl.col(str(place)).fill_null("")
            for place in (places.invoice, places.currency)
        ]
        grouped = (
            frame.select(
                keys[0].alias("invoice"),
                keys[1].alias("currency"),
                billed.str.to_decimal(scale=_PLACES).alias("billed"),
            )
            .group_by("invoice", "currency")
            .agg(pl.len().alias("rows"), pl.col("billed").sum())
        )
        return {
            (quoted(invoice), quoted(currency)): (rows, cost) for invoice, currency, rows, cost in grouped.iter_rows()
        }
