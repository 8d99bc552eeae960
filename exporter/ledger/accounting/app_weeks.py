"""App weeks: the hours of each app that other settings can be tried on, from runners, requests and charges by state.

fal tells runners by app and settings by environment, so that only an app in one environment alone has both. Hours count
that are over and of which runners and requests are known; of those the last that follow each other without a gap.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from exporter.charges import HOUR, Window, hour_of, hour_start
from exporter.forecasting.what_if import WEEK, AppHour, AppWeek, Setting
from exporter.machines import SERVERLESS, AppSettings, RequestHour, RunnerHour, StateSum, app_name


def week_before(now: datetime) -> Window:
    """Return the hours of the last week, the current one included."""
    end = hour_of(now) + HOUR
    return Window(end - WEEK * HOUR, end)


def app_weeks(
    settings: Iterable[AppSettings],
    through: Mapping[str, int | None],
    *,
    runners: Callable[[str], Iterable[RunnerHour]],
    requests: Callable[[str], Iterable[RequestHour]],
    states: Callable[[Window], Iterable[StateSum]],
) -> Iterator[AppWeek]:
    """Yield the apps that other settings can be tried on.

    Args:
        settings: of the apps, as charges name them.
        through: number of the hour up to which the requests of each account are known; None before the first time.
        runners: returns those of an account, by hour in order.
        requests: returns those of an account.
        states: returns what apps cost in a window; asked once for each.
    """
    sums: dict[Window, dict[tuple[str, str], tuple[int, int]]] = {}
    listed = sorted(settings, key=lambda item: (item.account, app_name(item.app)))
    for account in sorted({item.account for item in listed} & through.keys()):
        known = _known_hours(runners(account), through[account])
        asked = {(item.name, item.hour): item for item in requests(account) if item.product == SERVERLESS}
        for app, its in _by_app(item for item in listed if item.account == account).items():
            hours = _unbroken(known.get(app, ()))
            if len(its) > 1 or its[0].keep_alive is None or its[0].min_concurrency is None or not hours:
                continue
            span = Window(hour_start(hours[0].hour), hour_start(hours[-1].hour + 1))
            if span not in sums:
                sums[span] = _sums_by_app(states(span))
            yield AppWeek(
                account,
                its[0].app,
                its[0].environment,
                Setting(its[0].keep_alive, its[0].min_concurrency),
                tuple(_tried(hour, asked.get((app, hour.hour))) for hour in hours),
                *sums[span].get((account, app), (0, 0)),
            )


def _known_hours(runners: Iterable[RunnerHour], through: int | None) -> dict[str, list[RunnerHour]]:
    found: dict[str, list[RunnerHour]] = {}
    for hour in runners:
        if hour.complete and through is not None and hour.hour < through:
            found.setdefault(app_name(hour.app), []).append(hour)
    return found


def _sums_by_app(states: Iterable[StateSum]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return cost and GPU time by account and app."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for item in states:
        key = (item.account, app_name(item.app))
        cost, gpu_seconds = found.get(key, (0, 0))
        found[key] = (cost + item.cost.total, gpu_seconds + item.gpu_seconds.total)
    return found


def _by_app(settings: Iterable[AppSettings]) -> dict[str, list[AppSettings]]:
    found: dict[str, list[AppSettings]] = {}
    for item in settings:
        found.setdefault(app_name(item.app), []).append(item)
    return found


def _unbroken(hours: Sequence[RunnerHour]) -> Sequence[RunnerHour]:
    """Return the last hours that follow each other without a gap."""
    first = next((at for at in range(len(hours) - 1, 0, -1) if hours[at].hour - hours[at - 1].hour != 1), 0)
    return hours[first:]


def _tried(hour: RunnerHour, asked: RequestHour | None) -> AppHour:
    return AppHour(hour.runners, *((asked.requests, asked.cold_starts) if asked else (0, 0)))
