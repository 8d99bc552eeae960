"""`/metrics` as raw ASGI, with the web process's own families at the end.

`/metrics`: raw ASGI, because a scrape is nothing but copying bytes that were made before.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, PlatformCollector, ProcessCollector
from starlette.types import Message, Scope, Send

from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.encoding import END, Rendered, gzip_end, gzip_start, rendered
from exporter.overview import REPLICA_PROBLEMS
from exporter.publication import Exposition, Rendering, Role
from exporter.web.negotiation import OPENMETRICS, PROTOBUF, TEXT, Format, Negotiation, Variant, wants_openmetrics

_CONTENT_TYPES: Mapping[Format, str] = {"text": TEXT, "openmetrics": OPENMETRICS, "protobuf": PROTOBUF}


class AccessFile(Protocol):
    """A file that says who may ask."""

    @property
    def problem(self) -> str:
        """Why the file as it is now cannot be used; empty while it can."""


class Tail:
    """Counts scrapes, reads the process tables and writes it all down when asked.

    Args:
        version: the exporter's.
        collector: tells the process id of the collector; None where it is this process.
        access_files: the files that say who may ask, by their settings.
    """

    def __init__(
        self,
        *,
        version: str,
        collector: Callable[[], int | None],
        access_files: Mapping[str, AccessFile] = MappingProxyType({}),
    ) -> None:
        self._registry = CollectorRegistry()
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        ProcessCollector(registry=self._registry)
        # No process is called none, and families without samples are left out.
        ProcessCollector("fal_exporter_collector", pid=lambda: collector() or "none", registry=self._registry)
        _gauge("fal_exporter_build_info", self._registry).labels(version).set(1)
        self._ready = _gauge("fal_exporter_ready", self._registry)
        self._snapshot_at: Gauge | None = None
        self._access_files = access_files
        self._is_access_file_good = _gauge("fal_exporter_access_file_last_reload_successful", self._registry)
        family = CATALOGUE["fal_exporter_collector_restarts_total"]
        self._restarts = Counter(family.name, family.help, registry=self._registry)
        self._replica: tuple[Gauge, Gauge] | None = None
        self._owned: Gauge | None = None
        self._reload: tuple[Gauge, Gauge] | None = None
        family = CATALOGUE["fal_exporter_scrapes_total"]
        scrapes = Counter(family.name, family.help, family.labels, registry=self._registry)
        self._scrapes = {
            Variant(name, gzip): scrapes.labels(name, "gzip" if gzip else "identity")
            for name in _CONTENT_TYPES
            for gzip in (False, True)
        }

    def scraped(self, variant: Variant) -> None:
        """Count a scrape."""
        self._scrapes[variant].inc()

    def collector_restarted(self) -> None:
        """Count a new start of the collector."""
        self._restarts.inc()

    def config_reloaded(self, *, is_good: bool) -> None:
        """Note that the configuration has been read, or could not be."""
        if self._reload is None:
            self._reload = (
                _gauge("fal_exporter_config_last_reload_successful", self._registry),
                _gauge("fal_exporter_config_last_reload_success_timestamp_seconds", self._registry),
            )
        self._reload[0].set(is_good)
        if is_good:
            self._reload[1].set_to_current_time()

    def published(
        self,
        at: datetime,
        *,
        ready: bool,
        role: Role = "alone",
        problems: Collection[str] = (),
        owned: int | None = None,
    ) -> None:
        """Note the snapshot that is served from now on, and what is to be said of the replica that serves it.

        Args:
            at: when the snapshot was made.
            ready: whether it has figures.
            role: of the replica.
            problems: what is wrong with it.
            owned: how many accounts it asks fal for; None where that is not divided.
        """
        if role != "alone":
            if self._replica is None:
                self._replica = (
                    _gauge("fal_exporter_leader", self._registry),
                    _gauge("fal_exporter_replica_problem", self._registry),
                )
            leader, problem = self._replica
            leader.set(role == "leader")
            for reason in REPLICA_PROBLEMS:
                problem.labels(reason).set(reason in problems)
        if owned is not None:
            if self._owned is None:
                self._owned = _gauge("fal_exporter_accounts_owned", self._registry)
            self._owned.set(owned)
        if self._snapshot_at is None:
            self._snapshot_at = _gauge("fal_exporter_snapshot_timestamp_seconds", self._registry)
        self._snapshot_at.set(at.timestamp())
        self._ready.set(ready)

    def rendered(self) -> Rendered:
        """Return the families as they stand; reads files, takes a millisecond or two, may be called in a thread."""
        for setting, file in self._access_files.items():
            self._is_access_file_good.labels(setting).set(not file.problem)
        return rendered(self._registry)


def _gauge(name: str, registry: CollectorRegistry) -> Gauge:
    family = CATALOGUE[name]
    return Gauge(name, family.help, family.labels, registry=registry)


class _Answer(NamedTuple):
    """A whole answer as ASGI messages; a server only reads them, so every scrape sends the same ones."""

    start: Message
    body: tuple[Message, ...]


class _Format(NamedTuple):
    """A publication in one format."""

    rendering: Rendering
    gzip: bytes  # a member that lacks its end


class Metrics:
    """Holds the answers to all variants of a scrape.

    Args:
        tail: the web process's own families, at first.
        on_scrape: is told, once each, the numbers of the publications that a scrape has been answered from.
        count: is told the variant of every scrape.
        on_protobuf: is told, once a publication, that protobuf was asked for and the publication lacks it.
    """

    def __init__(
        self,
        tail: Rendered,
        *,
        on_scrape: Callable[[int], None],
        count: Callable[[Variant], None],
        on_protobuf: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_scrape = on_scrape
        self._on_protobuf = on_protobuf
        self._asked: int | None = None
        self._count = count
        self._negotiation = Negotiation()
        self._sequence: int | None = None
        self._scraped: int | None = None
        self._tail = tail
        self._answers: dict[Variant, _Answer] = {}
        self._show(Exposition())

    def publish(self, sequence: int, exposition: Exposition) -> None:
        """Serve an exposition from now on."""
        self._sequence = sequence
        self._show(exposition)

    def refresh(self, tail: Rendered) -> None:
        """Serve these families of the web process from now on."""
        self._tail = tail
        self._answer()

    def _show(self, exposition: Exposition) -> None:
        self._formats: dict[Format, _Format] = {
            "text": _format(exposition.text),
            "openmetrics": _format(exposition.openmetrics),
        }
        if exposition.protobuf.pieces:
            self._formats["protobuf"] = _format(exposition.protobuf)
        self._answer()

    def _answer(self) -> None:
        tails: dict[Format, bytes] = {
            "text": self._tail.text,
            "openmetrics": self._tail.openmetrics + END,
            "protobuf": self._tail.protobuf,
        }
        answers: dict[Variant, _Answer] = {}
        for name, served in self._formats.items():
            whole, tail = served.rendering, tails[name]
            plain = (*(piece.plain for piece in whole.pieces), tail)
            packed = served.gzip + gzip_end(tail, checksum=whole.checksum, length=whole.length)
            content_type = _CONTENT_TYPES[name]
            answers[Variant(name, gzip=False)] = _answer(plain, content_type)
            answers[Variant(name, gzip=True)] = _answer((packed,), content_type, encoding="gzip")
        self._answers = answers

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer a request."""
        method = scope["method"]
        if method not in {"GET", "HEAD"}:
            for message in _NOT_ALLOWED:
                await send(message)
            return
        accept = accept_encoding = b""
        for name, value in scope["headers"]:
            if name == b"accept":
                accept += b"," + value
            elif name == b"accept-encoding":
                accept_encoding += b"," + value
        variant = self._negotiation.variant(accept, accept_encoding)
        if variant not in self._answers:
            variant = self._instead(variant, accept)
        sequence, answer = self._sequence, self._answers[variant]
        await send(answer.start)
        if method == "HEAD":
            await send(_NO_BODY)
            return
        for message in answer.body:
            await send(message)
        self._count(variant)
        if sequence is not None and sequence != self._scraped:
            self._scraped = sequence
            self._on_scrape(sequence)

    def _instead(self, variant: Variant, accept: bytes) -> Variant:
        """Have protobuf written from now on; until it is, answer in what the client likes second best."""
        if self._sequence is not None and self._asked != self._sequence:
            self._asked = self._sequence
            self._on_protobuf()
        return Variant("openmetrics" if wants_openmetrics(accept.decode("latin-1")) else "text", variant.gzip)


def _format(rendering: Rendering) -> _Format:
    return _Format(rendering, gzip_start(piece.deflated for piece in rendering.pieces))


def _answer(chunks: tuple[bytes, ...], content_type: str, *, encoding: str = "") -> _Answer:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % sum(map(len, chunks))),
        (b"vary", b"Accept, Accept-Encoding"),
        # An old answer would be taken for the present state; the tail changes too often for a validator to help.
        (b"cache-control", b"no-store"),
    ]
    if encoding:
        headers.append((b"content-encoding", encoding.encode()))
    last = len(chunks) - 1
    return _Answer(
        {"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers},
        tuple(
            {"type": "http.response.body", "body": chunk, "more_body": number < last}
            for number, chunk in enumerate(chunks)
        ),
    )


_NO_BODY: Message = {"type": "http.response.body", "body": b""}
_REFUSAL = b"use GET or HEAD\n"
_NOT_ALLOWED: tuple[Message, Message] = (
    {
        "type": "http.response.start",
        "status": HTTPStatus.METHOD_NOT_ALLOWED,
        "headers": [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(_REFUSAL)),
            (b"allow", b"GET, HEAD"),
        ],
    },
    {"type": "http.response.body", "body": _REFUSAL},
)
