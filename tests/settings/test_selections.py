import pytest

from exporter.charges import Dimensions
from exporter.settings.fields import DEFAULT_LABELS, LABELS, choose_endpoints, choose_labels, choose_sources


def test_auto_leaves_the_choice_of_sources_open() -> None:
    assert choose_sources(["auto"]) is None


@pytest.mark.parametrize(
    ("names", "sources"),
    [
        (["models"], ("models",)),
        (["serverless", "models"], ("models", "serverless")),
        (["compute", "serverless", "models"], ("models", "serverless", "compute")),
        (["compute"], ("compute",)),
        (["organization"], ("organization",)),
        (["reporting"], ("reporting",)),
        (["focus"], ("focus",)),
    ],
)
def test_sources_that_do_not_overlap_are_taken_in_a_fixed_order(names: list[str], sources: tuple[str, ...]) -> None:
    assert choose_sources(names) == sources


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["organization", "models"], "counted twice"),
        (["serverless", "organization"], "counted twice"),
        (["compute", "organization"], "counted twice"),
        (["models", "compute", "organization"], "counted twice"),
        (["compute", "reporting"], "counted twice"),
        (["compute", "focus"], "counted twice"),
        (["reporting", "models"], "counted twice"),
        (["reporting", "organization"], "counted twice"),
        (["models", "models"], "names a source twice"),
        (["auto", "models"], 'unknown source "auto"; choose auto alone, or some of models'),
        (["focus", "models"], "counted twice"),
        (["organization", "focus"], "counted twice"),
        (["reporting", "focus"], "counted twice"),
        (["billing"], 'unknown source "billing"'),
        ([], "names no source"),
    ],
)
def test_sources_that_would_count_a_charge_twice_or_do_not_exist_are_refused(names: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        choose_sources(names)


def test_labels_are_taken_in_a_fixed_order() -> None:
    assert choose_labels(["api_key", "model", "account"]) == ("account", "model", "api_key")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["model"], "leaves out account"),
        (["account", "account"], "names a label twice"),
        (["account", "unit"], 'unknown label "unit"'),
        ([], "names no label"),
    ],
)
def test_labels_that_cannot_be_are_refused(names: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        choose_labels(names)


def test_every_label_is_a_dimension_of_a_charge_in_its_order() -> None:
    assert tuple(field for field in Dimensions._fields if field != "unit") == LABELS
    assert set(DEFAULT_LABELS) <= set(LABELS)


def test_endpoints_are_named_by_their_path_and_each_once() -> None:
    assert choose_endpoints(["fal-ai/flux/dev", "acme/app_2.0", "fal-ai/flux/dev"]) == (
        "fal-ai/flux/dev",
        "acme/app_2.0",
    )
    for name in ("flux", "fal-ai/", "key-id:secret/value", "fal-ai/flux dev"):
        with pytest.raises(ValueError, match="no model endpoint; write them like fal-ai/flux/dev"):
            choose_endpoints([name])
