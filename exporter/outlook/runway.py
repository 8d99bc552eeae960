"""How long a balance lasts."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from exporter.charges import HOUR, Balance
from exporter.outlook.rhythm import DAY, WEEK

_LONGEST = timedelta(days=3650)
_SPAN = timedelta(days=1)
_LEAST_SPAN = timedelta(hours=1)


def runway(balance: int, burn: float | None) -> timedelta | None:
    """Return how long a balance lasts, ten years at most.

    Args:
        balance: nano-USD; at 0 and below nothing is left.
        burn: nano-USD an hour, None where it is not known; at 0 a balance lasts for ever. Both are told as None.
    """
    if balance <= 0:
        return timedelta(0)
    if not burn or burn < 0:
        return None
    hours = balance / burn
    return _LONGEST if hours >= _LONGEST / HOUR else timedelta(seconds=int(hours * 3600))


def burn_of_usage(hours: Sequence[int], cap: float, unusual: int) -> float:
    """Return what is burnt an hour, in nano-USD: the larger of the last day and the last week, on average.

    The day tells what has just become more, the week that today is a Sunday.

    Args:
        hours: what the complete hours cost, the newest last.
        cap: what an hour counts for at most, so that a glitch does not burn on.
        unusual: what the newest hour costs if that is unusual, else 0: it burns on as long as it lasts.
    """
    spans = [span for span in (DAY, WEEK * DAY) if span <= len(hours)]
    return max((sum(min(it, cap) for it in hours[-span:]) / span for span in spans), default=0.0) + unusual


class BalanceFall:
    """What an account burns by the fall of its balance over the last day; rises are purchases and burn nothing.

    Attributes:
        burn: nano-USD an hour; None while the balance has been watched for less than an hour.
    """

    def __init__(self) -> None:
        self.burn: float | None = None
        self._seen: deque[tuple[datetime, int]] = deque()

    def note(self, balance: Balance) -> None:
        """Take up what the balance was at an instant; one that is not newer than the newest is left out."""
        seen = self._seen
        if seen and balance.at <= seen[-1][0]:
            return
        seen.append((balance.at, balance.amount))
        while len(seen) > 1 and seen[1][0] <= balance.at - _SPAN:
            seen.popleft()
        span = seen[-1][0] - seen[0][0]
        if span >= _LEAST_SPAN:
            fallen = sum(max(0, before - after) for (_, before), (_, after) in pairwise(seen))
            self.burn = fallen / (span / HOUR)
