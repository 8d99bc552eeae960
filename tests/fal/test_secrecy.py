import logging

import pytest
from fal.conftest import KEY, Answer, Bench, Fal, as_json, bucket, model_row, page, refused

from exporter.charges import Window
from exporter.errors import FalExporterError
from exporter.fal.account import read_balance, read_invoices
from exporter.fal.sources import SOURCES, probe, usage_source

PATHS = [
    *("/v1/models/usage", "/v1/serverless/usage", "/v1/organization/usage", "/v1/account/billing"),
    *("/billing/usage", "/billing/user_balance", "/billing/invoices"),
]
ECHOES = [
    refused(401, f"bad {KEY}", f"Invalid key {KEY}", KEY),
    refused(403, "authorization_error", f"{KEY.partition(':')[2]} is not enabled"),
    as_json({"detail": f"User is locked. Reason: {KEY}"}, 403),
    Answer(status=302, headers=(("location", f"https://elsewhere/?key={KEY}"),)),
    Answer(KEY.encode(), 500),
    Answer(b" " * 4070 + KEY.encode()),
    Answer(b"x" * 45 + KEY.encode()),
    Answer(KEY.encode(), headers=(("content-encoding", "gzip"),)),
    Answer(b'{"time_series": [', promised=5000),
    as_json(page(bucket("2026-11-21T10:00:00Z", model_row(quantity=KEY), [KEY], KEY))),
    as_json({"usage": [{"model": KEY, "spend": KEY}, KEY]}),
    as_json([{"id": KEY}, KEY]),
    as_json(KEY),
]


@pytest.mark.parametrize("answer", ECHOES)
async def test_the_key_is_in_no_log_and_no_error_whatever_fal_echoes(  # noqa: PLR0917  pytest passes by name
    fal: Fal,
    bench: Bench,
    window: Window,
    answer: Answer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(
        logging.INFO, "httpcore"
    )  # at DEBUG it tells fal's headers word for word; exporter.logs forbids it
    caplog.set_level(logging.CRITICAL, "uvicorn")
    for path in PATHS:
        fal.plays(path, answer)
    client = bench.client(attempts=2)
    told: list[str] = [repr(client), repr(vars(client))]
    for ask in (
        *(usage_source(name, client).read(window, with_api_key=False) for name in SOURCES),
        read_balance(client),
        read_invoices(client),
    ):
        try:
            await ask
        except FalExporterError as error:
            told += [str(error), repr(error), repr(vars(error)), repr(error.__cause__), repr(error.args)]
    told += [repr(one) for one in await probe(client)]
    output = capfd.readouterr()
    secret = KEY.partition(":")[2]
    assert len(fal.requests) > len(PATHS)
    assert "Key" in fal.requests[0].headers["authorization"]
    for text in (*told, output.out, output.err, caplog.text):
        assert secret not in text
        assert secret[:12] not in text
