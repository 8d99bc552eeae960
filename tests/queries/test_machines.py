from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from queries.conftest import APP, BERLIN, HISTORY, NOW, UTC_ZONE

from exporter.charges import HOUR, NANO, Window, hour_number
from exporter.ledger import Ledger
from exporter.ledger.reader import LedgerReader
from exporter.machines import AppSettings, RequestHour, RunnerHour, Runners
from exporter.queries.exact_json import texts
from exporter.queries.machines import MachinesAnswer, answer_machines, parse_machines_question
from exporter.queries.models import Machines
from exporter.queries.parameters import QuestionError

TRAIN = AppSettings("research", "lab", "train", "main", "GPU-H100", 300, 1, 6)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
NIGHT = Window(datetime(2026, 11, 2, 22, tzinfo=UTC), datetime(2026, 11, 3, 6, tzinfo=UTC))


@pytest.fixture
def divided(reader: LedgerReader, ledger: Ledger) -> LedgerReader:
    """The app's runner is idle at night, has no history in the last hour, and works otherwise."""
    ledger.machines.record_settings("research", [TRAIN])
    hours = [
        RunnerHour(
            "research",
            "train",
            hour_number(hour),
            Runners(idle=NANO) if hour in NIGHT else Runners(running=NANO),
            complete=True,
        )
        for hour in HISTORY.hours()
        if hour < HISTORY.end - HOUR
    ]
    ledger.machines.record_runners("research", HISTORY, {"train": hours})
    asked = RequestHour("research", "serverless", "train", hour_number(NIGHT.end), 10, 8, 1, 1, 2, 0)
    ledger.machines.record_requests("research", HISTORY, [("serverless", "train")], [asked])
    return reader


def answered(reader: LedgerReader, given: Mapping[str, str]) -> MachinesAnswer:
    with reader.snapshot() as snapshot:
        return answer_machines(snapshot, parse_machines_question(given, now=NOW, zone=UTC_ZONE))


CENTS = NANO // 100


def test_the_month_so_far_is_divided_by_state(divided: LedgerReader, hours: int) -> None:
    found = answered(divided, {})
    (train,) = found.apps
    assert (found.start, found.end) == (NOVEMBER, HISTORY.end)
    assert (train.app, train.environment, train.gpu_class) == ("train", "", "H100")
    assert train.spend.idle == 8 * 9 * CENTS
    assert train.spend.unknown == 9 * CENTS
    assert train.spend.total == found.spend.total == 59 * 9 * CENTS
    assert train.gpu_seconds.idle == 8 * 7 * NANO
    # The listing calls it main, charges leave the name out.
    assert train.settings is not None
    assert (train.settings.environment, train.settings.keep_alive) == ("", 300)
    assert any("$0.09 of the spend is in hours for which fal has stated no runners" in note for note in found.notes)
    assert len(HISTORY) == hours


def test_an_account_whose_apps_are_not_listed_is_named_and_left_out(divided: LedgerReader) -> None:
    assert any("not been listed: studio." in note for note in answered(divided, {}).notes)
    assert answered(divided, {"account": "studio"}).apps == ()
    assert not any("not been listed" in note for note in answered(divided, {"account": "research"}).notes)


def test_where_nothing_is_known_by_state_there_is_no_idle_share(divided: LedgerReader) -> None:
    last = answered(
        divided, {"start": f"{HISTORY.end - HOUR:%Y-%m-%dT%H:%MZ}", "end": f"{HISTORY.end:%Y-%m-%dT%H:%MZ}"}
    )
    assert (last.spend.unknown, last.spend.total, last.idle_share) == (9 * CENTS, 9 * CENTS, None)
    assert [app.idle_share for app in Machines.model_validate(last).apps] == [None]
    assert answered(divided, {"start": "2026-11-03T06:00Z", "end": "2026-11-03T07:00Z"}).idle_share == 0


def test_requests_stand_beside_what_they_cost(divided: LedgerReader) -> None:
    (found,) = answered(divided, {"start": "2026-11-03T06:00Z", "end": "2026-11-03T07:00Z"}).requests
    assert (found.cost, found.cost_per_success) == (9 * CENTS, round(9 * CENTS / 8))
    assert (found.failed, found.failed_cost, found.failed_share) == (2, round(0.2 * 9 * CENTS), pytest.approx(0.2))


def test_what_requests_cost_is_of_the_hours_in_which_they_are_known_and_a_note_says_so(
    reader: LedgerReader, ledger: Ledger
) -> None:
    ledger.machines.record_settings("research", [TRAIN])
    known = Window(NIGHT.start, NIGHT.start + 3 * HOUR)
    asked = [
        RequestHour("research", "serverless", "train", hour_number(hour), 10, 10, 0, 0, 0, 0) for hour in known.hours()
    ]
    ledger.machines.record_requests("research", known, [("serverless", "train")], asked)

    def told(start: datetime, end: datetime) -> tuple[list[tuple[int, int, int | None]], list[str]]:
        found = answered(reader, {"start": start.isoformat(), "end": end.isoformat(), "account": "research"})
        requests = [(item.requests, item.cost, item.cost_per_success) for item in found.requests]
        return requests, [note for note in found.notes if "requests of research" in note]

    an_hour, night = 9 * CENTS, (30, 3 * 9 * CENTS, round(0.9 * CENTS))
    before, after = known.start - 5 * HOUR, known.end + 2 * HOUR
    assert told(known.start, known.end) == ([night], [])
    assert told(known.start + HOUR, known.end) == ([(20, 2 * an_hour, round(0.9 * CENTS))], [])
    only = (
        "What the requests of research cost is of 2026-11-02T22Z/2026-11-03T01Z only: their number is not known beyond "
        "it."
    )
    for start, end in ((before, after), (before, known.end), (known.start, after)):
        assert told(start, end) == ([night], [only])
    nothing = "The requests of research are not known in this window, and so neither is what they cost."
    assert told(known.end, after) == told(before, known.start) == ([], [nothing])


def test_a_window_is_of_the_zone_that_is_named(divided: LedgerReader) -> None:
    given = {"start": "2026-11-02T23:00", "end": "2026-11-03T07:00", "timezone": BERLIN.key}
    found = answered(divided, given)
    assert found.spend.idle == found.spend.total == 8 * 9 * CENTS
    assert answered(divided, {"end": "2026-11-01"}).start == datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize(("app", "count"), [("train", 1), ("other", 0)])
def test_apps_are_filtered(divided: LedgerReader, app: str, count: int) -> None:
    found = answered(divided, {"app": app})
    assert (len(found.apps), len(found.requests)) == (count, count)
    assert (found.spend.total > 0) == bool(count)


def test_a_question_that_cannot_be_understood_is_told_what_is_accepted(divided: LedgerReader) -> None:
    with pytest.raises(QuestionError, match="apps is not a parameter; did you mean app"):
        answered(divided, {"apps": "train"})
    with pytest.raises(QuestionError, match="accepted are research, studio"):
        answered(divided, {"account": "nobody"})


def test_the_document_has_every_amount_exactly(divided: LedgerReader) -> None:
    document = texts(Machines.model_validate(answered(divided, {"account": "research"})))
    apps = document["apps"]
    assert isinstance(apps, list)
    assert apps[0]["spend"] == {
        "running": "4.5",
        "idle": "0.72",
        "pending": "0",
        "draining": "0",
        "unknown": "0.09",
        "total": "5.31",
    }
    assert apps[0]["environment"] is None
    assert apps[0]["settings"]["machine_type"] == "GPU-H100"
    assert document["idle_share"] == pytest.approx(0.72 / 5.31)
    assert document["complete"] is False
    assert APP.team == "lab"


def test_lower_settings_are_tried_on_the_last_hours_that_are_known(divided: LedgerReader, ledger: Ledger) -> None:
    """The runner is idle for a night, and requests come in one hour alone."""
    found = answered(divided, {"account": "research"}).what_if
    by_proposal = {(item.proposed.keep_alive, item.proposed.min_concurrency): item for item in found}
    assert by_proposal.keys() == {(300, 0)}, "all that is alive is the minimum, so that a keep-alive ends nothing"
    (told,) = found
    week = answered(divided, {"account": "research", "start": "2026-10-20"}).what_if
    assert ledger.view().machines.what_ifs == week, "metrics and the page say the same of the same hours"
    assert (told.account, told.app, told.environment, told.hours) == ("research", "train", "", 58)
    assert told.most == 8 * 9 * CENTS
    assert 0 < told.least < told.likely == told.most
    assert told.most_starts == 8, "ten requests, of which two have waited already"
    (document,) = Machines.model_validate(answered(divided, {"account": "research"})).what_if
    assert (document.setting, document.present, document.proposed) == ("min_concurrency", 1, 0)
    assert texts(document)["saved_most"] == "0.72"


def test_settings_are_tried_on_a_week_and_not_where_requests_are_not_known(
    divided: LedgerReader, ledger: Ledger
) -> None:
    night = {"start": "2026-11-02T22:00Z", "end": "2026-11-03T06:00Z"}
    assert [item.hours for item in answered(divided, night).what_if] == [8]
    assert ledger.view().machines.tried == {("research", "train", "")}
    ledger.machines.record_settings("research", [TRAIN, replace(TRAIN, environment="staging")])
    assert answered(divided, {}).what_if == (), "fal tells runners by app, not by environment"
    assert ledger.view().machines.tried == set(), "so that the page says that nothing is known"
    ledger.machines.record_settings("research", [replace(TRAIN, keep_alive=None)])
    assert answered(divided, {}).what_if == ()


def test_an_account_whose_apps_have_not_been_listed_is_not_included_and_the_answer_not_complete(
    reader: LedgerReader, ledger: Ledger
) -> None:
    given = {"start": "2026-11-02", "end": "2026-11-03"}
    ledger.machines.record_settings("studio", [])
    left = "research ($2.16). That takes a key"
    found = answered(reader, given)
    assert (found.spend.total, found.coverage.complete) == (0, False)
    assert any(left in note for note in found.notes)
    of_app = answered(reader, given | {"app": "another"})
    assert of_app.coverage.complete, "nothing is missing of this app"
    assert answered(reader, given | {"account": "studio"}).coverage.complete
    ledger.machines.record_settings("research", [TRAIN])
    assert answered(reader, given).coverage.complete
