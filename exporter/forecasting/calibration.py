"""Calibration of a forecast's band by how well the account's own past would have been forecast.

The spread that a rhythm states is a model's. Weeks of the past are forecast from what was known before them, and the
errors, measured in that spread, say by which factor it is too wide or too narrow for this account: too wide for one
that is steady, too narrow for one where models come and go. The largest error is left out: a week with a contract or
a campaign in it is no rule, and the change of level by itself is in the rhythm.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import log
from statistics import fmean

from exporter.forecasting.levels import WEEK
from exporter.forecasting.rhythm import DAY, LONGEST, Rhythm, learn

_WEEKS, _LEAST_WEEKS = 6, 2
"""Weeks of the past that are forecast at most, and weeks before one that it takes."""

_USUAL, _USUAL_WEEKS = 0.2, 1.0
"""Factor that is assumed of an account before any of its weeks, and how many weeks it counts for."""

_MOST = 5.0
"""Spreads that an error counts for at most."""

_MEAN_ERRORS = (0.798, 0.469, 0.536, 0.576, 0.606, 0.626)
"""Mean absolute error of a normal distribution, in standard deviations, by how many errors there are: of the only one,
and of all but the largest where there are more."""


def calibrated(rhythm: Rhythm, hours: Sequence[int], edge: datetime) -> Rhythm:
    """Return a rhythm whose doubt is scaled by the errors of the account's own past.

    Args:
        rhythm: what was learnt from the hours.
        hours: nano-USD of consecutive hours, the last one ending at the edge.
        edge: the first hour that is not learnt from.
    """
    errors = sorted(min(error, _MOST) for error in _errors(hours[-LONGEST:], edge))
    known = len(errors)
    if not known:
        return replace(rhythm, scale=_USUAL)
    own = fmean(errors[: max(1, known - 1)]) / _MEAN_ERRORS[known - 1]
    return replace(rhythm, scale=(_USUAL_WEEKS * _USUAL + known * own) / (_USUAL_WEEKS + known))


def _errors(hours: Sequence[int], edge: datetime) -> list[float]:
    """Return the errors of the forecasts of the last weeks, each by what was known before it, in its own spread."""
    span = WEEK * DAY
    found = []
    for weeks in range(1, _WEEKS + 1):
        end = len(hours) - weeks * span
        if end < _LEAST_WEEKS * span:
            break
        rhythm = learn(hours[:end], edge - timedelta(weeks=weeks))
        if rhythm is not None:
            expected, happened = rhythm.expected(0, span), sum(hours[end : end + span])
            found.append(abs(log(max(happened, 1.0) / max(expected, 1.0))) / rhythm.spread(0, span))
    return found
