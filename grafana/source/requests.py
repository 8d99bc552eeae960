"""fal / Requests: what does a request cost, which models make the dear ones, and do the requests add up to the bill?"""

from grafana_foundation_sdk.models import common as common_models

from source import palette
from source.banner import bookings_of_rule
from source.frame import Frame, Row
from source.panels import (
    AS_WRITTEN,
    DOLLARS,
    DOLLARS_SHORT,
    INSTANT,
    LASTING,
    SIGNED,
    Built,
    Query,
    at_least,
    bars,
    coloured,
    figure,
    fixed,
    lines,
    properties,
)
from source.queries import of_accounts, selected
from source.tables import WRAPPED, Column, rows, words

_COST = "fal_request_cost_usd"
_ACCOUNT = ("account",)
_NOT_READ = "requests are not read; see docs/requests.md"
_NOT_BOOKED = "bookings are not compared; see docs/reconcile.md"
_FINDINGS = {
    "never_booked": ("charged but never booked", palette.NEUTRAL),
    "booked_twice": ("booked more than once", palette.NEUTRAL),
    "never_charged": ("booked but never charged", palette.NEUTRAL),
    "differing": ("booked at another amount", palette.NEUTRAL),
    "not_read": ("not compared: hours not read yet", palette.NEUTRAL),
}
_KNOWN = f"timestamp(fal_events_through_timestamp_seconds{selected(_ACCOUNT)})"
_FIRST = f"min(min_over_time({_KNOWN}[$__range:5m]) or {_KNOWN})"
"""The first instant of the time range at which Prometheus knows of requests."""

_NOT_YET = "nothing yet: drawn by whole hours from the exporter's start on"
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def requests() -> Frame:
    """Return the dashboard of single requests."""
    return Frame(
        uid="fal-requests",
        title="fal / Requests",
        description="What single requests of model endpoints cost, by model, and whether they add up to the ledger. "
        "Only where the exporter reads requests (FAL_EXPORTER_EVENTS).",
        labels=("account", "model"),
        rows=(
            Row(4, _figures()),
            Row(10, ((_by_model(), 24),)),
            Row(9, ((_dear(), 12), (_spend(), 12)), "Over time"),
            Row(8, ((_differing(), 12), (_progress(), 12)), "Do they add up to the bill?"),
            Row(
                8,
                ((_booked(), 6), (_findings(), 9), (_booked_models(), 9)),
                "Is what you booked what fal charged?",
                is_folded=True,
            ),
        ),
    )


def _grown(part: str, by: str, window: str = "$__range") -> str:
    """Return the growth of a part of the histogram in a window; what has begun within it counts from 0.

    The counts never fall and have no resets, so that a difference is exact, where `increase` would guess at its edges.
    """
    series = f"{_COST}_{part}{selected(('account', 'model'))}"
    kept = "account, model, le" if part == "bucket" else "account, model"
    return f"sum by ({by}) (max by ({kept}) ({series} - ({series} offset {window} or {series} * 0)))"


def _figures() -> tuple[tuple[Built, int], ...]:
    whole = f"sum({_grown('sum', 'model')})"
    count = f"sum({_grown('count', 'model')})"
    differences = of_accounts("fal_events_difference_usd", ("account", "model"))
    return (
        (
            figure(
                "Requests newly read",
                "Requests of model endpoints whose hours have been read to their end in the selected time, or since "
                "Prometheus scrapes an exporter that reads requests, where that is later. What was read before is not "
                "among them; the landing page and REST know it.",
                [Query(count, "requests"), Query(f"1000 * {_FIRST}", "since", "since")],
                "locale",
                decimals=0,
                names=True,
                size=20,
                no_value=_NOT_READ,
            )
            .override_by_query("since", properties({"unit": INSTANT}))
            .orientation(common_models.VizOrientation.HORIZONTAL),
            5,
        ),
        (
            figure(
                "Cost of these requests",
                "What these requests cost, as fal charged them.",
                [Query(whole)],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value=_NOT_READ,
            ),
            5,
        ),
        (
            figure(
                "Cost of a request",
                "What a request cost on average, over all models, in the selected time.",
                [Query(f"{whole} / ({count} > 0)")],
                DOLLARS_SHORT,
                decimals=4,
                no_value=_NOT_READ,
            ),
            5,
        ),
        (
            figure(
                "Requests off the ledger by",
                "What the requests of settled hours cost less what the ledger charges for them, all differences "
                "added up without their sign. 0: two interfaces of fal agree.",
                [Query(f"sum(abs({differences}))")],
                DOLLARS,
                decimals=2,
                thresholds=at_least((0.01, palette.WARNING), base=palette.GOOD),
                no_value="not compared yet",
            ),
            5,
        ),
        (
            figure(
                "Behind by",
                "How long ago the last hour ended whose requests have been read to its end. The running hour and ten "
                "minutes are normal.",
                [Query(f"time() - min({of_accounts('fal_events_through_timestamp_seconds', _ACCOUNT)})")],
                LASTING,
                decimals=0,
                thresholds=at_least((3 * 3600, palette.WARNING), (24 * 3600, palette.BAD), base=palette.GOOD),
                no_value="not known yet",
            ),
            4,
        ),
    )


def _by_model() -> Built:
    largest = f"topk(20, {_grown('sum', 'model')})"
    quantiles = [Query(_rough(share, f"({largest} > 0)"), ref=name) for name, share in _QUANTILES.items()]
    mean = f"{_grown('sum', 'model')} / ({_grown('count', 'model')} > 0)"
    return rows(
        "Cost of a request, by model",
        "The twenty models whose requests cost most in the selected time: how many, what they cost together, on "
        "average, and roughly what half, 95% and 99% of them cost at most. These three are guessed within the buckets "
        "of a classic histogram, whose upper end is up to five times the lower, so that two digits are said of them, "
        "and never more than all requests together cost; the exporter's page knows those of the last day within 5%.",
        [
            Query(largest, ref="cost"),
            Query(f"{_grown('count', 'model')}\nand on (model)\n{largest}", ref="count"),
            Query(f"({mean})\nand on (model)\n{largest}", ref="mean"),
            *quantiles,
        ],
        {
            "model": Column("Model", properties=WRAPPED),
            "Value #cost": Column("Cost", DOLLARS, 120, 2),
            "Value #count": Column("Requests", "locale", 110, 0),
            "Value #mean": Column("Mean", DOLLARS_SHORT, 110, 4),
            **{f"Value #{name}": Column(f"{name}, roughly, $", AS_WRITTEN, 124) for name in _QUANTILES},
        },
        key="model",
        sort="Cost",
        no_value=_NOT_READ,
    )


def _rough(share: float, costs: str) -> str:
    """Return a quantile by model with two significant digits, at most what all requests of the model cost together."""
    guess = f"histogram_quantile({share}, {_grown('bucket', 'model, le')})"
    atmost = f"((({guess}) < on (model) {costs}) or on (model) {costs})"
    # By a power of ten that leaves two digits before the point; a quotient has no digits beyond them.
    scale = f"10 ^ (1 - floor(log10({atmost})))"
    return f"round({atmost} * {scale}) / {scale}"


def _dear() -> Built:
    panel = lines(
        "What 99% of requests cost at most, by model",
        "In the six hours before each point. With OpenMetrics scraped and exemplars kept by Prometheus, the dots are "
        "the dearest requests with their request_id; ask /v1/billing/requests/ID or fal-exporter requests get for one.",
        [
            Query(
                f"histogram_quantile(0.99, {_grown('bucket', 'model, le', '6h')})",
                "{{model}}",
                interval="1h",
                with_exemplars=True,
            )
        ],
        DOLLARS_SHORT,
        fill=0,
    )
    # A young exporter has one point, which no line shows.
    panel.show_points(common_models.VisibilityMode.AUTO)
    return panel.no_value(_NOT_YET).time_from("48h")


def _spend() -> Built:
    panel = bars(
        "Cost of requests, by model",
        "In the hour when their hour was read to its end, some ten minutes after it.",
        [Query(f"topk(10, {_grown('sum', 'model', '1h')}) > 0", "{{model}}", interval="1h")],
        DOLLARS_SHORT,
        legend=(),
        at_right=False,
    )
    return panel.no_value(_NOT_YET).time_from("48h")


def _differing() -> Built:
    differences = of_accounts("fal_events_difference_usd", ("account", "model"))
    return rows(
        "Models whose requests differ from the ledger",
        "US dollars that the requests of settled hours cost more than the ledger charges for them. The hours are at "
        "/v1/billing/requests/differences, and fal-exporter requests differences lists them.",
        [Query(f"{differences} != 0")],
        {
            "account": Column("Account", width=150, properties=WRAPPED),
            "model": Column("Model", properties=WRAPPED),
            "Value": Column("Requests less ledger, $", "none", 190, 9),
        },
        no_value="none differs, or requests are not read",
    )


def _progress() -> Built:
    return rows(
        "How far requests have been read and compared",
        "Hours that are settled and have been compared with the ledger, how many of them differ, and the end of the "
        "last hour that has been read to its end. Where fal refuses it is asked again every day.",
        [
            Query(of_accounts("fal_events_compared", _ACCOUNT), ref="compared"),
            Query(of_accounts("fal_events_differing", _ACCOUNT), ref="differing"),
            Query(f"1000 * {of_accounts('fal_events_through_timestamp_seconds', _ACCOUNT)}", ref="through"),
            Query(of_accounts("fal_events_up", _ACCOUNT), ref="up"),
        ],
        {
            "account": Column("Account"),
            "Value #compared": Column("Compared", "locale", 90, 0),
            "Value #differing": Column("Differ", "locale", 64, 0),
            "Value #through": Column("Read through", "dateTimeFromNow", 124),
            "Value #up": Column(
                "fal",
                width=80,
                properties=words({"0": ("refuses", palette.WARNING), "1": ("answers", palette.GOOD)}),
            ),
        },
        key="account",
        no_value=_NOT_READ,
    )


def _booked() -> Built:
    halves = {"high": ("booked too high", "> 0"), "low": ("booked too low", "< 0")}
    queries = [
        Query("max(fal_booked_usd)", "booked", "booked"),
        Query("max(fal_booked_charged_usd)", "charged", "charged"),
    ]
    for half, (name, sign) in halves.items():
        findings = 'max by (finding) (fal_booked_finding_usd{finding!="not_read"})'
        amount = f"(abs(sum({findings} {sign})) or on () 0 * max(fal_booked_usd))"
        queries += [
            Query(bookings_of_rule(amount, reported=reported), name, f"{half}_{'reported' if reported else 'little'}")
            for reported in (True, False)
        ]
    queries.append(Query("time() - max(fal_booked_window_end_timestamp_seconds)", "compared up to, ago", "age"))
    panel = figure(
        "Booked, this month and last",
        "What your gateway or program booked for requests in this month and the last, what fal charged for them, what "
        "of it is booked too high and what too low (orange from where FalBookingsDiffer reports it: both may nearly "
        "cancel out in the sums), and how long ago the compared hours end. Compared every six hours where "
        "FAL_EXPORTER_BOOKED_SOURCE says where the bookings are.",
        queries,
        DOLLARS,
        decimals=2,
        color=palette.SPEND,
        names=True,
        size=20,
        no_value=_NOT_BOOKED,
    )
    for half in halves:
        panel.override_by_query(f"{half}_reported", properties(fixed(palette.WARNING)))
        panel.override_by_query(f"{half}_little", properties(fixed(palette.GOOD)))
    panel.override_by_query("age", properties({"unit": LASTING, "decimals": 0} | coloured(*_AGES, base=palette.GOOD)))
    # A line for each, so that a label stands beside its value.
    return panel.orientation(common_models.VizOrientation.HORIZONTAL)


_AGES = ((86_400, palette.WARNING), (129_600, palette.BAD))


def _findings() -> Built:
    return rows(
        "Why bookings differ",
        "US dollars booked less charged, and requests, by what explains the difference: above 0 too much is booked, "
        "below 0 too little. They add up to the whole difference; hours that are not read yet are not in it. "
        "fal-exporter reconcile lists the requests.",
        [
            Query("max by (finding) (fal_booked_finding_usd)", ref="amount"),
            Query("max by (finding) (fal_booked_finding_requests)", ref="requests"),
        ],
        {
            "finding": Column(
                "Finding",
                properties=words(_FINDINGS) | {"custom.cellOptions": {"type": "color-text", "wrapText": True}},
            ),
            "Value #requests": Column("Requests", "locale", 84, 0),
            "Value #amount": Column("Too much booked, $", SIGNED, 152, 2),
        },
        key="finding",
        no_value=_NOT_BOOKED,
    )


def _booked_models() -> Built:
    difference = "max by (model) (fal_booked_difference_usd)"
    return rows(
        "Models whose bookings differ",
        "US dollars booked less charged, of the twenty models that are furthest off: above 0 the gateway's price list "
        "is too high, below 0 too low. Bookings that fal has not charged for have no model.",
        [
            Query(f"topk(20, abs({difference}) > 0)", ref="off"),
            Query(f"{difference} != 0\nand topk(20, abs({difference}))", ref="difference"),
        ],
        {
            "model": Column("Model", properties=WRAPPED),
            "Value #off": Column("Off by", DOLLARS, 96, 2),
            "Value #difference": Column("Too much booked, $", SIGNED, 152, 2),
        },
        key="model",
        sort="Off by",
        no_value="none differs, or bookings are not compared",
    )
