from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Amounts
from exporter.ledger.accounting.tags import Place, admitted, allocated, divided

U = "untagged"
_AMOUNT = st.integers(-(10**12), 10**15)
_MODEL = st.sampled_from(["", "flux", "kling"])
_TAGS = st.tuples(st.sampled_from(["acme", "bolt", U]), st.sampled_from(["search", U]))


def test_what_is_not_tagged_is_a_row_of_its_own_for_each_model() -> None:
    cost = {"flux": 100, "kling": 50, "": 7}
    tagged: dict[Place, int] = {("flux", ("acme",)): 60, ("flux", ("bolt",)): 15}
    assert allocated(cost, tagged, 1) == {
        ("flux", ("acme",)): 60,
        ("flux", ("bolt",)): 15,
        ("flux", (U,)): 25,
        ("kling", (U,)): 50,
        ("", (U,)): 7,
    }


def test_where_fal_tags_more_than_it_charges_untagged_is_below_zero() -> None:
    assert allocated({"flux": 100}, {("flux", ("acme",)): 130}, 1) == {("flux", ("acme",)): 130, ("flux", (U,)): -30}
    assert allocated({}, {("flux", ("acme",)): 130}, 1) == {("flux", ("acme",)): 130, ("flux", (U,)): -130}


def test_a_model_that_is_tagged_whole_has_no_untagged_row() -> None:
    assert allocated({"flux": 100}, {("flux", ("acme",)): 100}, 1) == {("flux", ("acme",)): 100}


@given(st.dictionaries(_MODEL, _AMOUNT), st.dictionaries(st.tuples(_MODEL, _TAGS), _AMOUNT))
def test_the_rows_of_an_hour_add_up_to_the_ledger_by_model(cost: dict[str, int], tagged: dict[Place, int]) -> None:
    found = allocated(cost, tagged, 2)
    for model in ("", "flux", "kling"):
        assert sum(amount for (its, _), amount in found.items() if its == model) == cost.get(model, 0)
    for place, amount in tagged.items():
        if place[1] != (U, U):
            assert found.get(place, 0) == amount


def test_beyond_the_limit_new_tags_are_folded_and_what_is_untagged_stays() -> None:
    known = {("main", "flux", ("acme", U)), ("main", "flux", ("bolt", U))}
    new = ("main", "flux", ("crow", U))
    assert admitted(new, known, 3) == new
    assert admitted(new, known, 2) == ("main", "flux", ("__other__", U))
    assert admitted(("main", "flux", ("acme", U)), known, 2) == ("main", "flux", ("acme", U))
    assert admitted(("main", "kling", (U, U)), known, 2) == ("main", "kling", (U, U))


def part(cost: int, quantity: int = 0) -> Amounts:
    return Amounts(quantity, 0, cost, 0, cost)


def test_a_charge_is_divided_only_where_that_is_certain() -> None:
    tagged = {'{"customer": "bolt"}': part(20, 2), '{"customer": "acme"}': part(50, 5)}
    assert divided(part(100, 9), tagged) == (
        ('{"customer": "acme"}', part(50, 5)),
        ('{"customer": "bolt"}', part(20, 2)),
        ("", part(30, 2)),
    )
    assert divided(part(70, 7), tagged) == tuple(sorted(tagged.items()))
    for whole in (part(60, 9), part(100, 6), Amounts(9, 5, 100, 0, 100)):
        assert divided(whole, tagged) == (("", whole),)
    assert divided(part(100), {}) == (("", part(100)),)
