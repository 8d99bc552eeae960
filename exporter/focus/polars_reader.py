"""Summing of large blocks with Polars, an optional extra.

Polars is made for tidy files and silently makes the best of others. So it has its say only where nothing can be read in
two ways: every line is a whole record, every quotation mark encloses a field or is doubled within one, and a mark that
is put at the end of each line comes out right after the last field, which proves that all have been found. Numbers are
told by a pattern and added up as decimals, never as floats; those that are written in another way are read here, each
text once. All else is left to `exporter.focus.reader`, which comes to the same sums.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from itertools import repeat
from operator import itemgetter
from threading import Event
from typing import Generic, NamedTuple, TypeVar

import polars as pl

from exporter.focus.csv_parser import BYTE_ORDER_MARK, Remembered, is_text
from exporter.focus.row_schema import Header, Instants, Part, ScaledNumbers, UnreadableError, Wanted
from exporter.focus.values import EXACTLY, Value

_MARK = b"\x01"


def _well_quoted(separator: bytes) -> re.Pattern[bytes]:
    """Return the pattern of lines in which every quotation mark encloses a field, or is doubled within one.

    Doubled quotes, which in JSON come in pairs, are taken in pairs: that is faster.
    """
    ends = re.escape(separator) + rb"\n"
    return re.compile(
        rb'[^"]*+(?:(?<![^' + ends + rb'])"[^"]*+(?:""[^"]*+""[^"]*+)*+(?:""[^"]*+)?+"[' + ends + rb'][^"]*+)*+'
    )


_WHOLE_PLACES = 12
"""Digits that a number may have before its point: with 20 after it, a block of them adds up to 38, as Polars can."""

_PLACES = 20
_UTC = "Z"
_MONTH_LENGTH = len("2026-10")
_LINES = "lines"
_ARE_WHOLE = "are whole"

RowT = TypeVar("RowT", bound=tuple[object, ...])


class Cut(NamedTuple):
    """Lines that Polars cuts into fields and adds up: how many they are, and the sums, once it has.

    Attributes:
        owner: what has begun with them.
    """

    owner: object
    lines: int
    frames: Future[list[pl.DataFrame] | None]


class PolarsLines(Generic[RowT]):
    """Makes rows of blocks of tidy lines, in two steps: while Polars works on one block, another can be begun.

    The shape has to have a `Count`.
    """

    def __init__(self, header: Header, parts: Sequence[Part], shape: type[RowT]) -> None:
        width = len(header.names)
        self._separator = header.separator
        self._well_quoted = _well_quoted(header.separator)
        self._schema = {str(place): pl.String for place in range(width + 1)}
        self._mark = str(width)
        self._parts = parts
        self._shared = [part for part in parts if not part.varies and not part.is_count]
        self._texts = _Texts(self._shared)
        varying = [part.wanted[0] for part in parts if part.varies]
        self._dates = {item.place: _Dates(item, item.fields) for item in varying if isinstance(item.fields, Instants)}
        self._amounts = {item.place: _Amounts(item) for item in varying if item.place not in self._dates}
        self._make: Callable[[Iterable[object]], RowT] = partial(tuple.__new__, shape)
        self._worker = ThreadPoolExecutor(1)

    def begin(self, block: bytes) -> Cut | None:
        """Let Polars begin to cut whole lines into the fields that are wanted; None where one of them needs care."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if b"\r" in block or not is_text(block) or block.startswith(BYTE_ORDER_MARK):
            return None
        is_quoted = b'"' in block
        if _MARK in block:
            return None
        text = block.replace(b"\n", self._separator + _MARK + b"\n")
        query = pl.scan_csv(
            text,
            has_header=False,
            separator=self._separator.decode(),
            schema=self._schema,
            infer_schema=False,
            quote_char='"' if is_quoted else None,
        )
        # While Polars works it does without Python, which looks at the quotation marks. So it gets all at once.
        frames = self._worker.submit(self._collected, self._columns(query), began := Event())
        began.wait()
        if is_quoted and not self._well_quoted.fullmatch(block):
            return None
        return Cut(self, (len(text) - len(block)) // (len(self._separator) + len(_MARK)), frames)

    def rows(self, cut: Cut) -> list[RowT] | None:
        """Return the rows of lines that have been begun; None where one of them needs care."""
        counted = [date.fields.naive for date in self._dates.values()]
        try:
            frames = cut.frames.result()
            if frames is None or frames[0][_LINES].sum() != cut.lines:
                return None
            groups, *dates = frames
            for date, texts in zip(self._dates.values(), dates, strict=True):
                date.read(texts)
            return self._rows(groups)
        except (UnreadableError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
            for date, naive in zip(self._dates.values(), counted, strict=True):
                date.fields.naive = naive
            return None

    def _columns(self, fields: pl.LazyFrame) -> pl.LazyFrame:
        """Return what lines are told apart and added up by."""
        end = pl.col(self._mark).eq_missing(pl.lit(_MARK.decode()))
        return fields.select(
            end.alias(_ARE_WHOLE),
            *(
                pl.col(name).fill_null("")
                for name in (*self._texts.names, *(date.name for date in self._dates.values()))
            ),
            *(date.key() for date in self._dates.values()),
            *(column for amount in self._amounts.values() for column in amount.columns()),
        )

    def _grouped(self, columns: pl.DataFrame) -> list[pl.DataFrame]:
        """Add up lines of which texts, dates and odd numbers are the same; and count those of each date."""
        dates, amounts = self._dates.values(), self._amounts.values()
        # Most blocks have no odd numbers.
        others = [amount.others for amount in amounts if columns[amount.others].null_count() < columns.height]
        keys = [*self._texts.names, *(date.key_name for date in dates), *others]
        sums = [pl.col(amount.sums).sum() for amount in amounts]
        rest = [pl.lit(None, pl.String).alias(amount.others) for amount in amounts if amount.others not in others]
        lines = pl.len().alias(_LINES)
        groups = (
            columns.group_by(keys or pl.lit(0).alias("all"), maintain_order=True).agg(*sums, lines).with_columns(rest)
        )
        return [groups, *(columns.group_by(date.name).agg(lines) for date in dates)]

    def _collected(self, query: pl.LazyFrame, began: Event) -> list[pl.DataFrame] | None:
        began.set()
        columns = query.collect()
        return self._grouped(columns) if columns[_ARE_WHOLE].all() else None

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
        self._by_key: dict[str, Value] = {}

    def key(self) -> pl.Expr:
        """Return what lines are told apart by."""
        text = pl.col(self.name).fill_null("")
        if self.fields.are_months:
            text = pl.when(text.str.ends_with(_UTC)).then(text.str.head(_MONTH_LENGTH)).otherwise(text)
        return text.alias(self.key_name)

    def read(self, texts: pl.DataFrame) -> None:
        """Take the texts of a block, with how many lines have each.

        Raises:
            UnreadableError: a text is no date, or looks like another one by its first letters.
        """
        self._by_key = {}
        for text, lines in texts.iter_rows():
            value = self.fields.of_lines(text, lines)
            if self._by_key.setdefault(self._key(text), value) != value:
                raise UnreadableError("begins like a date that it is not")

    def _key(self, text: str) -> str:
        return text[:_MONTH_LENGTH] if self.fields.are_months and text.endswith(_UTC) else text

    def of(self, groups: pl.DataFrame) -> Iterable[Value]:
        """Return the dates of the groups."""
        return map(self._by_key.__getitem__, groups[self.key_name])


class _Amounts:
    """A column of numbers.

    Attributes:
        sums: the name under which those are added up that the pattern knows.
        others: the name of the texts of the others; null for those that it knows.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.sums = f"{wanted.place} sum"
        self.others = f"{wanted.place} other"
        self._wanted = wanted
        self._scale = wanted.fields.places if isinstance(wanted.fields, ScaledNumbers) else None

    def columns(self) -> Iterable[pl.Expr]:
        """Return the numbers, and the texts of the others."""
        places = _PLACES if self._scale is None else self._scale
        text = pl.col(str(self._wanted.place)).fill_null("")
        is_plain = text.str.contains(rf"^[-+]?[0-9]{{1,{_WHOLE_PLACES}}}(?:\.[0-9]{{0,{places}}})?$")
        yield pl.when(is_plain).then(text.cast(pl.Decimal(38, places), strict=False)).alias(self.sums)
        yield pl.when(~is_plain).then(text).alias(self.others)

    def of(self, groups: pl.DataFrame, lines: Iterable[int]) -> Iterable[Value]:
        """Return the sums of groups of so many lines.

        Raises:
            UnreadableError: a text is no number.
        """
        sums = groups[self.sums]
        amounts: list[Value] = (sums if self._scale is None else sums.to_physical()).to_list()
        if groups[self.others].null_count() == groups.height:
            return amounts
        others = zip(amounts, groups[self.others], lines, strict=True)
        return [amount if text is None else self._times(text, count) for amount, text, count in others]

    def _times(self, text: str, lines: int) -> Value:
        value = self._wanted.of_text(text)
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
        by_place = dict(zip(self._places, texts, strict=True))
        reading = tuple(part.of_texts(by_place) for part in self._parts)
        self.remember(texts, reading)
        return reading

    def of(self, groups: pl.DataFrame) -> list[tuple[object, ...]]:
        """Return what the texts of the groups are.

        Raises:
            UnreadableError: as for a single one.
        """
        # Without a column there would be no rows either.
        keys = groups.select(self.names).iter_rows() if self.names else repeat((), groups.height)
        return list(map(self.__getitem__, keys))
