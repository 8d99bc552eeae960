import pytest

from exporter.tags import UNTAGGED, check_keys, tag_label, tag_values, tags_text


def test_keys_are_published_in_the_order_of_the_alphabet() -> None:
    assert check_keys(["feature", "customer", "cost-center.id"]) == ("cost-center.id", "customer", "feature")
    assert check_keys([]) == ()
    assert [tag_label(key) for key in ("customer", "cost-center.id")] == ["tag_customer", "tag_cost_center_id"]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (["Customer"], "cannot be a tag's key"),
        (["a b"], "cannot be a tag's key"),
        (["x" * 65], "cannot be a tag's key"),
        ([""], "cannot be a tag's key"),
        (["fal.team"], "fal's own"),
        (["a.b", "a-b"], "names a.b and a-b, which would both be the label tag_a_b"),
        (["a", "a"], "names a key twice"),
        ([f"k{number}" for number in range(11)], "more than 10 keys"),
    ],
)
def test_keys_follow_the_rules_of_fal(keys: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_keys(keys)


def test_values_of_the_wanted_keys_and_untagged_for_what_is_missing() -> None:
    tags = {"customer": "acme", "feature": "", "env": 5, "plan": "untagged", "other": "x"}
    assert tag_values(tags, ("customer", "env", "feature", "gone", "plan")) == ("acme", *(UNTAGGED,) * 4)
    assert tags_text(("customer", "feature"), ("acme", UNTAGGED)) == '{"customer": "acme"}'
