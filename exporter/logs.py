"""Structured logs: one line an event, as text or JSON, with UTC time stamps and without keys."""

import logging
import re
from collections.abc import Callable, Iterable
from functools import cache
from types import MappingProxyType
from typing import Protocol, TextIO

import structlog

from exporter.outlet import DroppingText

_REDACTED = "[redacted]"
# No pattern asks for a word's edge: on a terminal the letter that ends a colour code stands before a value.
_HEADER = re.compile(r"(?P<scheme>Key|Bearer)(?P<blank>\s+)[^\s:\"',;]+:[^\s\"',;]+")
_FAL_KEY = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}:[0-9A-Za-z_-]{8,}")
_TOKEN = re.compile(r"falx_[0-9A-Za-z_-]{20,}")
_KEY_SHAPE = re.compile(r"[^\s\"',;:()]{4,}:[^\s\"',;/()][^\s\"',;()]{5,}")
_PASSWORD = re.compile(r"(?P<user>\w://[^\s/:@]*):(?!\*+@)[^\s/@]+@")
"""Password in a URL; what has been made unreadable already stays."""

_CHATTY = MappingProxyType(
    dict.fromkeys(("httpx", "asyncio", "uvicorn.error"), logging.WARNING)
    # A failed statement is said in a sentence; the driver says what it does not raise beside it.
    | dict.fromkeys(("apscheduler", "psycopg"), logging.ERROR)
)
"""The least level of libraries' logs below `debug`."""

_VERY_CHATTY = ("httpcore", "hpack")


_SHORT = 12
"""Characters below which a secret may occur in other words by chance."""

_hidden: tuple[str, ...] = ()


class Secret(Protocol):
    """Text that is not shown unasked: pydantic's `SecretStr`, or `HiddenText` where pydantic is not loaded."""

    def get_secret_value(self) -> str:
        """Return the text."""


def hide(secrets: Iterable[Secret]) -> None:
    """Keep more secrets out of every line that is logged from now on, such as a key that has been rotated."""
    global _hidden  # noqa: PLW0603  the logging of a process is one
    parts = {part for secret in secrets for part in _parts(secret.get_secret_value())}
    _hidden = tuple(sorted({*_hidden, *parts}, key=len, reverse=True))


def hidden_secrets() -> tuple[str, ...]:
    """Return what is kept out of every line, the longest first: whole keys and their secret halves, former ones too."""
    return _hidden


def without_secrets(text: str, secrets: Iterable[str], instead: str = _REDACTED) -> str:
    """Return a text without the secrets; a short one is taken out where it stands alone, not within other words."""
    for secret in secrets:
        if secret not in text:
            continue
        if len(secret) >= _SHORT:
            text = text.replace(secret, instead)
        else:
            text = _standing_alone(secret).sub(lambda _: instead, text)
    return text


@cache
def _standing_alone(secret: str) -> re.Pattern[str]:
    # A letter before it may be the end of a colour code of a terminal.
    return re.compile(rf"(?:(?<![0-9A-Za-z])|(?<=\x1b\[\dm)|(?<=\x1b\[\d\dm)){re.escape(secret)}(?![0-9A-Za-z])")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without the secrets, anything sent as a key, fal's keys, our own tokens, and passwords in URLs."""
    text = without_secrets(text, secrets)
    if "://" in text:
        text = _PASSWORD.sub(rf"\g<user>:{_REDACTED}@", text)
    text = _HEADER.sub(rf"\g<scheme>\g<blank>{_REDACTED}", text)
    return _TOKEN.sub(_REDACTED, _FAL_KEY.sub(_REDACTED, text))


def redact_loosely(text: str) -> str:
    """Return a text a user wrote without anything that may be a key in the wrong place: all that is `word:word`."""
    return _KEY_SHAPE.sub(_REDACTED, text)


def configure_logging(*, log_format: str, level: str, stream: TextIO, secrets: Iterable[Secret] = ()) -> None:
    """Send every log of this process, ours and the libraries', to a stream.

    Args:
        log_format: `text` or `json`.
        level: the least level that is written: `debug`, `info`, `warning` or `error`.
        stream: where the lines go.
        secrets: values that never appear in a line, beside what `redact` finds by itself; blank ones are ignored.
    """
    hide(secrets)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _without_colours],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(log_format, stream)],
    )
    handler = _Telling(stream)
    handler.setFormatter(_Redacting(formatter, lambda line: redact(line, _hidden)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for name, least in _CHATTY.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else max(least, root.level))
    for name in _VERY_CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        # Requests are logged by the application, if at all; uvicorn looks at each connection whether anybody listens.
        logger.propagate = name != "uvicorn.access"
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _without_colours(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drop uvicorn's second wording of a message, which holds escape codes for terminals."""
    event.pop("color_message", None)
    return event


class _Telling(logging.StreamHandler[TextIO]):
    """Writes lines, and says how many before them were dropped because nobody read them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        if isinstance(self.stream, DroppingText) and (lost := self.stream.take_lost()):
            message = "log lines were dropped, as nobody read them: %d"
            super().emit(logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (lost,), None))
            if self.stream.take_lost():
                self.stream.give_back(lost)
        super().emit(record)


class _Redacting(logging.Formatter):
    """Formats by another formatter, and takes secrets out of the finished line: of messages, values and tracebacks."""

    def __init__(self, inner: logging.Formatter, clean: Callable[[str], str]) -> None:
        super().__init__()
        self._inner = inner
        self._clean = clean

    def format(self, record: logging.LogRecord) -> str:
        return self._clean(self._inner.format(record))


def _parts(secret: str) -> Iterable[str]:
    """Yield what must not be read of a key: all of it, and its secret half alone."""
    return (part for part in (secret, secret.partition(":")[2]) if part.strip())


def _rendering(log_format: str, stream: TextIO) -> list[structlog.typing.Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), pad_event_to=0, pad_level=False, exception_formatter=structlog.dev.plain_traceback
        )
    ]
