from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, NANO, Window
from exporter.forecasting.changes import OTHER, Bought, Changes, Item, Move, changes, largest, moves, same_part

FLUX = Item("main", "model_apis", "flux", "", "")
KLING = Item("main", "model_apis", "kling", "", "")
BOUGHT = st.builds(Bought, st.integers(-(10**12), 10**15), st.integers(0, 10**14))
PURCHASES = st.dictionaries(
    st.tuples(st.builds(Item, *[st.sampled_from(["a", "b"])] * 5), st.sampled_from(["image", "second"])), BOUGHT
)


def dollars(found: Changes) -> dict[Item, dict[str, float]]:
    return {item: {cause: amount / NANO for cause, amount in causes.items()} for item, causes in found.items()}


def test_a_dearer_and_larger_purchase_moved_by_price_and_by_volume() -> None:
    before = {(FLUX, "image"): Bought(100 * NANO, 1000 * NANO)}
    after = {(FLUX, "image"): Bought(300 * NANO, 1500 * NANO)}
    assert dollars(changes(before, after)) == {FLUX: {"volume": 50.0, "price": 150.0}}


def test_what_was_not_bought_before_is_new_and_what_is_not_bought_now_is_gone() -> None:
    before = {(FLUX, "image"): Bought(100 * NANO, 1000 * NANO)}
    after = {(KLING, "second"): Bought(7 * NANO, 1 * NANO)}
    assert dollars(changes(before, after)) == {FLUX: {"gone": -100.0}, KLING: {"new": 7.0}}


def test_another_unit_of_the_same_item_is_volume() -> None:
    before = {(FLUX, "image"): Bought(100 * NANO, 1000 * NANO)}
    after = before | {(FLUX, "megapixel"): Bought(9 * NANO, 3 * NANO)}
    assert dollars(changes(before, after)) == {FLUX: {"volume": 9.0}}


def test_without_a_quantity_the_cause_is_not_known() -> None:
    before = {(FLUX, "image"): Bought(100 * NANO, 0)}
    after = {(FLUX, "image"): Bought(300 * NANO, 1500 * NANO)}
    assert dollars(changes(before, after)) == {FLUX: {"unknown": 200.0}}
    assert dollars(changes(after, before)) == {FLUX: {"unknown": -200.0}}


def test_volume_is_rounded_to_the_nearest_nano_dollar_and_price_is_what_remains() -> None:
    before, after = {(FLUX, "image"): Bought(1, 3)}, {(FLUX, "image"): Bought(1, 5)}
    assert changes(before, after) == {FLUX: {"volume": 1, "price": -1}}


@given(PURCHASES, PURCHASES, st.integers(0, 6))
def test_the_causes_add_up_to_the_change_to_the_nano_dollar(
    before: dict[tuple[Item, str], Bought], after: dict[tuple[Item, str], Bought], count: int
) -> None:
    change = sum(item.cost for item in after.values()) - sum(item.cost for item in before.values())
    found = changes(before, after)
    assert sum(sum(causes.values()) for causes in found.values()) == change
    kept = largest(found, count)
    assert sum(sum(causes.values()) for causes in kept.values()) == change
    assert sum(item.model != OTHER for item in kept) == min(count, len(found))


def test_what_is_kept_changed_most_whatever_its_sign() -> None:
    third = Item("main", "model_apis", "veo", "", "")
    found: Changes = {FLUX: {"volume": -50, "price": 50}, KLING: {"new": 99}, third: {"gone": -3}}
    other = Item("main", "model_apis", OTHER, OTHER, OTHER)
    assert largest(found, 1) == {FLUX: {"volume": -50, "price": 50}, other: {"new": 99, "gone": -3}}


def month(year: int, number: int) -> Window:
    start = datetime(year, number, 1, tzinfo=UTC)
    return Window(start, datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC))


def test_the_same_part_of_two_months_is_as_many_hours() -> None:
    parts = same_part(month(2026, 11), month(2026, 10), datetime(2026, 11, 12, 7, tzinfo=UTC))
    assert parts == (
        Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 12, 7, tzinfo=UTC)),
        Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 12, 7, tzinfo=UTC)),
    )


def test_the_last_days_of_a_longer_month_are_compared_with_all_of_the_shorter_one() -> None:
    parts = same_part(month(2026, 3), month(2026, 2), datetime(2026, 3, 30, tzinfo=UTC))
    assert parts is not None
    assert parts[0] == month(2026, 2)
    assert len(parts[1]) == 29 * 24


def test_a_month_without_a_complete_hour_is_not_compared() -> None:
    november = month(2026, 11)
    assert same_part(november, month(2026, 10), november.start) is None
    assert same_part(november, month(2026, 10), november.start - HOUR) is None


COSTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-(10**12), 10**15))


@given(COSTS, COSTS, st.integers(0, 9))
def test_who_moved_and_all_others_are_everything(before: dict[str, int], after: dict[str, int], most: int) -> None:
    found = moves(before, after, most)
    assert (found.total.before, found.total.after) == (sum(before.values()), sum(after.values()))
    sizes = [abs(move.change) for move in found.top]
    assert sizes == sorted(sizes, reverse=True)
    named = {name for name in {*before, *after} if before.get(name) or after.get(name)}
    assert len(found.top) == min(most, len(named))
    assert found.count == len(named) - len(found.top)


def test_who_moved_most_is_first_whatever_the_direction() -> None:
    found = moves({"acme": 100, "bolt": 50, "same": 7, "none": 0}, {"bolt": 52, "new": 30, "same": 7}, 2)
    assert found.top == (Move("acme", 100, 0), Move("new", 0, 30))
    assert (found.count, found.rest) == (2, Move(OTHER, 57, 59))
