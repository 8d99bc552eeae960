"""Settings of remote write: what goes together, and what is told of one that does not."""

import pytest
from pydantic import ValidationError

from exporter.settings import Settings
from exporter.settings.parsing import parse_extra_labels, parse_headers

URL = "https://mimir.example.com/api/v1/push"


def settings(**of_remote_write: object) -> Settings:
    named = {f"remote_write_{name}": value for name, value in of_remote_write.items()}
    return Settings.model_validate({"key": "id:secret", **named})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"user": "ada", "password": "p"}, "remote_write_url} is not, so that nothing is sent"),
        ({"url": URL, "user": "ada"}, "go together; set both, or neither"),
        ({"url": URL, "user": "ada", "password": "p", "token": "t"}, "are both set; keep only one of them"),
        ({"url": URL, "key_file": "/key.pem"}, "is set without {remote_write_cert_file}"),
        ({"url": "http://store:9090/write", "token": "t"}, "credentials would travel unencrypted"),
        ({"url": URL, "headers": "X-Scope-OrgID"}, "is not a list of headers"),
        ({"url": URL, "headers": "Authorization=secret"}, "contains Authorization, which is written by the exporter"),
        ({"url": URL, "labels": "model=flux"}, "contains model, which is a label of charges"),
        ({"url": URL, "labels": "__name__=x"}, "is not a list of labels"),
        ({"url": URL, "reach": "91d"}, "is not between 0s and 90d"),
    ],
)
def test_what_does_not_go_together_is_told(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        settings(**given)
    assert said in str(raised.value)


def test_a_store_inside_the_network_needs_no_tls_without_credentials() -> None:
    assert settings(url="http://store:9090/api/v1/write").remote_write_secrets == ()
    assert settings(url="http://127.0.0.1:9090/write", token="t").remote_write_token is not None  # noqa: S106


def test_headers_and_labels_are_read() -> None:
    assert parse_headers("X-Scope-OrgID=team, X-Other=a=b") == {"X-Scope-OrgID": "team", "X-Other": "a=b"}
    assert parse_extra_labels(["cluster=prod", "region=eu"]) == ("cluster=prod", "region=eu")


@pytest.mark.parametrize("name", ["account", "model", "unit"])
def test_a_label_of_every_sample_is_none_that_a_charge_has(name: str) -> None:
    with pytest.raises(ValueError, match=f"contains {name}, which is a label of charges"):
        parse_extra_labels(["cluster=prod", f"{name}=x"])
