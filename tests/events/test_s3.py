"""The store on a real S3 server."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from e2e.processes import free_port, wait_until
from events.requests_of import HOUR_13, costs
from events.requests_of import request as request_of
from local_http import HTTP
from programs import S3

from exporter.charges import HOUR
from exporter.events.questions import RequestsQuestion
from exporter.events.store import open_reader, open_store


@pytest.fixture
def s3(program: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    port = free_port()
    ports = [f"-{kind}.port={free_port()}" for kind in ("master", "volume", "filer")]
    grpc = [f"-{kind}.port.grpc={free_port()}" for kind in ("master", "volume", "filer", "s3")]
    (tmp_path / "data").mkdir()
    command = [program("weed", S3), "server", f"-dir={tmp_path}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += ["-s3", f"-s3.port={port}", *ports, *grpc]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    def has_a_bucket() -> bool:
        try:
            return HTTP.put(f"http://127.0.0.1:{port}/requests", timeout=10).is_success
        except httpx.HTTPError:
            return False

    try:
        wait_until(has_a_bucket, "the S3 server has made a bucket")
        yield "s3://requests/fal"
    finally:
        server.kill()  # what it holds is for this test alone, and it takes half a minute to say goodbye
        server.wait(20)


@pytest.mark.long
def test_requests_are_kept_and_found_in_an_object_store(s3: str) -> None:
    writer = open_store(s3)
    for number in range(3):
        hour = HOUR_13 + number * HOUR
        read_at = hour + 2 * HOUR
        writer.keep_part("default", hour, read_at, 0, [request_of(10 * number, hour=hour)])
        writer.keep_hour("default", hour, read_at, 1, [request_of(10 * number + 1, 5, hour=hour)])
        writer.drop_stale("default", hour.date())
    reader = open_reader(s3)
    question = RequestsQuestion(HOUR_13, HOUR_13 + 9 * HOUR)
    before = costs(reader.select(question))
    assert len(before) == 6
    assert writer.compact("default", HOUR_13.date())
    assert costs(reader.select(question)) == before
    found = reader.find("id-21")
    assert found is not None
    assert found.request.cost == 5
    assert writer.days("default") == (HOUR_13.date(),)
    reader.close()
    writer.close()
