"""Encoding of snapshots: text format 0.0.4, OpenMetrics 1.0 and protobuf, incremental, with gzip from pieces.

Each piece is raw deflate (RFC 1951) ended by a full flush: it stops on a byte's edge and nothing after it refers to
what came before. Pieces can therefore be kept and joined in any order; a finished last piece, the checksum and the
length make them one ordinary gzip member (RFC 1952) that every decoder reads.

They are few and change all the time; the large tables have an encoder of their own.

The formats are read as prometheus_client's parsers read them; tests hold this encoder to that. It is ours because it
keeps what it has encoded: a piece whose pages all say the same as before is not encoded or compressed again.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from exporter.metrics import protobuf
from exporter.metrics.catalogue import Family
from exporter.publication import Exposition, Piece, Rendering, rendering
from exporter.samples import Page

if TYPE_CHECKING:
    # The web process encodes its own families only, and need not have the ledger that snapshots are made of.
    from exporter.metrics.snapshot import Snapshot, Table

LEVEL = 5
"""Of 100,000 series in pieces of a thousand lines, level 6 makes 7 % less in a third more time; 1 makes 23 % more."""

_RAW = -zlib.MAX_WBITS
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def deflated(plain: bytes, level: int = LEVEL) -> bytes:
    """Compress a piece that others may follow."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    return compressor.compress(plain) + compressor.flush(zlib.Z_FULL_FLUSH)


def gzip_start(pieces: Iterable[bytes]) -> bytes:
    """Join a member's header and its deflated pieces."""
    return b"".join((_HEADER, *pieces))


def gzip_end(tail: bytes, *, checksum: int, length: int, level: int = LEVEL) -> bytes:
    """Compress the last piece and close the member.

    Args:
        tail: the plain bytes of the last piece; may be empty.
        checksum: CRC-32 of all plain bytes before the tail.
        length: how many there are.
        level: zlib's compression level.
    """
    compressor = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    size = (length + len(tail)) & 0xFFFFFFFF
    return compressor.compress(tail) + compressor.flush() + struct.pack("<II", zlib.crc32(tail, checksum), size)


END = b"# EOF\n"
"""The last line of an OpenMetrics exposition."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Some families in every format, without the end of OpenMetrics."""

    text: bytes = b""
    openmetrics: bytes = b""
    protobuf: bytes = b""


def rendered(registry: Collector | CollectorRegistry) -> Rendered:
    """Encode the families of a registry that have samples; only protobuf says when they began."""
    collected = tuple(registry.collect())
    families = _Counted(collected)
    in_openmetrics: bytes = openmetrics.generate_latest(families)  # type: ignore[no-untyped-call]  # the library's
    return Rendered(generate_latest(families), in_openmetrics.removesuffix(END), protobuf.families_of(collected))


class _Counted(Collector):
    """Drops `_created`: these counters begin with the process, which process_start_time_seconds tells."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            counted = Metric(family.name, family.documentation, family.type, family.unit)
            counted.samples = [sample for sample in family.samples if sample.name != family.name + "_created"]
            if counted.samples:
                yield counted


_UNLIKE_GO = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def openmetrics_header(family: Family) -> str:
    """Write what OpenMetrics says of a family before its samples."""
    name = family.base_name
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    return f"# HELP {name} {family.help.translate(_ESCAPES)}\n# TYPE {name} {family.kind}\n{unit}"


def series_of(labels: tuple[str, ...], page: Page) -> list[str]:
    """Write each sample's labels; one that is empty is absent to Prometheus and left out."""
    written: tuple[dict[str, str], ...] = tuple({"": ""} for _ in labels)
    series = []
    for values, _, _ in page.samples:
        pairs = []
        for name, known, value in zip(labels, written, values, strict=True):
            pair = known.get(value)
            if pair is None:
                pair = known[value] = f'{name}="{value.translate(_ESCAPES)}"'
            if pair:
                pairs.append(pair)
        series.append("{" + ",".join(pairs) + "}" if pairs else "")
    return series


def number_text(value: float, scale: int) -> str:
    """Write the float64 nearest to the exact value: Python divides integers with one correct rounding."""
    try:
        text = repr(value / scale)
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    return _UNLIKE_GO.get(text, text)


PAGES_PER_PIECE = 4
"""About a thousand lines: 150 KiB, small enough to be replaced alone and large enough to compress well."""

_NOTHING = Rendered()
_TEXT_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


class _Passage(NamedTuple):
    """One page where it stands: what its lines depend on."""

    family: Family
    labels: tuple[str, ...]
    opens: bool
    page: Page


class Encoder:
    """Encodes one snapshot after another; the bytes of pieces that vanish are forgotten.

    Use one encoder for all snapshots of a process and from one thread at a time.

    Args:
        created: whether OpenMetrics has `_created` lines; protobuf says when counters began in any case.

    Attributes:
        writes_protobuf: whether to encode as protobuf, too; switched on once somebody asks for it.
    """

    def __init__(self, *, created: bool = True) -> None:
        self.writes_protobuf = False
        self._created = created
        self._kept: dict[tuple[_Passage, ...], tuple[Piece, Piece]] = {}
        self._metrics: dict[_Passage, bytes] = {}
        self._kept_protobuf: dict[tuple[tuple[_Passage, ...], tuple[bytes, ...]], Piece] = {}
        self._numbers = count()
        self._pages: dict[tuple[str, int], Page] = {}

    def encode(self, snapshot: "Snapshot", own: Rendered = _NOTHING) -> Exposition:
        """Encode and compress a snapshot.

        Args:
            snapshot: the tables; those without samples leave no trace.
            own: further families, already encoded, to be put after them.
        """
        runs = tuple(_runs(self._settled(snapshot.tables)))
        kept = {passages: self._kept.get(passages) or self._encoded(passages) for passages in runs}
        self._kept = kept
        texts = [text for text, _ in kept.values()]
        openmetrics = [piece for _, piece in kept.values()]
        if own.text:
            texts.append(self._piece(own.text))
            openmetrics.append(self._piece(own.openmetrics))
        return Exposition(
            rendering(texts),
            rendering(openmetrics),
            self._protobuf(runs, own.protobuf) if self.writes_protobuf else Rendering(),
        )

    def _settled(self, tables: "tuple[Table, ...]") -> "Iterator[Table]":
        """Put the page before in the place of one that says the same: a small family is laid out anew each time."""
        before, self._pages = self._pages, {}
        for table in tables:
            pages = []
            for number, page in enumerate(table.pages):
                known = before.get((table.family.name, number))
                kept = known if known is not None and _are_same(known, page) else page
                self._pages[table.family.name, number] = kept
                pages.append(kept)
            yield replace(table, pages=tuple(pages))

    def _protobuf(self, runs: tuple[tuple[_Passage, ...], ...], own: bytes) -> Rendering:
        """Encode as protobuf, where a family begins with its length: a piece is made anew if that has changed."""
        lengths: Counter[Family] = Counter()
        metrics: dict[_Passage, bytes] = {}
        for passage in chain.from_iterable(runs):
            family, labels, _, page = passage
            written = metrics[passage] = self._metrics.get(passage) or protobuf.metrics_of(family, labels, page)
            lengths[family] += len(written)
        kept: dict[tuple[tuple[_Passage, ...], tuple[bytes, ...]], Piece] = {}
        for passages in runs:
            heads = tuple(
                protobuf.head(passage.family, lengths[passage.family]) if passage.opens else b"" for passage in passages
            )
            kept[passages, heads] = self._kept_protobuf.get((passages, heads)) or self._piece(
                b"".join(head + metrics[passage] for head, passage in zip(heads, passages, strict=True))
            )
        self._metrics, self._kept_protobuf = metrics, kept
        return rendering([*kept.values(), self._piece(own)])

    def _encoded(self, passages: tuple[_Passage, ...]) -> tuple[Piece, Piece]:
        text: list[str] = []
        openmetrics: list[str] = []
        for family, labels, opens, page in passages:
            if opens:
                text.append(_text_header(family))
                openmetrics.append(openmetrics_header(family))
            if page.bounds:
                lines = _histogram_lines(family, labels, page)
                text += lines
                openmetrics += lines
                continue
            series = series_of(labels, page)
            numbers = [number_text(value, family.scale) for _, value, _ in page.samples]
            lines = [f"{family.name}{where} {number}\n" for where, number in zip(series, numbers, strict=True)]
            text += lines
            created = self._created and family.kind == "counter"
            openmetrics += _with_created(lines, family, series, page) if created else lines
        in_text = self._piece("".join(text).encode(errors="replace"))
        in_openmetrics = "".join(openmetrics).encode(errors="replace")
        return in_text, in_text if in_text.plain == in_openmetrics else self._piece(in_openmetrics)

    def _piece(self, plain: bytes) -> Piece:
        return Piece(next(self._numbers), plain, deflated(plain))


def _are_same(one: Page, other: Page) -> bool:
    return one is other or (
        one.samples == other.samples
        and (one.bounds, one.counts, one.began) == (other.bounds, other.counts, other.began)
    )


def _runs(tables: "Iterable[Table]") -> Iterator[tuple[_Passage, ...]]:
    """Group pages into pieces so that a page that comes or goes disturbs few: a large table begins its own."""
    run: list[_Passage] = []
    for table in tables:
        if run and len(run) + len(table.pages) > PAGES_PER_PIECE:
            yield tuple(run)
            run = []
        opens = True
        for page in table.pages:
            run.append(_Passage(table.family, table.labels, opens, page))
            opens = False
            if len(run) == PAGES_PER_PIECE:
                yield tuple(run)
                run = []
    if run:
        yield tuple(run)


def _text_header(family: Family) -> str:
    name = family.name
    return f"# HELP {name} {family.help.translate(_TEXT_HELP_ESCAPES)}\n# TYPE {name} {family.kind}\n"


def _histogram_lines(family: Family, labels: tuple[str, ...], page: Page) -> list[str]:
    """Write the buckets of each sample, how many there are in all, and their sum."""
    bounds = [f'le="{number_text(bound, 1)}"}}' for bound in page.bounds]
    lines = []
    for series, sample, counts in zip(series_of(labels, page), page.samples, page.counts, strict=True):
        opened = f"{family.name}_bucket{series[:-1]}," if series else f"{family.name}_bucket{{"
        lines += [f"{opened}{bound} {count}.0\n" for bound, count in zip(bounds, counts, strict=True)]
        lines.append(f"{family.name}_count{series} {counts[-1]}.0\n")
        lines.append(f"{family.name}_sum{series} {number_text(sample.value, family.scale)}\n")
    return lines


def _with_created(lines: list[str], family: Family, series: list[str], page: Page) -> list[str]:
    """Put after each line when its counter began, where that is known."""
    name = f"{family.base_name}_created"
    instants = {
        created: repr(created.timestamp()) for created in {sample.created for sample in page.samples} if created
    }
    all_lines = []
    for line, where, (_, _, created) in zip(lines, series, page.samples, strict=True):
        all_lines.append(line)
        if created:
            all_lines.append(f"{name}{where} {instants[created]}\n")
    return all_lines
