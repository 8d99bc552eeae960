"""The fast way through large blocks, for shapes that can be added up: Polars, an optional extra, makes one row of many.

Polars is made for tidy files and silently makes the best of others. So it has its say only where nothing can be read in
two ways: every line is a whole record, every quotation mark encloses a field or is doubled within one, and a mark that
is put at the end of each line comes out right after the last field, which proves that all have been found. Numbers are
told by a pattern and added up as decimals, never as floats; those that are written in another way are read here, each
text once. All else is left to `exporter.focus.plain`, which comes to the same sums.
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

from exporter.focus.dialect import BYTE_ORDER_MARK, is_text
from exporter.focus.header import Header
from exporter.focus.remembered import Remembered
from exporter.focus.shape import Instants, Nanos, Part, UnreadableError, Wanted
from exporter.focus.values import EXACTLY, Value

_MARK = b"\x01"
_WELL_QUOTED = re.compile(rb'[^"]*+(?:(?<![^,\n])"[^"]*+(?:""[^"]*+""[^"]*+)*+(?:""[^"]*+)?+",[^"]*+)*+')
"""Doubled quotes, which in JSON come in pairs, are taken in pairs: that is faster."""

_WHOLE_PLACES = 12
"""Digits that a number may have before its point: with 20 after it, a block of them adds up to 38, as Polars can."""

_PLACES = 20
_NANO_PLACES = 9
_LINES = "lines"

RowT = TypeVar("RowT", bound=tuple[object, ...])


class _UntidyError(Exception):
    """Lines are not as tidy as they have to be here."""


class Cut(NamedTuple):
    """Lines that Polars cuts into fields: how many they are, and the fields, once it has."""

    lines: int
    frame: Future[pl.DataFrame]


class PolarsLines(Generic[RowT]):
    """Makes rows of blocks of tidy lines, in two steps: while Polars works on one block, another can be begun.

    The shape has to have a `Count`.
    """

    def __init__(self, header: Header, parts: Sequence[Part], shape: type[RowT]) -> None:
        self._end = str(len(header.names))
        self._schema = {str(place): pl.String for place in range(len(header.names) + 1)}
        self._parts = parts
        self._shared = [part for part in parts if not part.varies and not part.is_count]
        self._texts = _Texts(self._shared)
        varying = [part.wanted[0] for part in parts if part.varies]
        self._dates = {it.place: _Dates(it, it.fields) for it in varying if isinstance(it.fields, Instants)}
        self._amounts = {it.place: _Amounts(it) for it in varying if it.place not in self._dates}
        self._make: Callable[[Iterable[object]], RowT] = partial(tuple.__new__, shape)
        self._worker = ThreadPoolExecutor(1)

    def begin(self, texts: Sequence[bytes]) -> Cut | None:
        """Let Polars begin to cut whole lines into the fields that are wanted; None where one of them needs care."""
        try:
            marked, counts = zip(*map(_marked, texts), strict=True)
        except _UntidyError:
            return None
        if marked[0].startswith(BYTE_ORDER_MARK):
            return None
        is_quoted = any(b'"' in text for text in marked)
        query = pl.scan_csv(
            b"".join(marked),
            has_header=False,
            schema=self._schema,
            infer_schema=False,
            empty_string_is_null=False,
            quote_char='"' if is_quoted else None,
        )
        amounts = (column for it in self._amounts.values() for column in it.columns())
        names = (*self._texts.names, *(it.name for it in self._dates.values()))
        query = query.select(self._end, *names, *amounts)
        # While Polars works it does without Python, which looks at the quotation marks.
        frame = self._worker.submit(_collected, query, began := Event())
        began.wait()
        is_tidy = not is_quoted or all(map(_WELL_QUOTED.fullmatch, marked))
        return Cut(sum(counts), frame) if is_tidy else None

    def rows(self, cut: Cut) -> list[RowT] | None:
        """Return the rows of lines that have been begun; None where one of them needs care."""
        counted = [it.fields.naive for it in self._dates.values()]
        try:
            frame = cut.frame.result()
            if frame.height != cut.lines or (frame[self._end] != _MARK.decode()).any():
                return None
            return self._rows(frame)
        except (UnreadableError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
            for it, naive in zip(self._dates.values(), counted, strict=True):
                it.fields.naive = naive
            return None

    def _rows(self, frame: pl.DataFrame) -> list[RowT]:
        keys = list(self._texts.names)
        for date in self._dates.values():
            frame = date.numbered(frame)
            keys += [] if date.is_single else [date.name]
        for amount in self._amounts.values():
            if not amount.are_plain(frame):
                frame = amount.told_apart(frame)
                keys.append(amount.others)
        sums = [pl.col(it.sums).sum() for it in self._amounts.values()]
        groups = frame.group_by(keys or self._end, maintain_order=True).agg(*sums, pl.len().alias(_LINES))
        shared = self._texts.of(groups)
        return list(map(self._make, zip(*(self._column(part, groups, shared) for part in self._parts), strict=True)))

    def _column(self, part: Part, groups: pl.DataFrame, shared: Sequence[tuple[object, ...]]) -> Iterable[object]:
        if part.is_count:
            lines: list[int] = groups[_LINES].to_list()
            return lines
        if not part.varies:
            return map(itemgetter(self._shared.index(part)), shared)
        place = part.wanted[0].place
        return (self._dates.get(place) or self._amounts[place]).of(groups)


def _collected(query: pl.LazyFrame, began: Event) -> pl.DataFrame:
    began.set()
    return query.collect()


def _marked(lines: bytes) -> tuple[bytes, int]:
    """Put the mark before the end of every line, and tell how many lines they are.

    Raises:
        _UntidyError: that would not do.
    """
    if b"\r" in lines:
        lines = lines.replace(b"\r\n", b"\n")
    if b"\r" in lines or _MARK in lines or not is_text(lines):
        raise _UntidyError
    marked = lines.replace(b"\n", b"," + _MARK + b"\n")
    return marked, (len(marked) - len(lines)) // len(b"," + _MARK)


class _Dates:
    """A column of dates; where a block has several, Polars knows each by the number of its value."""

    def __init__(self, wanted: Wanted, fields: Instants) -> None:
        self.fields = fields
        self.name = str(wanted.place)
        self._values: list[Value] = []

    @property
    def is_single(self) -> bool:
        """Whether all lines of the block have the same."""
        return len(self._values) == 1

    def numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Put the number in the place of the text.

        Raises:
            UnreadableError: a text is no date.
        """
        lines: dict[str, int] = dict(frame[self.name].value_counts().iter_rows())
        values = {text: self.fields.of_lines(text, count) for text, count in lines.items()}
        self._values = list(dict.fromkeys(values.values()))
        if self.is_single:
            return frame
        numbers = {value: number for number, value in enumerate(self._values)}
        by_text = {text: numbers[value] for text, value in values.items()}
        return frame.with_columns(pl.col(self.name).replace_strict(by_text, return_dtype=pl.UInt32))

    def of(self, groups: pl.DataFrame) -> Iterable[Value]:
        """Return the values of the groups."""
        if self.is_single:
            return repeat(self._values[0], groups.height)
        return map(self._values.__getitem__, groups[self.name])


class _Amounts:
    """A column of numbers.

    Attributes:
        sums: the name under which it is added up.
        others: the name of the texts of those numbers that the pattern does not know.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.sums = f"{wanted.place} sum"
        self.others = f"{wanted.place} other"
        self._plain = f"{wanted.place} plain"
        self._wanted = wanted
        self._is_nano = isinstance(wanted.fields, Nanos)

    def columns(self) -> Iterable[pl.Expr]:
        """Return the numbers, their texts, and whether the pattern knows them."""
        places = _NANO_PLACES if self._is_nano else _PLACES
        text = pl.col(str(self._wanted.place))
        is_plain = text.str.contains(rf"^[-+]?[0-9]{{1,{_WHOLE_PLACES}}}(?:\.[0-9]{{0,{places}}})?$")
        yield text.cast(pl.Decimal(38, places), strict=False).alias(self.sums)
        yield text.alias(self.others)
        yield is_plain.alias(self._plain)

    def are_plain(self, frame: pl.DataFrame) -> bool:
        """Tell whether the pattern knows all of them."""
        return bool(frame[self._plain].all())

    def told_apart(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Keep only numbers that the pattern knows, and only texts that it does not; null for the rest."""
        is_plain = pl.col(self._plain)
        return frame.with_columns(
            pl.when(is_plain).then(pl.col(self.sums)), pl.when(~is_plain).then(pl.col(self.others))
        )

    def of(self, groups: pl.DataFrame) -> Iterable[Value]:
        """Return the sums of the groups.

        Raises:
            UnreadableError: a text is no number.
        """
        sums = groups[self.sums]
        amounts: list[Value] = (sums.to_physical() if self._is_nano else sums).to_list()
        if self.others not in groups.columns:
            return amounts
        others = zip(amounts, groups[self.others], groups[_LINES], strict=True)
        return [amount if text is None else self._times(text, lines) for amount, text, lines in others]

    def _times(self, text: str, lines: int) -> Value:
        value = self._wanted.of_text(text)
        if isinstance(value, Decimal):
            return EXACTLY.multiply(value, lines)
        return value * lines if isinstance(value, int) else None


class _Texts(Remembered[str]):
    """What the texts of a row are; those that repeat are read once.

    Attributes:
        names: of their columns.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self._parts = parts
        self._places = sorted({it.place for part in parts for it in part.wanted if it.place is not None})
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
