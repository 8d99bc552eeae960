"""`GET /models/analytics`: requests, errors and durations of model endpoints, in buckets."""

from binascii import crc32

from exporter.simulator.calls import Answer, Call, Row, Sums
from exporter.simulator.errors import ApiError
from exporter.simulator.exact import NANO, Exact, stamp
from exporter.simulator.lines import MODEL_APIS
from exporter.simulator.world import Charge

_VIEWS = ("time_series", "summary")
_COUNTS = (
    "request_count",
    "success_count",
    "user_error_count",
    "error_count",
    "startup_error_count",
    "connection_error_count",
    "timeout_error_count",
    "runtime_error_count",
    "cold_boot_count",
)
_DURATIONS = {
    **{f"p{rank}_prepare_duration": 40 * share for rank, share in ((50, 10), (75, 14), (90, 21), (95, 28), (99, 60))},
    **{
        f"p{rank}_duration": 1_000 * share
        for rank, share in ((25, 8), (50, 10), (75, 13), (90, 19), (95, 25), (99, 48))
    },
    **{f"p{rank}_cold_boot_duration": 9_000 * share for rank, share in ((50, 10), (75, 12), (90, 16))},
}
_METRICS = (*_COUNTS, *_DURATIONS, "total_billable_duration")


async def analytics(call: Call) -> Answer:
    """Answer counts and durations (seconds); charged requests are the successful ones."""
    endpoints = call.query.values("endpoint_id")
    if not endpoints:
        raise ApiError(400, "endpoint_id: at least one endpoint is required.")
    expand = call.query.choices("expand", (*_VIEWS, *_METRICS), ("time_series", "request_count"))
    if not {*_VIEWS} & {*expand} or not {*_METRICS} & {*expand}:
        raise ApiError(400, "expand: at least one of time_series, summary and at least one metric are needed.")
    period = call.query.period(call.now)

    def wanted(charge: Charge) -> bool:
        return charge.line.product == MODEL_APIS and charge.line.model in endpoints

    async def rows(span: tuple[int, int]) -> list[Row]:
        sums = Sums()
        async for charges in call.charges(span, wanted):
            sums.add(lambda charge: (charge.line.model,), charges)
        return [_row(str(group[0]), amounts[0], expand) for group, amounts in sums.groups.items()]

    body: Row = {"next_cursor": None, "has_more": False}
    if "time_series" in expand:
        series: list[Row] = []
        for stamped, span in period.buckets():
            results = await rows(span)
            if results:
                series.append({"bucket": stamp(stamped), "results": results})
        body["time_series"] = series
    if "summary" in expand:
        body["summary"] = await rows(period.span)
    return Answer(body)


def _row(endpoint_id: str, succeeded: int, expand: tuple[str, ...]) -> Row:
    tempo = 10 + crc32(endpoint_id.encode()) % 90
    failures = {
        "user_error_count": succeeded // 23,
        "startup_error_count": succeeded // 301,
        "connection_error_count": succeeded // 211,
        "timeout_error_count": succeeded // 127,
        "runtime_error_count": succeeded // 67,
    }
    failed = sum(failures.values())
    counts = {
        **failures,
        "request_count": succeeded + failed,
        "success_count": succeeded,
        "error_count": failed - failures["user_error_count"],
        "cold_boot_count": succeeded // 41,
    }
    row: Row = {"endpoint_id": endpoint_id}
    for metric in expand:
        if metric in counts:
            row[metric] = counts[metric]
        elif metric in _DURATIONS:
            row[metric] = Exact(_DURATIONS[metric] * tempo * NANO // 1_000_000)
        elif metric == "total_billable_duration":
            row[metric] = Exact(succeeded * tempo * NANO // 10)
    return row
