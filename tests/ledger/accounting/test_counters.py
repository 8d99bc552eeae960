from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Amounts, Dimensions
from exporter.ledger.accounting.counters import (
    OTHER,
    Admission,
    Counter,
    CounterKey,
    Holds,
    Labels,
    advanced,
    measured,
    released,
    renamed,
)

LABELS = Labels(("account", "team", "product", "model", "app", "gpu_class"))


def values(model: str = "", team: str = "", app: str = "", gpu: str = "") -> tuple[str, ...]:
    return LABELS.of(Dimensions("main", team=team, product="model_apis", model=model, app=app, gpu_class=gpu))


def test_labels_are_the_charge_s_dimensions_in_the_configured_order() -> None:
    labels = Labels(("model", "account"))
    assert labels.of(Dimensions("main", model="m")) == ("m", "main")
    assert labels.account_of(("m", "main")) == "main"


def test_a_team_without_charges_has_the_label_set_that_says_nothing_else() -> None:
    of_team = LABELS.of_team("main", "red")
    assert of_team == ("main", "red", "", "", "", "")
    assert LABELS.is_of_team(of_team)
    assert not LABELS.is_of_team(values("m", team="red"))
    assert not LABELS.is_of_team(LABELS.of(Dimensions("main")))
    without = Labels(("account", "model"))
    assert without.of_team("main", "red") is None
    assert not without.is_of_team(("main", "m"))


def test_up_to_the_limit_label_sets_are_published_as_they_are() -> None:
    admission = Admission(LABELS, 3, ())
    assert [admission.place(values(f"m{n}")) for n in range(3)] == [values(f"m{n}") for n in range(3)]


def test_beyond_the_limit_model_and_app_are_folded_and_nothing_else() -> None:
    admission = Admission(LABELS, 1, ())
    admission.place(values("first"))
    assert admission.place(values("m", team="red", gpu="H100")) == values(OTHER, team="red", gpu="H100")
    assert admission.place(values("", app="a")) == values("", app=OTHER)


def test_what_was_admitted_stays_admitted_after_a_restart_with_a_lower_limit() -> None:
    assert Admission(LABELS, 0, [values("m")]).place(values("m")) == values("m")


def test_when_the_folded_sets_are_too_many_the_other_labels_are_folded_too_but_account_and_product() -> None:
    admission = Admission(LABELS, 1, ())
    placed = {admission.place(values("m", team=f"t{n}", gpu=f"g{n % 3}")) for n in range(500)}
    assert values(OTHER, team=OTHER, gpu="g1") in placed
    assert all(item[0] == "main" and item[2] == "model_apis" for item in placed)


@given(st.integers(0, 30), st.lists(st.builds(values, *[st.text(max_size=2)] * 4), max_size=200))
def test_the_number_of_label_sets_is_bounded_whatever_fal_sends(limit: int, wanted: list[tuple[str, ...]]) -> None:
    admission = Admission(LABELS, limit, ())
    placed = {admission.place(item) for item in wanted}
    everything_folded = 2**4
    assert len(placed) <= limit + 2 * 16 + everything_folded


@given(st.lists(st.builds(values, *[st.sampled_from(["", "x", "y"])] * 4), max_size=60))
def test_a_label_set_once_placed_under_its_own_name_always_is(wanted: list[tuple[str, ...]]) -> None:
    admission = Admission(LABELS, 5, ())
    as_they_are = {item for item in wanted if admission.place(item) == item}
    assert all(admission.place(item) == item for item in as_they_are)


BORN = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOLD = timedelta(minutes=2)
KEY = CounterKey(1, "cost", "")
NEW = Counter(0, 0, BORN, released=False)


@given(st.lists(st.integers(-100, 100)))
def test_a_released_counter_shows_the_highest_truth_there_has_been(changes: list[int]) -> None:
    counter = released(NEW)
    truth = highest = 0
    for change in changes:
        counter = advanced(counter, change)
        truth += change
        highest = max(highest, truth)
        assert (counter.published, counter.pending) == (highest, highest - truth)


@given(st.lists(st.integers(-100, 100)))
def test_a_held_counter_shows_zero_and_its_truth_when_it_is_released(changes: list[int]) -> None:
    counter = NEW
    for change in changes:
        counter = advanced(counter, change)
        assert counter.published == 0
    assert released(counter).published == max(sum(changes), 0)


def test_under_a_new_name_a_counter_begins_at_zero_and_tells_only_what_comes_after() -> None:
    counter = renamed(Counter(7, 9, BORN, released=True), BORN + HOLD)
    assert (counter.shown, counter.created_at, counter.pending) == (0, BORN + HOLD, 2)
    assert released(advanced(counter, 5)).shown == 3, "the two that were ahead of the truth are told already"


def test_the_cost_is_always_counted_the_rest_where_there_is_some() -> None:
    assert list(measured(Amounts(), "image")) == [("cost", "", 0)]
    assert list(measured(Amounts(1, 2, 3, 4, 5), "image")) == [
        ("cost", "", 5),
        ("discount", "", 4),
        ("gpu_seconds", "", 2),
        ("quantity", "image", 1),
    ]


def held() -> Holds:
    holds = Holds(HOLD)
    holds.begin(KEY)
    return holds


def test_a_counter_is_due_when_the_hold_has_passed_and_a_scrape_has_seen_it_at_zero() -> None:
    holds = held()
    holds.shown(1)
    holds.scraped(1)
    assert holds.due({KEY: NEW}, BORN + HOLD - timedelta(seconds=1)) == []
    assert holds.due({KEY: NEW}, BORN + HOLD) == [KEY]


def test_a_counter_that_no_scrape_has_seen_is_held_on() -> None:
    holds = held()
    assert holds.due({KEY: NEW}, BORN + HOLD) == []
    holds.shown(1)
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_a_scrape_of_a_view_before_the_counter_s_birth_does_not_count() -> None:
    holds = Holds(HOLD)
    holds.shown(1)
    holds.begin(KEY)
    holds.shown(2)
    holds.scraped(1)
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_a_scrape_of_a_view_of_an_earlier_process_does_not_count() -> None:
    holds = held()
    holds.shown(1)
    holds.scraped(900)
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_a_scrape_before_anything_has_been_shown_does_not_count() -> None:
    holds = held()
    holds.scraped(1)
    holds.shown(1)
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_what_has_grown_is_scraped_once_the_view_that_shows_it_is() -> None:
    holds = Holds[CounterKey](HOLD)
    assert holds.is_all_scraped, "nothing has grown yet"
    holds.shown(1)
    holds.scraped(1)
    holds.grew()
    assert not holds.is_all_scraped, "no view shows it"
    holds.shown(2)
    holds.shown(3)
    assert not holds.is_all_scraped, "nobody has scraped the view that shows it"
    holds.scraped(2)
    assert holds.is_all_scraped


def test_a_counter_that_has_been_released_is_held_no_more() -> None:
    holds = held()
    holds.shown(1)
    holds.scraped(1)
    holds.end([KEY, KEY])
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_contents_that_are_read_anew_keep_what_is_known_of_scrapes() -> None:
    holds = held()
    holds.shown(1)
    holds.scraped(1)
    other = CounterKey(2, "cost", "")
    holds.keep({KEY: NEW, other: NEW})
    assert holds.due({KEY: NEW, other: NEW}, BORN + HOLD) == [KEY]
    holds.keep({KEY: released(NEW), other: NEW})
    assert holds.due({KEY: released(NEW), other: NEW}, BORN + HOLD) == []
