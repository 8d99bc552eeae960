"""The tools about single requests: what one cost, the dearest, and whether they add up to the ledger."""

from exporter.events.store import EventReader
from exporter.queries import parameters, requests
from exporter.queries.exact_json import instant_text, text_schema, texts
from exporter.queries.models import BilledRequest, DifferentHour, RequestDifferences, Requests
from exporter.queries.parameters import Given, QuestionError
from exporter.queries.requests import NOT_READ, NoRequestsError
from exporter.web.mcp.tool import Answer, Arguments, Known, Tool, as_texts, columns_of, input_schema, table

_LIMIT = parameters.whole_number("limit", "Maximum number of requests in an answer. Default: 10.", 1, 1000)
_TOP = (*(item for item in requests.PARAMETERS if item is not requests.LIMIT), _LIMIT)
_FEW = "10"
_SWITCH = "Needs an exporter that reads single requests (FAL_EXPORTER_EVENTS=true)."


def request_tools(known: Known) -> tuple[Tool, ...]:
    """Return the tools."""
    return request_cost_tool(known), top_requests_tool(known), compare_requests_tool(known)


def _store(known: Known) -> EventReader:
    if known.requests is None:
        raise NoRequestsError(NOT_READ)
    return known.requests()


def request_cost_tool(known: Known) -> Tool:
    """Return the tool that tells what one request cost."""

    def answer(arguments: Arguments) -> Answer:
        request_id = Given(as_texts(arguments), [requests.REQUEST_ID]).get(requests.REQUEST_ID)
        if request_id is None:
            raise QuestionError("request_id", "is missing; it is in fal's response as x-fal-request-id")
        store = _store(known)
        with known.snapshot() as ledger:
            labels = ledger.key_labels
        document = BilledRequest.model_validate(requests.answer_request(store, request_id, labels))
        told = texts(document)
        shown = table(("field", "value"), [{"field": name, "value": told[name]} for name in columns_of([told])])
        return Answer(told, f"Amounts in USD.\n\n{shown}")

    schema = {**input_schema([requests.REQUEST_ID]), "required": [requests.REQUEST_ID.name]}
    return Tool(
        "fal-get-request-cost",
        "Cost of one request",
        "What one request to a model endpoint of fal cost, exactly as charged, by fal's request id: model, time, API "
        f"key, tags, quantity, price, discount and cost in US dollars as decimal text. {_SWITCH}",
        schema,
        text_schema(BilledRequest),
        answer,
    )


def top_requests_tool(known: Known) -> Tool:
    """Return the tool that tells the dearest requests."""

    def answer(arguments: Arguments) -> Answer:
        given = {"limit": _FEW} | as_texts(arguments)
        store = _store(known)
        now = known.clock()
        with known.snapshot() as ledger:
            question = requests.parse_requests_question(given, now=now, zone=known.zone, key_labels=ledger.key_labels)
            document = Requests.model_validate(requests.answer_requests(store, question, ledger, now=now))
        return Answer(texts(document), _top_text(document))

    return Tool(
        "fal-top-requests",
        "Dearest or newest requests",
        "Single requests to model endpoints of fal in a window (default: the last 24 hours), the dearest first or the "
        "newest, with filters by model, API key, member, team, account, tag and cost. Answers: which request cost so "
        f"much, what did this customer's requests cost? Amounts are US dollars as decimal text. {_SWITCH}",
        input_schema(_TOP),
        text_schema(Requests),
        answer,
    )


def _top_text(document: Requests) -> str:
    rows = [texts(request) for request in document.requests]
    window = f"from {instant_text(document.start)} to {instant_text(document.end)}"
    if not rows:
        return " ".join([f"No request {window} matches.", *document.notes])
    lines = [f"Requests {window}, in USD.", "", table(columns_of(rows), rows)]
    if document.next_cursor:
        lines += ["", f"There are more: repeat the call with cursor {document.next_cursor}."]
    if document.notes:
        lines += ["", *(f"- {note}" for note in document.notes)]
    return "\n".join(lines)


def compare_requests_tool(known: Known) -> Tool:
    """Return the tool that compares requests with the ledger."""

    def answer(arguments: Arguments) -> Answer:
        store = _store(known)
        with known.snapshot() as ledger:
            found = requests.answer_differences(store, ledger, as_texts(arguments), now=known.clock())
        document = RequestDifferences.model_validate(found)
        return Answer(texts(document), _compared_text(document))

    return Tool(
        "fal-compare-requests",
        "Requests beside the ledger",
        "Whether the single requests of settled hours add up to what the ledger charges, by account, and the hours and "
        "models in which they do not. Two interfaces of fal that agree to the nano-dollar are evidence for a bill. "
        f"{_SWITCH}",
        input_schema(requests.DIFFERENCES_PARAMETERS),
        text_schema(RequestDifferences),
        answer,
    )


def _compared_text(document: RequestDifferences) -> str:
    lines = []
    for account in document.accounts:
        told = texts(account)
        not_read = f" {account.not_read:,} settled hours have not been read." if account.not_read else ""
        if not account.hours:
            lines.append(f"{account.account}: no settled hour has been compared.{not_read}")
            continue
        verdict = "they agree" if not account.differences else f"{len(account.differences)} hours and models differ"
        lines.append(
            f"{account.account}: {account.hours} settled hours compared; requests {told['events']} USD, ledger "
            f"{told['ledger']} USD; {verdict}.{not_read}"
        )
        if account.differences:
            rows = [texts(hour) for hour in account.differences]
            lines += ["", table([*DifferentHour.model_fields], rows), ""]
    return "\n".join(lines) or "No account's requests have been read yet."
