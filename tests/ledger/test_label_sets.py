from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Dimensions
from exporter.ledger.counters import OTHER, Admission, Labels

LABELS = Labels(("account", "team", "product", "model", "app", "gpu_class"))


def values(model: str = "", team: str = "", app: str = "", gpu: str = "") -> tuple[str, ...]:
    return LABELS.of(Dimensions("main", team=team, product="model_apis", model=model, app=app, gpu_class=gpu))


def test_labels_are_the_charge_s_dimensions_in_the_configured_order() -> None:
    labels = Labels(("model", "account"))
    assert labels.of(Dimensions("main", model="m")) == ("m", "main")
    assert labels.account_of(("m", "main")) == "main"


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
    assert all(it[0] == "main" and it[2] == "model_apis" for it in placed)


@given(st.integers(0, 30), st.lists(st.builds(values, *[st.text(max_size=2)] * 4), max_size=200))
def test_the_number_of_label_sets_is_bounded_whatever_fal_sends(limit: int, wanted: list[tuple[str, ...]]) -> None:
    admission = Admission(LABELS, limit, ())
    placed = {admission.place(it) for it in wanted}
    everything_folded = 2**4
    assert len(placed) <= limit + 2 * 16 + everything_folded


@given(st.lists(st.builds(values, *[st.sampled_from(["", "x", "y"])] * 4), max_size=60))
def test_a_label_set_once_placed_under_its_own_name_always_is(wanted: list[tuple[str, ...]]) -> None:
    admission = Admission(LABELS, 5, ())
    as_they_are = {it for it in wanted if admission.place(it) == it}
    assert all(admission.place(it) == it for it in as_they_are)
