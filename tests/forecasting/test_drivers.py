from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import NANO
from exporter.forecasting.drivers import (
    NOT_BOUGHT,
    Item,
    Parts,
    Purchase,
    Purchases,
    _rounded,
    drivers,
    ranked,
    total,
)

FLUX = Item("main", "model_apis", "flux", "", "", "image")
DEAR = FLUX._replace(model="ultra")
VIDEO = FLUX._replace(model="kling", unit="second")
APP = Item("main", "serverless", "", "train", "A100", "second")


def bought(quantity: float, price: float, *, discount: float = 0, surge: tuple[float, float] = (0, 0)) -> Purchase:
    """So many units at a list price in dollars; `surge` has how many of them at which price."""
    plain, dear = round((quantity - surge[0]) * price * NANO), round(surge[0] * surge[1] * NANO)
    listed = plain + dear
    return Purchase(round(quantity * NANO), listed, round(listed * (1 - discount)), round(surge[0] * NANO), dear)


def parts_in_dollars(before: Purchases, after: Purchases) -> dict[str, float]:
    return {name: amount / NANO for name, amount in total(drivers(before, after))._asdict().items() if amount}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({FLUX: bought(100, 1)}, {FLUX: bought(150, 1)}, {"volume": 50}),
        ({FLUX: bought(100, 1)}, {FLUX: bought(100, 1.5)}, {"price": 50}),
        ({FLUX: bought(100, 1)}, {FLUX: bought(150, 2)}, {"volume": 50, "price": 150}),
        ({FLUX: bought(100, 1)}, {FLUX: bought(100, 1, discount=0.25)}, {"discount": -25}),
        ({FLUX: bought(100, 1, discount=0.25)}, {FLUX: bought(200, 1, discount=0.25)}, {"volume": 75}),
        ({FLUX: bought(100, 1)}, {FLUX: bought(100, 1), VIDEO: bought(10, 2)}, {"new": 20}),
        ({FLUX: bought(100, 1), VIDEO: bought(10, 2)}, {FLUX: bought(100, 1)}, {"vanished": -20}),
        # 100 of 200 images move from a model at 1 to one at 4.
        (
            {FLUX: bought(150, 1), DEAR: bought(50, 4)},
            {FLUX: bought(50, 1), DEAR: bought(150, 4)},
            {"mix": 300},
        ),
        # Twice as many of both is no mix.
        (
            {FLUX: bought(100, 1), DEAR: bought(50, 4)},
            {FLUX: bought(200, 1), DEAR: bought(100, 4)},
            {"volume": 300},
        ),
        # Images and seconds of video have no sum: each is its own volume.
        (
            {FLUX: bought(100, 1), VIDEO: bought(100, 2)},
            {FLUX: bought(150, 1), VIDEO: bought(50, 2)},
            {"volume": 50 - 100},
        ),
        # An app that moves to a dearer machine.
        ({APP: bought(100, 1)}, {APP._replace(gpu_class="H100"): bought(100, 3)}, {"mix": 200}),
        # A model that is sold by another unit.
        ({FLUX: bought(100, 1)}, {FLUX._replace(unit="megapixel"): bought(70, 2)}, {"mix": 40}),
        ({APP: bought(100, 1)}, {APP: bought(100, 1, surge=(50, 3))}, {"surge": 100}),
        ({APP: bought(100, 1)}, {APP: bought(100, 1, surge=(100, 3))}, {"surge": 200}),
        ({APP: bought(100, 1, surge=(50, 3))}, {APP: bought(200, 1, surge=(100, 3))}, {"volume": 200}),
        ({APP: bought(100, 1, surge=(50, 2))}, {APP: bought(100, 2, surge=(50, 4))}, {"price": 150}),
        # Free before: what it costs now is a change of price, at the discount of now.
        ({FLUX: bought(100, 0)}, {FLUX: bought(200, 1, discount=0.5)}, {"price": 100}),
        ({FLUX: bought(100, 1)}, {FLUX: bought(100, 0)}, {"price": -100}),
        ({FLUX: Purchase(0, 100 * NANO, 100 * NANO)}, {FLUX: bought(150, 1)}, {"unknown": 50}),
        ({FLUX: bought(100, 1)}, {FLUX: Purchase(100 * NANO, 0, -5 * NANO)}, {"unknown": -105}),
    ],
)
def test_each_cause_alone(before: Purchases, after: Purchases, expected: dict[str, float]) -> None:
    assert parts_in_dollars(before, after) == pytest.approx(expected)


def test_the_worked_example_of_the_documentation() -> None:
    before = {FLUX: bought(10_000, 0.025), DEAR: bought(2_000, 0.06), VIDEO: bought(500, 0.07)}
    after = {
        FLUX: bought(12_000, 0.025),
        DEAR: bought(6_000, 0.07),
        FLUX._replace(model="veo3", unit="second"): bought(100, 0.4),
    }
    assert parts_in_dollars(before, after) == pytest.approx(
        {"price": 60, "volume": 185, "mix": 105, "new": 40, "vanished": -35}
    )


def test_a_model_that_is_known_of_another_account_is_not_new() -> None:
    found = drivers({FLUX: bought(100, 1)}, {FLUX: bought(100, 1), FLUX._replace(account="second"): bought(50, 1)})
    assert total(found) == Parts(volume=50 * NANO)
    assert [driver.parts for driver in found] == [
        Parts(volume=50 * NANO, mix=-50 * NANO),
        Parts(mix=50 * NANO),
    ]


def test_what_moved_most_comes_first_whatever_its_sign_and_ties_are_in_the_order_of_names() -> None:
    found = drivers(
        {FLUX: bought(100, 1), VIDEO: bought(10, 1), DEAR: bought(1, 9)},
        {FLUX: bought(100, 1), DEAR: bought(1, 9), APP: bought(10, 1)},
    )
    assert [driver.item for driver in ranked(found)] == [VIDEO, APP, FLUX, DEAR]


_AMOUNTS = st.integers(-(10**12), 10**15) | st.integers(0, 5)
_PURCHASE = st.one_of(
    st.just(NOT_BOUGHT),
    st.builds(Purchase, _AMOUNTS, _AMOUNTS, _AMOUNTS, _AMOUNTS, _AMOUNTS),
    st.builds(
        lambda quantity, listed: Purchase(quantity, listed, listed), st.integers(1, 10**12), st.integers(0, 10**15)
    ),
)
_ITEM = st.builds(
    Item,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["model_apis", "serverless"]),
    st.sampled_from(["", "flux", "kling"]),
    st.just(""),
    st.sampled_from(["", "H100"]),
    st.sampled_from(["image", "second"]),
)
_PURCHASES = st.dictionaries(_ITEM, _PURCHASE, max_size=8)


def _cost(purchases: Purchases) -> int:
    return sum(purchase.cost for purchase in purchases.values())


@given(_PURCHASES, _PURCHASES)
def test_parts_add_up_to_the_difference_to_the_nano_dollar(before: Purchases, after: Purchases) -> None:
    found = drivers(before, after)
    assert sum(total(found)) == _cost(after) - _cost(before)
    for driver in found:
        assert sum(driver.parts) == driver.difference == driver.after.cost - driver.before.cost
        assert sum(part != 0 for part in (driver.parts.new, driver.parts.vanished, driver.parts.unknown)) <= 1


@given(_PURCHASES)
def test_a_window_compared_with_itself_has_no_drivers(purchases: Purchases) -> None:
    assert total(drivers(purchases, purchases)) == Parts()
    assert all(driver.parts == Parts() for driver in drivers(purchases, purchases))


@given(_PURCHASES, _PURCHASES)
def test_the_order_in_which_items_are_known_decides_nothing(before: Purchases, after: Purchases) -> None:
    def turned(purchases: Purchases) -> Purchases:
        return dict(reversed(purchases.items()))

    assert drivers(before, after) == drivers(turned(before), turned(after))


@given(
    st.dictionaries(
        st.sampled_from([FLUX, DEAR, VIDEO]),
        st.builds(
            lambda quantity, listed, kept: Purchase(quantity, listed, listed * kept // 4),
            *(st.integers(1, 10**9), st.integers(4, 10**12), st.integers(1, 4)),
        ),
        min_size=1,
    ),
    st.integers(2, 9),
)
def test_growth_of_everything_alike_is_volume_alone(before: Purchases, times: int) -> None:
    after = {item: Purchase(*(times * value for value in purchase)) for item, purchase in before.items()}
    assert total(drivers(before, after)) == Parts(volume=_cost(after) - _cost(before))


_PLAIN = st.builds(Purchase, *[st.integers(1, 10**12)] * 3, st.just(0), st.just(0))


@given(_PLAIN, _PLAIN, _PLAIN, _PLAIN)
def test_no_part_is_off_by_a_nano_dollar_or_more(one: Purchase, two: Purchase, later: Purchase, last: Purchase) -> None:
    """Volume and price of the definition, in fractions, beside what the module rounds."""
    found = drivers({FLUX: one, DEAR: two}, {FLUX: later, DEAR: last})
    growth = Fraction(later.quantity + last.quantity, one.quantity + two.quantity)
    pairs = {FLUX: (one, later), DEAR: (two, last)}
    for driver in found:
        before, after = pairs[driver.item]
        kept = Fraction(before.cost, before.list_cost)
        price = after.list_cost - Fraction(before.list_cost, before.quantity) * after.quantity
        assert abs(driver.parts.volume - before.cost * (growth - 1)) < 1
        assert abs(driver.parts.price - price * kept) < 1
        assert abs(driver.parts.discount - (after.cost - after.list_cost * kept)) < 1


def test_rounding_gives_what_is_missing_to_what_lost_most_and_of_equals_to_the_first() -> None:
    # Volume 1/3 and mix -1/3: rounded down to 0 and -1, and mix has lost more.
    assert _rounded({"volume": Fraction(1, 3), "mix": Fraction(-1, 3)}) == Parts(volume=0, mix=0)
    # Each third has lost as much as the others.
    third = Fraction(1, 3)
    assert _rounded({"surge": third, "mix": third, "volume": third}) == Parts(volume=1)
    assert _rounded({"price": Fraction(-4, 3), "volume": third}) == Parts(price=-1)
