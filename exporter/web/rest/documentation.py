"""Documentation of the calls, made from their declarations: in OpenAPI 3.1 for programs, as a page for people."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from exporter import __version__
from exporter.queries.exact_json import exact_json, schemas
from exporter.queries.parameters import Parameter
from exporter.web.auth import JSON, TYPES
from exporter.web.pages.rendering import render
from exporter.web.rest.calls import CALLS, Call

_ERRORS: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "A parameter is unknown or invalid; the message names it and what is accepted.",
    HTTPStatus.UNAUTHORIZED: "A token is required, or the one that was sent is not valid.",
    HTTPStatus.FORBIDDEN: "Only this machine is answered until tokens, users or OPEN say who else may ask.",
    HTTPStatus.MISDIRECTED_REQUEST: "The name in Host is not one of ALLOWED_HOSTS.",
    HTTPStatus.NOT_ACCEPTABLE: "`Accept` excludes the media type of this call.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request has a body.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The URL is too long.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests at once; `Retry-After` says when to try again.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The request failed.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Nothing has been read from fal yet, or the ledger cannot be read; "
    "`Retry-After` says when to try again.",
}

_FILE_ERRORS: dict[int, str] = {
    HTTPStatus.NOT_FOUND: "What was requested is not there; the message says what is missing.",
    HTTPStatus.CONFLICT: "What was requested has not been read from fal completely; try again later, or request less.",
}
"""Further errors of the calls that are answered by a file."""

_SCHEMAS = "#/components/schemas/"


class ErrorDetail(BaseModel):  # type: ignore[explicit-any]  # in the initialiser mypy derives from pydantic's base
    """Error of a request."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="The kind of error.", json_schema_extra={"enum": [*sorted(set(TYPES.values()))]})
    message: str = Field(description="Description of the error in a sentence.")
    docs_url: str = Field("", description="Where the call is documented.")


class Error(BaseModel):  # type: ignore[explicit-any]  # as above
    """Why there is no answer, in the shape of fal's own errors."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorDetail


def description(*, guarded: bool) -> Mapping[str, object]:
    """Return the document.

    Args:
        guarded: whether a token is needed.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fal-exporter",
            "version": __version__,
            "summary": "fal spend from an exact ledger",
            "description": "The figures behind `/metrics` for programs: usage, spend, invoices, balance, budgets and "
            "forecasts. All calls are read-only; what is answered by fal itself is said at the call.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This exporter"}],
        "security": [{"bearer": []}] if guarded else [{}],
        "paths": {call.path: {"get": _operation(call)} for call in CALLS},
        "components": {
            "schemas": schemas([*_models(), Error], f"{_SCHEMAS}{{model}}"),
            "responses": {
                str(int(status)): _error(status, meaning) for status, meaning in (_ERRORS | _FILE_ERRORS).items()
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token created by `fal-exporter token`, if REST_TOKENS_FILE is set.",
                }
            },
        },
    }


def _models() -> list[type[BaseModel]]:
    return [call.model for call in CALLS if call.model is not None]


def _operation(call: Call) -> Mapping[str, object]:
    schema = {"type": "string"} if call.model is None else _reference(call.model)
    content = {call.media_type: {"schema": schema, "example": call.example}}
    return {
        "operationId": call.name,
        "summary": call.title,
        "description": call.meaning,
        "parameters": [
            *(_parameter(parameter, "path") for parameter in call.path_parameters),
            *(_parameter(parameter, "query") for parameter in call.parameters),
        ],
        "responses": {
            "200": {"description": call.title, "content": content},
            **(
                {"304": {"description": "The answer has not changed since the one that `If-None-Match` names."}}
                if call.answer
                else {}
            ),
            **{str(int(status)): {"$ref": f"#/components/responses/{int(status)}"} for status in _errors(call)},
        },
    }


def _errors(call: Call) -> tuple[int, ...]:
    if call.made_from == "requests":
        return tuple(sorted({*_ERRORS, HTTPStatus.NOT_FOUND}))
    return tuple(sorted({*_ERRORS, *(() if call.answer else _FILE_ERRORS)}))


def _parameter(parameter: Parameter[object], place: Literal["path", "query"]) -> Mapping[str, object]:
    # Repeated parameters are taken too; a description can name one form.
    style = {"style": "form", "explode": False} if parameter.is_list else {}
    return {
        "name": parameter.name,
        "in": place,
        **({"required": True} if place == "path" else {}),
        "description": parameter.meaning,
        "schema": parameter.schema,
        "example": _example(parameter),
        **style,
    }


def _example(parameter: Parameter[object]) -> object:
    if parameter.is_list:
        return parameter.example.split(",")
    return int(parameter.example) if parameter.schema.get("type") == "integer" else parameter.example


def _error(status: int, meaning: str) -> Mapping[str, object]:
    example = {"error": {"type": TYPES[status], "message": meaning}}
    return {"description": meaning, "content": {JSON: {"schema": _reference(Error), "example": example}}}


def _reference(model: type[BaseModel]) -> Mapping[str, str]:
    return {"$ref": f"{_SCHEMAS}{model.__name__}"}


@dataclass(frozen=True, slots=True)
class _ParameterView:
    """A parameter as the page shows it."""

    name: str
    meaning: str
    choices: tuple[str, ...]
    example: str


@dataclass(frozen=True, slots=True)
class _CallView:
    """A call as the page shows it, with an example of a request by curl and of the answer."""

    name: str
    title: str
    path: str
    meaning: str
    parameters: tuple[_ParameterView, ...]
    request: str
    answer: str


def page(*, guarded: bool) -> str:
    """Return the page.

    Args:
        guarded: whether a token is needed.
    """
    calls = tuple(_call_view(call, guarded=guarded) for call in CALLS)
    return render("documentation.html", version=__version__, guarded=guarded, calls=calls)


def _call_view(call: Call, *, guarded: bool) -> _CallView:
    return _CallView(
        name=call.name,
        title=call.title,
        path=call.path,
        meaning=call.meaning,
        parameters=tuple(
            _ParameterView(parameter.name, parameter.meaning, _choices(parameter), parameter.example)
            for parameter in (*call.path_parameters, *call.parameters)
        ),
        request=_curl(call, guarded=guarded),
        answer=_example_text(call),
    )


def _choices(parameter: Parameter[object]) -> tuple[str, ...]:
    items = parameter.schema.get("items", parameter.schema)
    known = items.get("enum") if isinstance(items, Mapping) else None
    return tuple(map(str, known)) if isinstance(known, list) else ()


def _curl(call: Call, *, guarded: bool) -> str:
    shown = _SHOWN.get(call.name, ())
    query = "&".join(
        f"{parameter.name}={parameter.example}" for parameter in call.parameters if parameter.name in shown
    )
    path = call.path.format(**{parameter.name: parameter.example for parameter in call.path_parameters})
    address = f"http://localhost:8080{path}{'?' if query else ''}{query}"
    header = '-H "Authorization: Bearer $TOKEN" ' if guarded else ""
    return f"curl {header}'{address}'"


def _example_text(call: Call) -> str:
    if call.media_type != JSON:
        return str(call.example)
    return json.dumps(json.loads(exact_json(call.example)), indent=2, ensure_ascii=False)


_SHOWN: Mapping[str, tuple[str, ...]] = {
    "usage": ("start", "end", "group_by"),
    "invoices": ("status",),
    "requests": ("start", "end", "model"),
    "focus": ("start", "end", "timeframe"),
}
"""The parameters that the example of a call gives."""
