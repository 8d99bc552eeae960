"""Parameters of fal's FOCUS reports, and what is refused before fal would reject or ignore it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from exporter.errors import ConfigurationError
from exporter.fal.endpoints import Endpoint, Host, Parameters
from exporter.focus.timeframes import LONGEST, TIMEFRAMES, bucket_end, bucket_start

ACCOUNT_FOCUS = Endpoint(Host.PLATFORM, "/account/focus")
ORGANIZATION_FOCUS = Endpoint(Host.PLATFORM, "/organization/focus")

DEFAULT_TIMEFRAME = "hour"

_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])")


class Report(StrEnum):
    """Kind of figures: finalized ones, running ones, or running ones by tag."""

    INVOICE = "invoice"
    ESTIMATE = "estimate"
    TAGGED_ESTIMATE = "tagged-estimate"


class FocusRequestError(ConfigurationError):
    """A request for a FOCUS report contradicts itself, or fal would not answer it as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusRequest:
    """One report, of any length; what is left out is None or empty.

    Attributes:
        source: one of `Report`.
        organization: asks `/organization/focus`, which reports all teams, instead of `/account/focus`.
        billing_month: `YYYY-MM`, the month in which the invoice was issued; only with invoice.
        charge_month: `YYYY-MM`, the month in which the charges were incurred; only with invoice.
        start, end: aware instants, `end` exclusive; only with estimates, which need both.
        timezone: the IANA zone whose buckets are meant, UTC where left out; fal's stamps are in UTC all the same.
        timeframe: one of `TIMEFRAMES`, `hour` where left out; never fal's own choice, which varies with the length.
        bound_to_timeframe: False for a window that begins or ends within a bucket, and gets a part of it; else both
            edges must be those of buckets.
        expand: `organization`, to have `/account/focus` of an organization's root separate the teams.
        team_username: the only team that `/organization/focus` is to report.

    Raises:
        FocusRequestError: fal would reject it, or ignore a part of it.
    """

    source: str
    organization: bool = False
    billing_month: str = ""
    charge_month: str = ""
    start: datetime | None = None
    end: datetime | None = None
    timezone: str = ""
    timeframe: str = ""
    bound_to_timeframe: bool | None = None
    expand: str = ""
    team_username: str | None = None

    def __post_init__(self) -> None:
        if self.source not in set(Report):
            raise FocusRequestError(f"source {self.source!r} is unknown; choose {', '.join(Report)}")
        if self.source == Report.INVOICE:
            self._check_invoice()
        else:
            self._check_estimate()
        self._check_teams()

    @property
    def call(self) -> Endpoint:
        """The interface that is asked."""
        return ORGANIZATION_FOCUS if self.organization else ACCOUNT_FOCUS

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose buckets are meant."""
        return ZoneInfo(self.timezone or "UTC")

    @property
    def is_latest(self) -> bool:
        """True if the request is for the latest invoice, whichever that is by then."""
        return self.source == Report.INVOICE and not (self.billing_month or self.charge_month)

    def parameters(self) -> Parameters:
        """Return the query.

        Raises:
            FocusRequestError: the window is longer than fal takes at once; see `pieces`.
        """
        asked: dict[str, str] = {
            "source": self.source,
            "billing_month": self.billing_month,
            "charge_month": self.charge_month,
            "expand": self.expand,
            "team_username": self.team_username or "",
        }
        if self.start is not None and self.end is not None:
            if self.end - self.start > LONGEST:
                raise FocusRequestError(
                    f"start and end are more than {LONGEST.days} days apart, which fal refuses; request it in pieces"
                )
            asked |= {
                "start": f"{self.start.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "end": f"{self.end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "timezone": self.timezone or "UTC",
                "timeframe": self.timeframe or DEFAULT_TIMEFRAME,
                "bound_to_timeframe": "true" if self.bound_to_timeframe else "false",
            }
        return {name: value for name, value in asked.items() if value}

    def pieces(self, longest: timedelta = LONGEST) -> Iterator["FocusRequest"]:
        """Yield requests that ask for the same together: consecutive, none overlapping, without a gap.

        An estimate is cut at the edges of its buckets, into windows that are as long as they may be; a bucket that is
        itself longer stays whole. An invoice is one piece.
        """
        if self.start is None or self.end is None:
            yield self
            return
        start = self.start
        while start < self.end:
            end = self._bucket_start(start + min(longest, LONGEST))
            if end <= start:
                end = self._bucket_end(start)
            end = min(end, self.end)
            yield replace(self, start=start, end=end)
            start = end

    def _check_invoice(self) -> None:
        given = [name for name in ("start", "end", "timezone", "timeframe") if getattr(self, name)]
        if self.bound_to_timeframe is not None:
            given.append("bound_to_timeframe")
        if given:
            raise FocusRequestError(
                f"source invoice ignores {' and '.join(given)}; name its month by billing_month or charge_month, "
                "or choose source estimate"
            )
        if self.billing_month and self.charge_month:
            raise FocusRequestError("billing_month and charge_month are both set; keep only one of them")
        for name in ("billing_month", "charge_month"):
            month = getattr(self, name)
            if month and not _MONTH.fullmatch(month):
                raise FocusRequestError(f"{name} {month!r} is not a month; write it like 2026-10")

    def _check_estimate(self) -> None:
        given = [name for name in ("billing_month", "charge_month") if getattr(self, name)]
        if given:
            raise FocusRequestError(
                f"source {self.source} ignores {' and '.join(given)}; name a window by start and end, "
                "or choose source invoice"
            )
        if self.timeframe and self.timeframe not in TIMEFRAMES:
            raise FocusRequestError(f"timeframe {self.timeframe!r} is unknown; choose {', '.join(TIMEFRAMES)}")
        try:
            _ = self.zone
        except (ValueError, OSError, KeyError):
            raise FocusRequestError(f"timezone {self.timezone!r} is not an IANA time zone") from None
        if self.start is None or self.end is None:
            raise FocusRequestError(
                f"source {self.source} needs start and end; without them its window would move with the clock"
            )
        self._check_window(self.start, self.end)

    def _check_window(self, start: datetime, end: datetime) -> None:
        edges = (("start", start), ("end", end))
        for name, edge in edges:
            if edge.tzinfo is None:
                raise FocusRequestError(f"{name} {edge.isoformat()} has no offset; write it like 2026-10-01T00:00:00Z")
            if edge.microsecond:
                raise FocusRequestError(f"{name} {edge.isoformat()} is not on a whole second")
        if start >= end:
            raise FocusRequestError(f"end {end.isoformat()} is not after start {start.isoformat()}; end is exclusive")
        # A window that fal is told not to widen may begin anywhere; one that it widens would hold its neighbour's rows.
        unaligned = [(name, edge) for name, edge in edges if self._bucket_start(edge) != edge]
        if unaligned and self.bound_to_timeframe is not False:
            name, edge = unaligned[0]
            bucket = f"a {self.timeframe}" if self.timeframe not in {"", "hour"} else "an hour"
            raise FocusRequestError(
                f"{name} {edge.isoformat()} is not at the edge of {bucket} in {self.zone.key}: fal would widen the "
                "window, and rows would count twice; align it, or set bound_to_timeframe to false"
            )

    def _check_teams(self) -> None:
        if self.expand and self.expand != "organization":
            raise FocusRequestError(f"expand {self.expand!r} is unknown; its only value is organization")
        if self.expand and self.organization:
            raise FocusRequestError(
                "expand belongs to /account/focus; /organization/focus breaks costs down by team anyway"
            )
        if self.team_username is not None and not self.organization:
            raise FocusRequestError("team_username belongs to /organization/focus; /account/focus would ignore it")
        if self.team_username is not None and not self.team_username.strip():
            raise FocusRequestError("team_username is empty; name a team, or leave it out for all teams")

    def _bucket_start(self, instant: datetime) -> datetime:
        return bucket_start(instant, self.timeframe or DEFAULT_TIMEFRAME, self.zone)

    def _bucket_end(self, instant: datetime) -> datetime:
        return bucket_end(instant, self.timeframe or DEFAULT_TIMEFRAME, self.zone)
