from pathlib import Path

import pytest
from pydantic import ValidationError

from exporter.charges import NANO
from exporter.errors import ConfigurationError
from exporter.settings import load_settings
from exporter.settings.entries import AccountEntry


@pytest.mark.parametrize("name", ["production", "Größe 1", "team/studio", "a" * 100, "_x"])
def test_a_plain_name_is_a_label_value(name: str) -> None:
    assert AccountEntry.model_validate({"name": name, "key": "id:secret"}).name == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        (" a", "starts or ends with a space"),
        ("a\nb", "unprintable characters"),
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
    with pytest.raises(ValidationError, match="whose value starts with an authorization scheme") as caught:
        AccountEntry.model_validate({"name": "studio", "key_env": "STUDIO_KEY"})
    assert "secret-value" not in str(caught.value)


def test_a_key_may_be_given_in_halves_which_fal_key_outweighs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY_ID", "an-id")
    with pytest.raises(ConfigurationError, match="FAL_KEY_ID is set without FAL_KEY_SECRET; set both"):
        load_settings({})
    monkeypatch.setenv("FAL_KEY_SECRET", "a-secret")
    assert load_settings({}).accounts[0].key().get_secret_value() == "an-id:a-secret"
    monkeypatch.setenv("FAL_KEY_SECRET", "two words")
    with pytest.raises(ConfigurationError, match=r"^FAL_KEY_ID with FAL_KEY_SECRET: contains spaces") as caught:
        load_settings({})
    assert "words" not in str(caught.value)
    monkeypatch.setenv("FAL_KEY", "other:key")
    assert load_settings({}).accounts[0].key().get_secret_value() == "other:key"


def test_an_account_has_its_own_credit_floor_or_that_of_all(tmp_path: Path) -> None:
    file = tmp_path / "accounts.yaml"
    file.write_text(
        "credit_floor: 12.5\n"
        "accounts: [{name: a, key: 'a:secret'}, {name: b, key: 'b:secret', credit_floor: 0},"
        " {name: c, key: 'c:secret', credit_floor: -100}]\n"
    )
    floors = {account.name: account.credit_floor for account in load_settings({"config_file": str(file)}).accounts}
    assert floors == {"a": 12 * NANO + NANO // 2, "b": 0, "c": -100 * NANO}


@pytest.mark.parametrize("floor", ["much", "$5", True, "0.0000000001", "1e40"])
def test_a_credit_floor_is_an_amount_of_us_dollars(floor: object) -> None:
    with pytest.raises(ValidationError, match=r"amount of US dollars|more than a ledger can hold"):
        AccountEntry.model_validate({"name": "a", "key": "id:secret", "credit_floor": floor})
