"""The errors a user can meet.

    FalExporterError
    ├── ConfigurationError      a setting is wrong; the process ends with exit code 2
    ├── LedgerError             the ledger cannot be read or written as it is
    ├── EventsError             the store of single requests cannot be read or written as it is
    └── UpstreamError           fal did not answer as its interface promises (exporter.fal.errors has its kinds)

Every message is one sentence that names the setting or the call, what was wrong, and what to do. None holds a key.
"""


class FalExporterError(Exception):
    """Base of all errors that are shown to a user as one sentence, never as a stack trace."""

    exit_code = 1


class ConfigurationError(FalExporterError):
    """A setting is missing, malformed or contradicts another."""

    exit_code = 2


class LedgerError(FalExporterError):
    """The ledger cannot be opened, read or written; nothing has been half written."""


class EventsError(FalExporterError):
    """The store of single requests cannot be opened, read or written; no file of it is half written."""


class UpstreamError(FalExporterError):
    """A call to fal failed.

    Attributes:
        reason: a short, stable, lower-case word for the kind of failure; the value of the `reason` label.
    """

    reason = "upstream"
