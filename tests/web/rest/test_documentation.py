import json

import pytest
from jsonschema import Draft202012Validator

from exporter.queries.exact_json import exact_json
from exporter.queries.parameters import Given, QuestionError
from exporter.web.rest.calls import CALLS, Call
from exporter.web.rest.documentation import description, page

DOCUMENT = json.loads(exact_json(description(guarded=True)))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_example_is_of_the_shape_that_is_described(call: Call) -> None:
    content = DOCUMENT["paths"][call.path]["get"]["responses"]["200"]["content"][call.media_type]
    Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]}).validate(content["example"])


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_parameters_example_and_enumeration_is_accepted(call: Call) -> None:
    described = {item["name"]: item for item in DOCUMENT["paths"][call.path]["get"]["parameters"]}
    known = (*call.path_parameters, *call.parameters)
    assert list(described) == [parameter.name for parameter in known]
    assert {name for name, item in described.items() if item["in"] == "path" and item["required"]} == {
        parameter.name for parameter in call.path_parameters
    }
    for parameter in known:
        given = Given({parameter.name: parameter.example}, known)
        assert given.get(parameter) is not None
        schema = described[parameter.name]["schema"]
        Draft202012Validator(schema).validate(described[parameter.name]["example"])
        items = schema.get("items", {})
        for word in schema.get("enum", items.get("enum", ())):
            Draft202012Validator(schema).validate([word] if items else word)
            assert Given({parameter.name: word}, known).get(parameter) in {word, (word,)}
        with pytest.raises(QuestionError):
            Given({parameter.name + "s_": "x"}, known)


def test_a_token_is_asked_for_where_it_is_needed_only() -> None:
    assert DOCUMENT["security"] == [{"bearer": []}]
    assert description(guarded=False)["security"] == [{}]
    assert "Authorization: Bearer $TOKEN" in page(guarded=True)
    assert "Authorization" not in page(guarded=False)


def test_the_page_tells_of_every_call_and_parameter_and_loads_nothing() -> None:
    text = page(guarded=False)
    for call in CALLS:
        assert f"GET {call.path}" in text
        for parameter in call.parameters:
            assert f"<code>{parameter.name}</code>" in text
    for outside in ("<script", "src=", "http://fonts", "@import", "url("):
        assert outside not in text
