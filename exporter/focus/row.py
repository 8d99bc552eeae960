"""One row as the checks see it: texts, and numbers and dates where the texts are some."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from exporter.focus.values import instant, number

_MOST_REMEMBERED = 20_000


class Numbers(dict[str, Decimal | None]):
    """Numbers by their text, None for what is none; each text is read once as long as it is remembered."""

    def __missing__(self, text: str) -> Decimal | None:
        """Read a text that is not remembered."""
        try:
            found = number(text)
        except ValueError:
            found = None
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[text] = found
        return found


class Instants(dict[str, datetime | None]):
    """Instants by their text, None for what is none."""

    def __missing__(self, text: str) -> datetime | None:
        """Read a text that is not remembered."""
        try:
            found, _ = instant(text)
        except ValueError:
            found = None
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[text] = found
        return found


class Row:
    """A row's values by column; a null, and a column that the file lacks, is None."""

    def __init__(self, texts: Mapping[str, str | None], numbers: Numbers, instants: Instants) -> None:
        self._texts = texts
        self._numbers = numbers
        self._instants = instants
        self.category = texts.get("ChargeCategory")
        self.is_correction = texts.get("ChargeClass") == "Correction"

    def has(self, column: str) -> bool:
        """Tell whether the file has a column."""
        return column in self._texts

    def text(self, column: str) -> str | None:
        """Return the text of a column."""
        return self._texts.get(column)

    def number(self, column: str) -> Decimal | None:
        """Return the number in a column; None also where there is no number."""
        text = self._texts.get(column)
        return None if text is None else self._numbers[text]

    def instant(self, column: str) -> datetime | None:
        """Return the instant in a column; None also where there is no date."""
        text = self._texts.get(column)
        return None if text is None else self._instants[text]
