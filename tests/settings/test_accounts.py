import pytest
from pydantic import ValidationError

from exporter.settings.entries import AccountEntry


@pytest.mark.parametrize("name", ["production", "Größe 1", "team/studio", "a" * 100, "_x"])
def test_a_plain_name_is_a_label_value(name: str) -> None:
    assert AccountEntry.model_validate({"name": name, "key": "id:secret"}).name == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        (" a", "has blanks at an end"),
        ("a\nb", "characters that cannot be printed"),
        ("__other__", "reserved"),
        ("a" * 101, "longer than 100"),
        (7, "is not text; put it in quotes"),
    ],
)
def test_a_name_that_would_make_a_bad_label_is_refused(name: object, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        AccountEntry.model_validate({"name": name, "key": "id:secret"})


def test_the_variable_that_holds_a_key_is_checked_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_KEY", "Key id:secret-value")
    with pytest.raises(ValidationError, match="whose value starts with the word of a header") as caught:
        AccountEntry.model_validate({"name": "studio", "key_env": "STUDIO_KEY"})
    assert "secret-value" not in str(caught.value)
