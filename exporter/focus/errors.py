"""What can be wrong with a FOCUS file as a whole, so that nothing read from it may be trusted."""

from exporter.errors import FalExporterError


class FocusError(FalExporterError):
    """The file is not a FOCUS Cost and Usage file that can be read to its end."""

    exit_code = 2


class WrongContentError(FocusError):
    """What came is no Cost and Usage table: an HTML page, a JSON error, another data set, another kind of file."""


class TruncatedFileError(FocusError):
    """The file ends too early: inside a quoted field, inside a row, or before the promised number of bytes."""


class MissingColumnError(FocusError):
    """The header lacks a column without which the reader's caller cannot work."""
