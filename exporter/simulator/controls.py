"""`/_simulator/...`: the truth and the faults, over HTTP and without a key."""

from collections.abc import Callable
from datetime import datetime
from json import JSONDecodeError

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.simulator.account import Account
from exporter.simulator.delivery import JSON
from exporter.simulator.errors import ApiError
from exporter.simulator.exact import json_text, microseconds
from exporter.simulator.faults import Faults
from exporter.simulator.orders import listing, orders_of
from exporter.simulator.queries import Query
from exporter.simulator.statement import statement


def control_routes(account: Account, faults: Faults, clock: Callable[[], datetime]) -> list[Route]:
    """Return the routes of the statement and the faults; what cannot be understood answers 400 with a sentence."""

    async def told(request: Request) -> Response:
        try:
            return _answer(statement(account, Query(request.query_params), microseconds(clock())))
        except ApiError as error:
            return _answer({"detail": error.message}, error.status)

    async def ordered(request: Request) -> Response:
        try:
            if request.method in {"PUT", "POST"}:
                orders = orders_of(await request.json())
                if request.method == "PUT":
                    faults.clear()
                faults.add(*orders)
            elif request.method == "DELETE":
                faults.clear()
        except (JSONDecodeError, UnicodeDecodeError):
            return _answer({"detail": "The body is not JSON."}, 400)
        except ValueError as error:
            return _answer({"detail": f"{error}."}, 400)
        return _answer(listing(faults))

    return [
        Route("/_simulator/statement", told),
        Route("/_simulator/faults", ordered, methods=["GET", "PUT", "POST", "DELETE"]),
    ]


def _answer(body: object, status: int = 200) -> Response:
    return Response(json_text(body), status, media_type=JSON)
