"""`fal-exporter status`: the figures of a running exporter's page, in the terminal."""

import http.client
import ssl
import time
from urllib.parse import urlsplit

import click
from pydantic import SecretStr

from exporter.app.operations.terminal import fitted, window
from exporter.errors import FalExporterError

_PATIENCE = 10.0
"""Seconds to wait for an answer."""

_CLEAR = "\x1b[H\x1b[2J"


class StatusError(FalExporterError):
    """The exporter does not answer, or does not admit the caller."""


def run_status(url: str, *, watch: float | None, token: SecretStr | None) -> int:
    """Print the figures once, or again and again until Ctrl-C; return the exit code.

    Args:
        url: of the landing page.
        watch: seconds between two looks; None for one look.
        token: what admits to REST; None where none is needed.

    Raises:
        StatusError: the exporter does not answer, or does not admit the caller.
    """
    while True:
        text = page_of(url, token)
        size = window()
        lines = fitted(map(_styled, text.splitlines()), size)
        if watch is not None and size is not None:
            click.echo(_CLEAR, nl=False)
            lines = _top(lines, size.lines)
        click.echo("\n".join(lines))
        if watch is None:
            return 0
        time.sleep(watch)


def _top(lines: list[str], height: int) -> list[str]:
    """Return the first lines, as many as a window shows: what needs attention would be scrolled out of it."""
    # The last row is the cursor's, the one before says that there is more.
    shown = max(1, height - 2)
    more = len(lines) - shown
    return lines if more <= 1 else [*lines[:shown], f"... {more} more lines; without --watch all are shown"]


def page_of(url: str, token: SecretStr | None) -> str:
    """Return the page as text.

    Raises:
        StatusError: the exporter does not answer, or does not admit the caller.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise StatusError(f"{url} is not an address; write it like http://localhost:8080") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise StatusError(f"{url} is not an address; write it like http://localhost:8080")
    connection = (
        http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=ssl.create_default_context())
        if secure
        else http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    )
    headers = {"accept": "text/plain"}
    if token is not None:
        headers["authorization"] = f"Bearer {token.get_secret_value()}"
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/", headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StatusError(
            f"{url} does not answer ({reason}); is fal-exporter serve running there? If it listens elsewhere, "
            "give the address as an argument"
        ) from None
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.UNAUTHORIZED:
        raise StatusError(f"{url} needs a token; set it with --token-file or FAL_REST_TOKEN")
    if answer.status != http.HTTPStatus.OK or not (answer.headers.get("content-type") or "").startswith("text/plain"):
        raise StatusError(f"{url} answers {answer.status} and no figures; is it the address of a fal-exporter?")
    return body


def _styled(line: str) -> str:
    """Return a line in its colour; what is not written to a terminal loses it again."""
    if line.startswith("! "):
        return click.style(line, fg="red", bold=True)
    if line.startswith("* "):
        return click.style(line, fg="yellow")
    if line.startswith("Nothing needs attention."):
        return click.style(line, fg="green")
    return line
