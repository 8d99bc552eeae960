"""Tables and sums of large blocks with Polars, an optional extra.

Polars is made for tidy files and silently makes the best of others. So it has its say only where nothing can be read in
two ways: every line is a whole record, and every quotation mark encloses a field or is doubled within one. Both is
proved with Polars too, byte by byte but many at once. The lines of a block are cut, proved and added up in one query.
Numbers and dates are told by a pattern; numbers are added up as decimals, never as floats. Those that are written in
another way are read here, each text once. All else is left to `exporter.focus.reader`, which comes to the same sums.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

import polars as pl

from exporter.focus.csv_parser import BYTE_ORDER_MARK, COMMA, Remembered, is_text, quoted
from exporter.focus.row_schema import Header, Instants, Part, ScaledNumbers, UnreadableError, Wanted
from exporter.focus.values import EXACTLY, Month, Value

_MARK = b"\x01"
_QUOTE, _LINE_FEED, _CARRIAGE_RETURN = b'"', b"\n", b"\r"

DOUBTS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""Errors by which Polars says that lines are not what they should be."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a Parquet file, as the texts that a CSV file would have; columns are named by their places."""

    frame: pl.DataFrame

    def csv(self) -> bytes:
        """Return them as lines of CSV."""
        file = io.BytesIO()
        self.frame.write_csv(file, include_header=False)
        return file.getvalue()


@dataclass(frozen=True, slots=True)
class Marked:
    """Lines each of which ends with a field more, a mark, by which Polars shows that it has found all before it."""

    text: bytes
    count: int

    def lines(self) -> bytes:
        """Return them as they were, without the marks."""
        *marked, rest = self.text.split(_MARK)
        return b"".join([piece[:-1] for piece in marked]) + rest


class Cutter:
    """Cuts blocks of lines of one width into fields.

    Its columns are named by their places. A field without a text is null, one of two quotation marks an empty text.

    Args:
        width: number of fields.
        separator: of the fields.

    Attributes:
        is_whole: true in a row that is one whole line.
    """

    def __init__(self, width: int, separator: bytes = COMMA) -> None:
        self._separator = separator
        self._schema = {str(place): pl.String for place in range(width + 1)}
        self._end = str(width)
        self.is_whole = pl.col(self._end).eq_missing(pl.lit(_MARK.decode()))
        self._closing = pl.Series([False, True])

    def marked(self, lines: bytes) -> Marked | None:
        """Put a mark at the end of whole lines, each with its line feed; None where one of them needs care."""
        end = _CARRIAGE_RETURN if lines.endswith(_CARRIAGE_RETURN + _LINE_FEED) else _LINE_FEED
        if (
            _MARK in lines
            or lines.startswith(BYTE_ORDER_MARK)
            or (end is _LINE_FEED and _CARRIAGE_RETURN in lines)
            or not is_text(lines)
        ):
            return None
        mark = self._separator + _MARK
        text = lines.replace(end, mark + end)
        count = (len(text) - len(lines)) // len(mark)
        if end is _CARRIAGE_RETURN and count != lines.count(_LINE_FEED):
            return None
        return Marked(text, count) if self._is_tidy(text) else None

    def _is_tidy(self, text: bytes) -> bool:
        """Return whether every quotation mark is where it belongs."""
        if _QUOTE not in text:
            return True
        # So that a letter is before each mark; one that is after it is there anyway.
        text = _LINE_FEED + text if text.startswith(_QUOTE) else text
        letters = pl.Series([text], dtype=pl.Binary).cast(pl.List(pl.UInt8)).explode()
        quotes = letters == _QUOTE[0]
        # Slices, which are views: shifting would copy, and be in two parts, over which Polars loses most of the time.
        before = letters.slice(0, letters.len() - 1).filter(quotes.slice(1))
        after = letters.slice(1).filter(quotes.slice(0, letters.len() - 1))
        opens_well, closes_well = (
            (beside == self._separator[0]) | (beside == _QUOTE[0]) | (beside == _LINE_FEED[0])
            for beside in (before, after)
        )
        # The first mark opens, the second one closes, and so on. What opens begins a field or follows what closes, as
        # in a doubled mark; what closes ends one or comes before what opens.
        while self._closing.len() < before.len():
            self._closing = pl.concat([self._closing, self._closing], rechunk=True)
        closing = self._closing.head(before.len())
        return closing.len() % 2 == 0 and (opens_well | closing).all() and (closes_well | ~closing).all()

    def fields(self, marked: Sequence[Marked]) -> pl.LazyFrame:
        """Return the fields of lines, and as many rows as they are; each is whole if `is_whole` says so of all."""
        texts = [some.text for some in marked]
        return pl.scan_csv(
            texts,
            has_header=False,
            separator=self._separator.decode(),
            schema=self._schema,
            infer_schema=False,
            quote_char='"' if any(_QUOTE in text for text in texts) else None,
        )

    def table(self, lines: bytes) -> pl.DataFrame | None:
        """Return all fields of whole lines; None where one of them needs care."""
        marked = self.marked(lines)
        if marked is None:
            return None
        try:
            frame = self.fields([marked]).with_columns(self.is_whole.alias(self._end)).collect()
        except DOUBTS:
            return None
        return frame.drop(self._end) if frame.height == marked.count and frame[self._end].all() else None


_WHOLE_PLACES, _PLACES = 12, 20
"""Digits of numbers before and after the point, of which a block adds up to no more than the 38 that Polars has."""

_MANTISSA = rf"[-+]?[0-9]{{1,{_WHOLE_PLACES}}}(?:\.[0-9]{{0,%d}})?"
_NUMBER = f"^{_MANTISSA}$"
_SCIENTIFIC = f"^{_MANTISSA}[eE][-+]?[012]?[0-9]$"
"""Numbers with an exponent that leaves them within the places of `number` for certain."""

_DATE = (
    "^[1-9][0-9]{3}-"
    "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
)
"""Dates that are in the calendar and in UTC for certain, so that their first letters are their month."""

_MONTH_LENGTH = len("2026-10")
_LINES, _ARE_WHOLE, _ARE_TIDY = "lines", "are whole", "are tidy"

RowT = TypeVar("RowT", bound=tuple[object, ...])


class Cut(NamedTuple):
    """Lines that Polars has begun to add up: how many they are, and their groups, once they are there.

    Attributes:
        groups: None where Polars finds that a line needs care.
    """

    lines: int
    groups: Future[pl.DataFrame | None]


class Summer(Generic[RowT]):
    """Adds up lines of blocks and tables: those that differ in nothing but their numbers become one row.

    Args:
        header: of the file.
        parts: what the shape asks for.
        shape: what rows become; it has to have a `Count`.
        at_once: blocks that are worked on at a time.
    """

    def __init__(self, header: Header, parts: Sequence[Part], shape: type[RowT], at_once: int) -> None:
        self._cutter = Cutter(len(header.names), header.separator)
        self._workers = ThreadPoolExecutor(at_once)
        self._parts = parts
        self._shared = [part for part in parts if not part.varies and not part.is_count]
        self._texts = _Texts(self._shared)
        varying = [part.wanted[0] for part in parts if part.varies]
        self._dates = {item.place: _Dates(item, item.fields) for item in varying if isinstance(item.fields, Instants)}
        self._amounts = {item.place: _Amounts(item) for item in varying if item.place not in self._dates}
        self._make: Callable[[Iterable[object]], RowT] = partial(tuple.__new__, shape)

    def marked(self, lines: bytes) -> Marked | None:
        """Mark whole lines; None where one of them needs care."""
        return self._cutter.marked(lines)

    def begin(self, marked: Sequence[Marked | bytes]) -> Cut | None:
        """Let Polars begin to add up lines, of which some are marked together; None where one of them needs care."""
        known = [some for some in marked if isinstance(some, Marked)]
        if len(known) < len(marked):
            return None
        return Cut(sum(some.count for some in known), self._workers.submit(self._groups_of, known))

    def _groups_of(self, marked: Sequence[Marked]) -> pl.DataFrame | None:
        groups = self._grouped(self._cutter.fields(marked), self._cutter.is_whole)
        lines = sum(some.count for some in marked)
        return groups if groups is not None and groups[_LINES].sum() == lines else None

    def rows(self, cut: Cut) -> list[RowT] | None:
        """Return the rows of lines that have been begun; None where one of them needs care."""
        return self._made(cut.groups.result)

    def rows_of(self, table: Table) -> list[RowT] | None:
        """Return the rows of a table; None where one of its lines needs care."""
        return self._made(lambda: self._grouped(table.frame.lazy(), pl.lit(value=True)))

    def _made(self, groups_of: Callable[[], pl.DataFrame | None]) -> list[RowT] | None:
        counted = [date.fields.naive for date in self._dates.values()]
        try:
            groups = groups_of()
            return None if groups is None else self._rows(groups)
        except (UnreadableError, *DOUBTS):
            for date, naive in zip(self._dates.values(), counted, strict=True):
                date.fields.naive = naive
            return None

    def _grouped(self, fields: pl.LazyFrame, is_whole: pl.Expr) -> pl.DataFrame | None:
        """Add up lines of which texts, dates and odd numbers are the same; None where one of them is not whole."""
        dates, amounts = self._dates.values(), self._amounts.values()
        while True:
            # Blocks are worked on at the same time, so that another one may find odd numbers meanwhile.
            odd = [amount for amount in amounts if amount.has_others]
            tidy = [amount for amount in amounts if amount not in odd]
            keys = [pl.col(name) for name in self._texts.names]
            keys += [date.key() for date in dates]
            keys += [key for amount in odd for key in amount.others()]
            sums = [*(amount.sum() for amount in tidy), *(amount.sum_beside_others() for amount in odd)]
            are_tidy = pl.all_horizontal(is_whole, *(amount.is_known for amount in tidy))
            grouped = fields.group_by(keys or pl.lit(0).alias("all"), maintain_order=True)
            aggregated = grouped.agg(pl.len().alias(_LINES), are_tidy.all().alias(_ARE_TIDY), *sums)
            groups = aggregated.collect(engine="streaming")
            if groups[_ARE_TIDY].all():
                return groups
            found = fields.select(
                is_whole.all().alias(_ARE_WHOLE), *(amount.is_known.all().alias(amount.name) for amount in tidy)
            ).collect(engine="streaming")
            new = [amount for amount in tidy if not found[amount.name].item()]
            if not new or not found[_ARE_WHOLE].item():
                return None
            # Where numbers are odd, those of later blocks will be as well.
            for amount in new:
                amount.has_others = True

    def _rows(self, groups: pl.DataFrame) -> list[RowT]:
        lines: list[int] = groups[_LINES].to_list()
        shared = self._texts.of(groups)
        columns = (self._column(part, groups, lines, shared) for part in self._parts)
        return list(map(self._make, zip(*columns, strict=True)))

    def _column(
        self, part: Part, groups: pl.DataFrame, lines: Sequence[int], shared: Sequence[tuple[object, ...]]
    ) -> Iterable[object]:
        if part.is_count:
            return lines
        if not part.varies:
            return map(itemgetter(self._shared.index(part)), shared)
        place = part.wanted[0].place
        date = self._dates.get(place)
        return self._amounts[place].of(groups, lines) if date is None else date.of(groups, lines)


class _Dates:
    """A column of dates. Where only their months are wanted, Polars takes those that it knows for these."""

    def __init__(self, wanted: Wanted, fields: Instants) -> None:
        self.fields = fields
        self._name = str(wanted.place)
        self._key = f"{wanted.place} key"

    def key(self) -> pl.Expr:
        """Return what lines are told apart by."""
        text = pl.col(self._name)
        if self.fields.are_months:
            # What is as short as a month is no date, and as good as none.
            other = pl.when(text.str.len_bytes() != _MONTH_LENGTH).then(text)
            text = pl.when(text.str.contains(_DATE)).then(text.str.head(_MONTH_LENGTH)).otherwise(other)
        return text.alias(self._key)

    def of(self, groups: pl.DataFrame, lines: Sequence[int]) -> list[Value]:
        """Return the dates of groups of so many lines, and count the lines of those without a time zone.

        Raises:
            UnreadableError: a text is no date.
        """
        return [self._value(text, count) for text, count in zip(groups[self._key], lines, strict=True)]

    def _value(self, text: str | None, lines: int) -> Value:
        if self.fields.are_months and text is not None and len(text) == _MONTH_LENGTH:
            year, _, month = text.partition("-")
            return Month(int(year), int(month))
        return self.fields.of_lines(quoted(text or ""), lines)


class _Amounts:
    """A column of numbers.

    Attributes:
        name: of the column.
        is_known: true in a row of which the pattern knows the number.
        has_others: true once there has been a text that it does not know.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.name = str(wanted.place)
        self.has_others = False
        self._sums = f"{wanted.place} sum"
        self._others = f"{wanted.place} other"
        self._exponents = f"{wanted.place} exponent"
        self._text = pl.col(self.name)
        self._wanted = wanted
        self._is_scaled = isinstance(wanted.fields, ScaledNumbers)
        places = wanted.fields.places if isinstance(wanted.fields, ScaledNumbers) else _PLACES
        decimal = pl.Decimal(38, places)
        self._values = self._text.cast(decimal, strict=False)
        self._mantissas = self._text.str.extract("^([^eE]+)").cast(decimal, strict=False)
        self.is_known = self._text.str.contains(_NUMBER % places).fill_null(value=False)
        # Those that are rounded are rounded one by one.
        is_scientific = self._text.str.contains(_SCIENTIFIC % places).fill_null(value=False)
        self._is_scientific = pl.lit(value=False) if self._is_scaled else is_scientific

    def others(self) -> tuple[pl.Expr, pl.Expr]:
        """Return what tells numbers apart that the pattern does not know: their exponents, or else their texts."""
        exponents = pl.when(self._is_scientific).then(self._text.str.extract("[eE](.+)$"))
        texts = pl.when(~self.is_known & ~self._is_scientific).then(self._text.fill_null(""))
        return exponents.alias(self._exponents), texts.alias(self._others)

    def sum(self) -> pl.Expr:
        """Return the sum of a group all of whose numbers the pattern knows."""
        return self._values.sum().alias(self._sums)

    def sum_beside_others(self) -> pl.Expr:
        """Return the sum of the numbers of a group that the pattern knows, or of the mantissas of one exponent."""
        known = pl.when(self.is_known).then(self._values).when(self._is_scientific).then(self._mantissas)
        return known.sum().alias(self._sums)

    def of(self, groups: pl.DataFrame, lines: Iterable[int]) -> Iterable[Value]:
        """Return the sums of groups of so many lines.

        Raises:
            UnreadableError: a text is no number.
        """
        sums = groups[self._sums]
        amounts: list[Value] = (sums.to_physical() if self._is_scaled else sums).to_list()
        if self._others not in groups.columns:
            return amounts
        others = zip(amounts, groups[self._exponents], groups[self._others], lines, strict=True)
        return [
            self._times(text, count)
            if text is not None
            else amount
            if exponent is None or not isinstance(amount, Decimal)
            else EXACTLY.scaleb(amount, int(exponent))
            for amount, exponent, text, count in others
        ]

    def _times(self, text: str, lines: int) -> Value:
        value = self._wanted.value(quoted(text))
        if isinstance(value, Decimal):
            return EXACTLY.multiply(value, lines)
        return value * lines if isinstance(value, int) else None


class _Texts(Remembered[str]):
    """Values of a row's texts; texts that repeat are read once.

    Attributes:
        names: of their columns.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self._parts = parts
        self._places = sorted({item.place for part in parts for item in part.wanted if item.place is not None})
        self.names = [str(place) for place in self._places]

    def __missing__(self, texts: tuple[str, ...]) -> tuple[object, ...]:
        """Read a combination that is not remembered.

        Raises:
            UnreadableError: a text is null and must not be, or no value of its column.
        """
        raws = dict(zip(self._places, map(quoted, texts), strict=True))
        reading = tuple(part.value(raws) for part in self._parts)
        self.remember(texts, reading)
        return reading

    def of(self, groups: pl.DataFrame) -> list[tuple[object, ...]]:
        """Return what the texts of the groups are.

        Raises:
            UnreadableError: as for a single one.
        """
        # Without a column there would be no rows either.
        keys = groups.select(pl.col(self.names).fill_null("")).iter_rows() if self.names else repeat((), groups.height)
        return list(map(self.__getitem__, keys))
