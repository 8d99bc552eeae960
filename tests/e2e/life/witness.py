"""A ledger that tells what it has committed, and that can be made to die in the middle of a transaction."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from exporter.charges import Charge, Clock, RejectedRow, Window
from exporter.ledger import Ledger, Restatement, Rules


class KilledError(BaseException):
    """The power has failed: nothing may catch it and go on."""


class Committed(NamedTuple):
    """A window that a poll, begun at an instant, has replaced for good."""

    at: datetime
    source: str
    window: Window
    charges: tuple[Charge, ...]


class WitnessedLedger(Ledger):
    """The ledger as it is; what is added is only told or thrown, never written.

    Attributes:
        dying: called between two charges of every restatement, in its transaction; raises `KilledError` at its time.
    """

    def __init__(self, address: str, *, rules: Rules, clock: Clock, witness: Callable[[Committed], None]) -> None:
        super().__init__(address, rules=rules, clock=clock)
        self._witness = witness
        self.dying: Callable[[], None] | None = None

    def restate(
        self,
        account: str,
        source: str,
        window: Window,
        charges: Iterable[Charge],
        *,
        at: datetime,
        rejected: Iterable[RejectedRow] = (),
    ) -> Restatement:
        stated = tuple(charges)
        restatement = super().restate(account, source, window, self._until_death(stated), at=at, rejected=rejected)
        self._witness(Committed(at, source, window, stated))
        return restatement

    def _until_death(self, charges: tuple[Charge, ...]) -> Iterator[Charge]:
        half = len(charges) // 2
        yield from charges[:half]
        if self.dying is not None:
            self.dying()
        yield from charges[half:]
