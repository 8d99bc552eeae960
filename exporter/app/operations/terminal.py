"""Lines as wide as the window they are read in: broken between words, and continued below what they explain."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable

import click

_GAP = re.compile(r"(?<=\S)  +(?=\S)")
_MARKED = re.compile(r" *[!*-] ")
_OF_ONE_STYLE = re.compile(r"( *)((?:\x1b\[[0-9;]*m)*)([^\x1b]*?)((?:\x1b\[0m)?)")


def window() -> os.terminal_size | None:
    """Return the size of the window that the output is read in; None where it is not a terminal."""
    return shutil.get_terminal_size() if sys.stdout.isatty() else None


def fitted(lines: Iterable[str], size: os.terminal_size | None) -> list[str]:
    """Return lines that a window has room for in its width; unchanged where there is no window."""
    return list(lines) if size is None else [part for line in lines for part in _broken(line, size.columns)]


def _broken(line: str, width: int) -> list[str]:
    """Return the parts of a line, of at most a width where its words allow it, each in the style of the line."""
    plain = click.unstyle(line)
    if len(plain) <= width:
        return [line]
    styled = _OF_ONE_STYLE.fullmatch(line)
    style, end = (styled[2], styled[4]) if styled else ("", "")
    parts = textwrap.wrap(
        plain,
        width,
        subsequent_indent=" " * _continued_at(plain, width),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [f"{style}{part}{end}" for part in parts]


def _continued_at(line: str, width: int) -> int:
    """Return the column of what a line goes on with: its last one in the left half, or the text after its mark."""
    columns = [gap.end() for gap in _GAP.finditer(line) if gap.end() <= width // 2]
    if columns:
        return columns[-1]
    marked = _MARKED.match(line)
    return marked.end() if marked else len(line) - len(line.lstrip(" "))
