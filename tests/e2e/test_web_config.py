"""A real Prometheus scrapes `fal-exporter serve` over TLS, with a client certificate and as a user."""

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import bcrypt
import httpx
import pytest
import trustme
import yaml
from e2e.processes import exporter_of, fal_in_a_thread, free_port, wait_until
from local_http import HTTP

PASSWORD = "a scrape a second"  # noqa: S105  of a test


@pytest.mark.long
def test_prometheus_scrapes_by_mutual_tls_as_a_user(tmp_path: Path, program: Callable[[str, str], str]) -> None:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
    client = authority.issue_cert("prometheus.example.com", key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    for name, made in (("server", server), ("client", client)):
        made.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    (tmp_path / "password").write_text(PASSWORD)
    web_config = {
        "tls_server_config": {
            "cert_file": "server.pem",
            "key_file": "server.key",
            "client_ca_file": "authority.pem",
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_allowed_sans": ["prometheus.example.com"],
        },
        "basic_auth_users": {"prometheus": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()},
    }
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(web_config))
    port, prometheus_port = free_port(), free_port()
    scrape = {
        "job_name": "fal",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "scheme": "https",
        "basic_auth": {"username": "prometheus", "password_file": "password"},
        "tls_config": {"ca_file": "authority.pem", "cert_file": "client.pem", "key_file": "client.key"},
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    with (
        fal_in_a_thread() as fal,
        exporter_of(fal, tmp_path) as exporter,
        (tmp_path / "prometheus.log").open("wb") as log,
    ):
        exporter.port = port
        exporter.start("--web.config.file", "web.yaml")
        process = subprocess.Popen(
            [
                program("prometheus", "prometheus"),
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{prometheus_port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:

            def is_scraped() -> bool:
                try:
                    query = {"query": 'fal_exporter_scrapes_total{job="fal"} > 0 and on () up{job="fal"} == 1'}
                    answer = HTTP.get(f"http://127.0.0.1:{prometheus_port}/api/v1/query", params=query)
                except httpx.TransportError:
                    return False
                return bool(answer.is_success and answer.json()["data"]["result"])

            wait_until(is_scraped, "Prometheus scrapes it")
            trust = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
            trust.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
            answer = httpx.get(f"https://127.0.0.1:{port}/metrics", verify=trust, trust_env=False)
            assert answer.status_code == 401, "a certificate alone makes no user"
        finally:
            process.terminate()
            process.wait(20)
        assert exporter.stop() == 0
        assert f"https://127.0.0.1:{port}" in exporter.output
        assert PASSWORD not in exporter.output
