import pytest
from web.pages.conftest import OVERVIEW, outline


@pytest.mark.parametrize(
    "words",
    [
        "$100.00 of $100.00, 99 % forecast $120.00 ($110.00 to $130.00)",
        "not yet, of $10.00 no forecast yet",
    ],
)
def test_it_shows(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_a_budget_near_or_over_its_limit_stands_out() -> None:
    assert [it["class"] for tag, it in outline(OVERVIEW).elements if tag == "li" and "class" in it][:3] == [
        "near",
        "over",
        "",
    ]
