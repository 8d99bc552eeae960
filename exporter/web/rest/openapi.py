"""The description of the calls in OpenAPI 3.1, made from their declarations."""

from collections.abc import Mapping
from http import HTTPStatus

from exporter import __version__
from exporter.billing.parameters import Parameter
from exporter.web.refusals import JSON, TYPES
from exporter.web.rest.calls import CALLS, Call

_ERRORS: Mapping[int, str] = {
    HTTPStatus.BAD_REQUEST: "A parameter is not known or cannot be read; the message names it and what is accepted.",
    HTTPStatus.UNAUTHORIZED: "A token is needed, or the one that was sent is not admitted.",
    HTTPStatus.NOT_ACCEPTABLE: "`Accept` leaves out what this call answers.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request has a body.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The address is too long.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many questions at once; `Retry-After` tells when to ask again.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The answer failed.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Nothing has been read from fal yet, or the ledger cannot be read; `Retry-After`.",
}

_ERROR_SCHEMA = {
    "type": "object",
    "description": "Why there is no answer, in the shape of fal's own errors.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": sorted(set(TYPES.values())), "description": "The kind of error."},
                "message": {"type": "string", "description": "A sentence for people."},
                "docs_url": {"type": "string", "description": "Where it is explained."},
            },
            "required": ["type", "message"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}


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
            "summary": "What fal charges you, from an exact ledger",
            "description": "The figures of `/metrics` for programs: usage, spend, invoices, balance, budgets and "
            "forecasts. All calls only read, and none of them calls fal.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This exporter"}],
        "security": [{"bearer": []}] if guarded else [{}],
        "paths": {call.path: {"get": _operation(call)} for call in CALLS},
        "components": {
            "schemas": {"Error": _ERROR_SCHEMA},
            "responses": {str(int(status)): _error(status, meaning) for status, meaning in _ERRORS.items()},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token that `fal-exporter token` has made, if REST_TOKENS_FILE is set.",
                }
            },
        },
    }


def _operation(call: Call) -> Mapping[str, object]:
    content = {call.media_type: {"schema": call.schema, "example": call.example}}
    return {
        "operationId": call.name,
        "summary": call.title,
        "description": call.meaning,
        "parameters": [_parameter(parameter) for parameter in call.parameters],
        "responses": {
            "200": {"description": call.title, "content": content},
            **({"304": {"description": "The answer is the one that `If-None-Match` names."}} if call.answer else {}),
            **{str(int(status)): {"$ref": f"#/components/responses/{int(status)}"} for status in _ERRORS},
        },
    }


def _parameter(parameter: Parameter[object]) -> Mapping[str, object]:
    # Lists are comma lists in one parameter, never repeated ones.
    style = {"style": "form", "explode": False} if parameter.is_list else {}
    return {
        "name": parameter.name,
        "in": "query",
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
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": meaning, "content": {JSON: {"schema": schema, "example": example}}}
