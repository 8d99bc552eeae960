from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from exporter.web.pages.layout import Markup, fill, join


@given(st.text())
def test_a_value_cannot_leave_its_place(value: str) -> None:
    filled = fill('<a title="{value}">{value}</a>', value=value)
    inside = filled.removeprefix('<a title="').removesuffix("</a>")
    attribute, _, text = inside.partition('">')
    assert not set("<>\"'") & set(attribute + text)
    assert unescape(attribute) == unescape(text)


def test_markup_is_put_in_as_it_is() -> None:
    assert fill("<p>{inner}</p>", inner=join([Markup("<b>"), Markup("</b>")])) == "<p><b></b></p>"


def test_braces_in_a_value_are_text() -> None:
    assert fill("{value}", value="{other}") == "{other}"
