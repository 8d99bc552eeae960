"""Tables and sums of large blocks with Polars, an optional extra.

Polars is made for tidy files and silently makes the best of others. So it has its say only where nothing can be read in
two ways: every line is a whole record, and every quotation mark encloses a field or is doubled within one. Both is
proved with Polars too, byte by byte but many at once, so that no block is looked at twice. Numbers are told by a
pattern and added up as decimals, never as floats; those that are written in another way are read here, each text once.
All else is left to `exporter.focus.reader`, which comes to the same sums.
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
import polars.selectors as cs

from exporter.focus.csv_parser import BYTE_ORDER_MARK, COMMA, Remembered, is_text, quoted
from exporter.focus.row_schema import Header, Instants, Part, ScaledNumbers, UnreadableError, Wanted
from exporter.focus.values import EXACTLY, Value

_MARK = b"\x01"
_QUOTE, _LINE_FEED = b'"', b"\n"
_IS_WHOLE = "is whole"
_PROVED_TOGETHER = 2 << 20

Work = Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a Parquet file, as the texts that a CSV file would have; columns are named by their places."""

    frame: pl.DataFrame

    def csv(self) -> bytes:
        """Return them as lines of CSV."""
        file = io.BytesIO()
        self.frame.write_csv(file, include_header=False)
        return file.getvalue()


class Cut(NamedTuple):
    """Lines that Polars cuts into fields: how many they are, and what has been asked of them, once it is there.

    Attributes:
        frame: None where Polars finds that a line needs care.
    """

    lines: int
    frame: Future[pl.DataFrame | None]

    def whole(self) -> pl.DataFrame | None:
        """Return the frame if it has all lines, else None."""
        try:
            frame = self.frame.result()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return None
        return None if frame is None or frame.height != self.lines else frame


class Cutter:
    """Cuts blocks of lines of one width into fields.

    Its columns are named by their places. A field without a text is null, one of two quotation marks an empty text.

    Args:
        width: number of fields.
        separator: of the fields.

    Attributes:
        size: bytes of the lines that have been added.
    """

    def __init__(self, width: int, separator: bytes = COMMA) -> None:
        self._separator = separator
        self._end_of_line = separator + _MARK + _LINE_FEED
        self._schema = {str(place): pl.String for place in range(width + 1)}
        self._end = str(width)
        self._closing = pl.Series([False, True])
        self._worker = ThreadPoolExecutor(1)
        self._clear()

    def _clear(self) -> None:
        self._added: list[bytes] = []
        self._unproved: list[bytes] = []
        self._unproved_size = 0
        self._is_tidy = True
        self._is_quoted = False
        self._lines = 0
        self.size = 0

    def add(self, lines: bytes) -> int:
        """Add whole lines, each with its line feed; return how many they are."""
        self.size += len(lines)
        # All is done while the lines are in the cache of the processor, so a mark is put at the end of each here.
        marked = lines.replace(_LINE_FEED, self._end_of_line)
        count = (len(marked) - len(lines)) // (len(self._end_of_line) - len(_LINE_FEED))
        if b"\r" in marked:
            marked = marked.replace(b"\r" + self._end_of_line, self._end_of_line)
            self._is_tidy = self._is_tidy and b"\r" not in marked
        self._is_tidy = (
            self._is_tidy and _MARK not in lines and not lines.startswith(BYTE_ORDER_MARK) and is_text(lines)
        )
        self._lines += count
        self._added.append(marked)
        if _QUOTE in lines:
            self._unproved.append(marked)
            self._unproved_size += len(marked)
            if self._unproved_size >= _PROVED_TOGETHER:
                self._prove()
        return count

    def _prove(self) -> None:
        """Note whether every quotation mark is where it belongs."""
        texts, self._unproved, self._unproved_size = self._unproved, [], 0
        if not self._is_tidy or not texts:
            return
        self._is_quoted = True
        letters = pl.Series(texts, dtype=pl.Binary).cast(pl.List(pl.UInt8)).explode()
        quotes = letters == _QUOTE[0]
        # The first mark opens, the second one closes, and so on. What opens begins a field or follows what closes, as
        # in a doubled mark; what closes ends one or comes before what opens.
        before, after = (letters.shift(by, fill_value=_LINE_FEED[0]).filter(quotes) for by in (1, -1))
        opens_well, closes_well = (
            (beside == self._separator[0]) | (beside == _QUOTE[0]) | (beside == _LINE_FEED[0])
            for beside in (before, after)
        )
        while self._closing.len() < before.len():
            self._closing = pl.concat([self._closing, self._closing], rechunk=True)
        closing = self._closing.head(before.len())
        self._is_tidy = closing.len() % 2 == 0 and (opens_well | closing).all() and (closes_well | ~closing).all()

    def begin(self, work: Work) -> Cut | None:
        """Begin to cut the lines that have been added, and to do some work on them; None where one of them needs care.

        Args:
            work: selects and calculates columns; the rows stay.
        """
        self._prove()
        cut = None
        if self._is_tidy and self._added:
            added, is_quoted = self._added, self._is_quoted
            frame = self._worker.submit(self._collected, added, work, is_quoted=is_quoted)
            cut = Cut(self._lines, frame)
        self._clear()
        return cut

    def _collected(self, added: Sequence[bytes], work: Work, *, is_quoted: bool) -> pl.DataFrame | None:
        """Cut lines; None unless every one has as many fields as it must have: its mark comes right after the last."""
        fields = pl.scan_csv(
            b"".join(added),
            has_header=False,
            separator=self._separator.decode(),
            schema=self._schema,
            infer_schema=False,
            quote_char='"' if is_quoted else None,
        )
        is_whole = pl.col(self._end).eq_missing(pl.lit(_MARK.decode()))
        frame = work(fields.with_columns(is_whole.alias(_IS_WHOLE))).collect()
        return frame.drop(_IS_WHOLE, self._end, strict=False) if frame[_IS_WHOLE].all() else None


_WHOLE_PLACES, _PLACES = 12, 20
"""Digits of numbers before and after the point, of which a block adds up to no more than the 38 that Polars has."""

_NUMBER = rf"^[-+]?[0-9]{{1,{_WHOLE_PLACES}}}(?:\.[0-9]{{0,%d}})?$"
_LARGEST = 10**_WHOLE_PLACES
_UTC = "Z"
_MONTH_LENGTH = len("2026-10")
_LINES = "lines"

RowT = TypeVar("RowT", bound=tuple[object, ...])


class Summer(Generic[RowT]):
    """Adds up lines of blocks and tables: those that differ in nothing but their numbers become one row.

    The shape has to have a `Count`.

    Attributes:
        cutter: takes the lines.
    """

    def __init__(self, header: Header, parts: Sequence[Part], shape: type[RowT]) -> None:
        self.cutter = Cutter(len(header.names), header.separator)
        self._parts = parts
        self._shared = [part for part in parts if not part.varies and not part.is_count]
        self._texts = _Texts(self._shared)
        varying = [part.wanted[0] for part in parts if part.varies]
        self._dates = {item.place: _Dates(item, item.fields) for item in varying if isinstance(item.fields, Instants)}
        self._amounts = {item.place: _Amounts(item) for item in varying if item.place not in self._dates}
        self._make: Callable[[Iterable[object]], RowT] = partial(tuple.__new__, shape)

    def begin(self) -> Cut | None:
        """Let Polars begin to read the lines that have been added; None where one of them needs care."""
        return self.cutter.begin(self._columns)

    def rows(self, cut: Cut) -> list[RowT] | None:
        """Return the rows of lines that have been begun; None where one of them needs care."""
        columns = cut.whole()
        return None if columns is None else self._added_up(columns)

    def rows_of(self, table: Table) -> list[RowT] | None:
        """Return the rows of a table; None where one of its lines needs care."""
        return self._added_up(self._columns(table.frame.lazy()).collect())

    def _added_up(self, columns: pl.DataFrame) -> list[RowT] | None:
        counted = [date.fields.naive for date in self._dates.values()]
        try:
            for date in self._dates.values():
                date.read(columns)
            return self._rows(self._grouped(columns))
        except (UnreadableError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
            for date, naive in zip(self._dates.values(), counted, strict=True):
                date.fields.naive = naive
            return None

    def _columns(self, fields: pl.LazyFrame) -> pl.LazyFrame:
        """Return what lines are told apart and added up by, and what else the frame says of them."""
        dates, amounts = self._dates.values(), self._amounts.values()
        names = (*self._texts.names, *(date.name for date in dates), *(amount.name for amount in amounts))
        return fields.select(
            cs.by_name(_IS_WHOLE, require_all=False),
            *dict.fromkeys(names),
            *(amount.values() for amount in amounts),
        )

    def _grouped(self, columns: pl.DataFrame) -> pl.DataFrame:
        """Add up lines of which texts, dates and odd numbers are the same."""
        columns = columns.with_columns(date.key() for date in self._dates.values())
        for amount in self._amounts.values():
            columns = amount.told_apart(columns)
        keys = [*self._texts.names, *(date.key_name for date in self._dates.values())]
        keys += [amount.others for amount in self._amounts.values() if amount.others in columns.columns]
        # What all lines have in common need not be compared line by line.
        common = (
            columns.select(pl.col(key).eq_missing(pl.col(key).first()).all() for key in keys).row(0) if keys else ()
        )
        varying = [key for key, is_common in zip(keys, common, strict=True) if not is_common]
        grouped = columns.group_by(varying or pl.lit(0).alias("all"), maintain_order=True)
        sums = [pl.col(amount.sums).sum() for amount in self._amounts.values()]
        groups = grouped.agg(*sums, pl.len().alias(_LINES))
        return groups.with_columns(pl.lit(columns[key][0], pl.String).alias(key) for key in keys if key not in varying)

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
        return self._amounts[place].of(groups, lines) if date is None else date.of(groups)


class _Dates:
    """A column of dates. Where only their months are wanted, Polars takes those in UTC for their first letters."""

    def __init__(self, wanted: Wanted, fields: Instants) -> None:
        self.fields = fields
        self.name = str(wanted.place)
        self.key_name = f"{wanted.place} key"
        self._by_key: dict[str | None, Value] = {}
        self._are_utc = False

    def key(self) -> pl.Expr:
        """Return what lines are told apart by, once the texts have been read."""
        text = pl.col(self.name)
        if self.fields.are_months:
            month = text.str.head(_MONTH_LENGTH)
            text = month if self._are_utc else pl.when(text.str.ends_with(_UTC)).then(month).otherwise(text)
        return text.alias(self.key_name)

    def read(self, columns: pl.DataFrame) -> None:
        """Read the different texts, and count how many lines have those without a time zone.

        Raises:
            UnreadableError: a text is no date, or looks like another one by its first letters.
        """
        texts: list[str | None] = columns[self.name].unique().to_list()
        self._are_utc = all(text is not None and text.endswith(_UTC) for text in texts)
        counts = {} if self._are_utc else dict(columns.group_by(self.name).agg(pl.len()).iter_rows())
        self._by_key = {}
        for text in texts:
            value = self.fields.of_lines(quoted(text or ""), counts.get(text, 0))
            if self._by_key.setdefault(self._key(text), value) != value:
                raise UnreadableError("begins like a date that it is not")

    def _key(self, text: str | None) -> str | None:
        return text[:_MONTH_LENGTH] if text is not None and self.fields.are_months and text.endswith(_UTC) else text

    def of(self, groups: pl.DataFrame) -> Iterable[Value]:
        """Return the dates of the groups."""
        return map(self._by_key.__getitem__, groups[self.key_name])


class _Amounts:
    """A column of numbers.

    Attributes:
        sums: the name under which those are added up that the pattern knows.
        others: the name of the texts of the others; null for those that it knows.
        name: of the texts.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.sums = f"{wanted.place} sum"
        self.others = f"{wanted.place} other"
        self.name = str(wanted.place)
        self._wanted = wanted
        self._is_scaled = isinstance(wanted.fields, ScaledNumbers)
        self._places = wanted.fields.places if isinstance(wanted.fields, ScaledNumbers) else _PLACES

    def values(self) -> pl.Expr:
        """Return what Polars takes the texts for; null for no number."""
        return pl.col(self.name).cast(pl.Decimal(38, self._places), strict=False).alias(self.sums)

    def told_apart(self, columns: pl.DataFrame) -> pl.DataFrame:
        """Put the texts of numbers that the pattern does not know apart, if there are any."""
        texts, values = columns[self.name], columns[self.sums]
        if self._are_short(texts, values):
            return columns
        are_known = texts.str.contains(_NUMBER % self._places).fill_null(value=False)
        if are_known.all():
            return columns
        return columns.with_columns(
            pl.when(are_known).then(values).alias(self.sums),
            pl.when(~are_known).then(texts.fill_null("")).alias(self.others),
        )

    def _are_short(self, texts: pl.Series, values: pl.Series) -> bool:
        """Return whether all are numbers and so short that none can need the pattern, which takes longer."""
        if values.null_count() or not (texts.str.len_bytes() <= self._places + len(".")).all():
            return False
        together: str = texts.str.join("").item()
        return "e" not in together and "E" not in together and bool(values.is_between(-_LARGEST, _LARGEST).all())

    def of(self, groups: pl.DataFrame, lines: Iterable[int]) -> Iterable[Value]:
        """Return the sums of groups of so many lines.

        Raises:
            UnreadableError: a text is no number.
        """
        sums = groups[self.sums]
        amounts: list[Value] = (sums.to_physical() if self._is_scaled else sums).to_list()
        if self.others not in groups.columns:
            return amounts
        others = zip(amounts, groups[self.others], lines, strict=True)
        return [amount if text is None else self._times(text, count) for amount, text, count in others]

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
