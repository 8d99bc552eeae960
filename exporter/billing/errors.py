"""Why a question has no answer."""

from exporter.errors import FalExporterError

UNREADABLE = "the ledger cannot be read now, or is not there yet; the exporter's log may tell why"
"""What a caller is told of an error of the ledger, whose own sentence names the ledger's address."""


class QuestionError(FalExporterError):
    """A question cannot be understood; the message repeats nothing of what was sent, in which a key could be.

    Attributes:
        parameter: the parameter that is wrong.
        predicate: what is wrong with it and what is accepted: `is not ...; write it like ...`.
    """

    def __init__(self, parameter: str, predicate: str) -> None:
        super().__init__(f"{parameter} {predicate}")
        self.parameter = parameter
        self.predicate = predicate


class NoDataYetError(FalExporterError):
    """Nothing has been loaded yet that could be told."""
