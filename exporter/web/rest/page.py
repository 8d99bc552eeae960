"""The description of the calls for people: `/docs`."""

import json
from collections.abc import Mapping

from exporter import __version__
from exporter.billing.exact_json import exact_json
from exporter.billing.parameters import Parameter
from exporter.web.dress import document, safe_headers, style
from exporter.web.markup import Markup, fill, join
from exporter.web.refusals import JSON
from exporter.web.rest.calls import CALLS, Call

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
        parameters=join(_parameter(parameter) for parameter in call.parameters),
        curl=_curl(call, guarded=guarded),
        example=_example(call),
    )


def _parameter(parameter: Parameter[object]) -> Markup:
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


def _example(call: Call) -> str:
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
