"""ClickHouse's engine in this process, behind the HTTP client that the store uses."""

from pathlib import Path

import httpx


class InProcessClickHouse(httpx.BaseTransport):
    """Carries requests to chdb, the embedded engine, in place of a server."""

    def __init__(self, path: Path) -> None:
        from chdb import session  # noqa: PLC0415  it takes a second, and is not always there

        self.session = session.Session(str(path))
        self.session.query("CREATE DATABASE IF NOT EXISTS requests")
        self.session.query("USE requests")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read().decode()
        sql = request.url.params.get("query")
        asked = body if sql is None else f"{sql}\n{body}"
        try:
            answer = self.session.query(asked, "TSV")
        except Exception as error:  # noqa: BLE001  a server answers its errors as text
            return httpx.Response(500, text=str(error))
        return httpx.Response(200, content=answer.bytes())

    def close(self) -> None:
        self.session.close()
