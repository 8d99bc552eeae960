"""Documentation of the calls: `/openapi.json` and `/docs`.

The description of the calls in OpenAPI 3.1, made from their declarations.

The description of the calls for people: `/docs`.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from exporter import __version__
from exporter.queries.models import exact_json
from exporter.queries.parameters import Parameter
from exporter.web.auth import JSON, TYPES
from exporter.web.pages.layout import Markup, document, fill, join, safe_headers, style
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


_STYLE = style("landing.css", "rest/page.css")
PAGE_HEADERS: Mapping[str, str] = safe_headers(_STYLE)


def page(*, guarded: bool) -> str:
    """Return the whole document.

    Args:
        guarded: whether a token is needed.
    """
    return document(
        title="REST · fal-exporter",
        heading="fal-exporter: REST",
        subtitle="The figures of /metrics for programs",
        status=fill("<span>version {version}</span>", version=__version__),
        css=_STYLE,
        main=fill(
            _MAIN,
            access=_GUARDED if guarded else _OPEN,
            contents=join(fill('<li><a href="#{name}">{title}</a></li>', name=it.name, title=it.title) for it in CALLS),
            calls=join(_call(call, guarded=guarded) for call in CALLS),
        ),
        footer=_FOOTER,
        head=Markup(),
    )


def _call(call: Call, *, guarded: bool) -> Markup:
    return fill(
        _CALL,
        name=call.name,
        title=call.title,
        path=call.path,
        meaning=_prose(call.meaning),
        parameters=join(_parameter_html(parameter) for parameter in call.parameters),
        curl=_curl(call, guarded=guarded),
        example=_example_html(call),
    )


def _parameter_html(parameter: Parameter[object]) -> Markup:
    return fill(
        '<tr><th scope="row"><code>{name}</code></th><td>{meaning}{choices}</td><td><code>{example}</code></td></tr>\n',
        name=parameter.name,
        meaning=_prose(parameter.meaning),
        choices=_choices(parameter),
        example=parameter.example,
    )


def _choices(parameter: Parameter[object]) -> Markup:
    items = parameter.schema.get("items", parameter.schema)
    known = items.get("enum") if isinstance(items, Mapping) else None
    if not isinstance(known, list):
        return Markup()
    return fill("<small>{choices}</small>", choices=join(fill("<code>{it}</code> ", it=it) for it in known))


def _curl(call: Call, *, guarded: bool) -> str:
    query = "&".join(f"{it.name}={it.example}" for it in call.parameters if it.name in _SHOWN.get(call.name, ()))
    address = f"http://localhost:8080{call.path}{'?' if query else ''}{query}"
    header = '-H "Authorization: Bearer $TOKEN" ' if guarded else ""
    return f"curl {header}'{address}'"


def _example_html(call: Call) -> str:
    if call.media_type != JSON:
        return str(call.example)
    return json.dumps(json.loads(exact_json(call.example)), indent=2, ensure_ascii=False)


def _prose(text: str) -> Markup:
    """Return a sentence with what stands between backquotes as code."""
    parts = text.split("`")
    return join(fill("<code>{it}</code>" if place % 2 else "{it}", it=part) for place, part in enumerate(parts))


_SHOWN: Mapping[str, tuple[str, ...]] = {
    "usage": ("start", "end", "group_by"),
    "invoices": ("status",),
    "focus": ("charge_month", "timeframe"),
}
"""The parameters that the example of a call gives."""

_GUARDED = Markup("<code>Authorization: Bearer TOKEN</code> is needed; <code>fal-exporter token</code> makes tokens.")
_OPEN = Markup("Nobody needs a token here: <code>FAL_EXPORTER_REST_TOKENS_FILE</code> is not set.")

_MAIN = """\
<p>Every call is a <code>GET</code>, only reads, and never calls fal. Amounts are US dollars and keep every digit: read
them as decimals, or ask for <code>amounts=string</code>. Instants are ISO 8601. {access}</p>
<p>Errors are <code>{{"error": {{"type", "message", "docs_url"?}}}}</code>: 400 names the parameter and what is
accepted, 401 asks for a token, 429 and 503 tell with <code>Retry-After</code> when to ask again. Answers carry an
<code>ETag</code>; with <code>If-None-Match</code> an unchanged one is 304.</p>
<nav aria-label="Calls"><ul>
{contents}
</ul></nav>
{calls}
"""

_FOOTER = Markup("""\
<nav aria-label="Elsewhere"><ul>
<li><a class="main" href="/openapi.json">OpenAPI 3.1</a></li>
<li><a href="/">Landing page</a></li>
<li><a href="/metrics">/metrics</a></li>
</ul></nav>
""")

_CALL = """\
<section id="{name}">
<h2>{title} <code>GET {path}</code></h2>
<p>{meaning}</p>
<table>
<caption>Parameters of {path}</caption>
<thead><tr><th scope="col">Parameter</th><th scope="col">Meaning</th><th scope="col">Example</th></tr></thead>
<tbody>
{parameters}
</tbody>
</table>
<h3>Example</h3>
<pre tabindex="0">{curl}

{example}</pre>
</section>
"""
