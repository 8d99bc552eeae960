"""Snapshots to lines: text format 0.0.4 and OpenMetrics 1.0, incrementally.

The formats are read as prometheus_client's parsers read them; tests hold this encoder to that. It is ours because it
keeps what it has encoded: a piece whose pages are all the same objects as before is not encoded or compressed again.
"""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from exporter.metrics.catalogue import Family
from exporter.metrics.compression import deflated
from exporter.metrics.exposition import Exposition, Piece, rendering
from exporter.metrics.lines import number_text, openmetrics_header, series_of
from exporter.metrics.rendering import Rendered
from exporter.metrics.snapshot import Snapshot, Table
from exporter.samples import Page

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
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[_Passage, ...], tuple[Piece, Piece]] = {}
        self._numbers = count()

    def encode(self, snapshot: Snapshot, own: Rendered = _NOTHING) -> Exposition:
        """Encode and compress a snapshot.

        Args:
            snapshot: the tables; those without samples leave no trace.
            own: further families, already encoded, to be put after them.
        """
        kept = {passages: self._kept.get(passages) or self._encoded(passages) for passages in _runs(snapshot.tables)}
        self._kept = kept
        texts = [text for text, _ in kept.values()]
        openmetrics = [piece for _, piece in kept.values()]
        if own.text:
            texts.append(self._piece(own.text))
            openmetrics.append(self._piece(own.openmetrics))
        return Exposition(rendering(texts), rendering(openmetrics))

    def _encoded(self, passages: tuple[_Passage, ...]) -> tuple[Piece, Piece]:
        text: list[str] = []
        openmetrics: list[str] = []
        for family, labels, opens, page in passages:
            if opens:
                text.append(_text_header(family))
                openmetrics.append(openmetrics_header(family))
            series = series_of(labels, page)
            numbers = [number_text(value, family.scale) for _, value, _ in page.samples]
            lines = [f"{family.name}{where} {number}\n" for where, number in zip(series, numbers, strict=True)]
            text += lines
            openmetrics += _with_created(lines, family, series, page) if family.kind == "counter" else lines
        in_text = self._piece("".join(text).encode(errors="replace"))
        in_openmetrics = "".join(openmetrics).encode(errors="replace")
        return in_text, in_text if in_text.plain == in_openmetrics else self._piece(in_openmetrics)

    def _piece(self, plain: bytes) -> Piece:
        return Piece(next(self._numbers), plain, deflated(plain))


def _runs(tables: tuple[Table, ...]) -> Iterator[tuple[_Passage, ...]]:
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
