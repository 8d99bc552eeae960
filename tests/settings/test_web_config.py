"""A table of web configurations: those that are taken, and the exact sentence that each of the others gives.

The files are in the folder beside; the certificates that they name are made for each run.
"""

# ruff: noqa: E501  sentences stand whole in the table
import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import NEWER_RULERS, required

from exporter.errors import ConfigurationError
from exporter.settings import load_settings
from exporter.settings.web_config import (
    CLIENT_AUTHENTICATION,
    HEADERS,
    VERSIONS,
    checked_web_config,
    read_web_config,
    tls_context,
)

FILES = Path(__file__).parent / "web_config"
GOOD = sorted(path.stem for path in (FILES / "good").iterdir())

BOTH = "both"
"""A newer promtool refuses the file as well; else it stands here why only we do."""

BAD = [
    (
        "unknown_section",
        "has an error in line 1: tls_config is not a key of the file, which has tls_server_config, basic_auth_users, http_server_config, rate_limit",
        BOTH,
    ),
    ("unknown_key", "has an error in line 4: certfile is not a key of tls_server_config, which has *", BOTH),
    ("section_is_a_list", "has an error in line 2: basic_auth_users is not a mapping of keys to values", BOTH),
    ("file_is_a_text", "has an error in line 1: the file is not a mapping of keys to values", BOTH),
    ("no_yaml", "is not valid YAML in line 2", BOTH),
    ("key_twice", "has an error in line 4: cert_file is given twice", BOTH),
    ("no_certificate", "has an error in line 2: tls_server_config has neither cert_file nor cert", BOTH),
    ("no_key", "has an error in line 2: tls_server_config has neither key_file nor key", BOTH),
    (
        "certificate_twice",
        "has an error in line 4: cert and cert_file are both set; keep only one of them",
        "ours: promtool takes the file then",
    ),
    (
        "certificate_is_not_there",
        'names the certificate "*/nowhere.pem", which cannot be read: no such file or directory',
        BOTH,
    ),
    ("key_is_not_there", 'names the key "*/nowhere.key", which cannot be read: no such file or directory', BOTH),
    (
        "certificate_is_no_pem",
        (
            'names the certificate "*/text.txt" and the key "*/server.key", one of which is not a PEM file, or has a '
            "passphrase"
        ),
        BOTH,
    ),
    (
        "key_of_another_certificate",
        'names the key "*/other.key", which does not belong to the certificate "*/server.pem"',
        BOTH,
    ),
    (
        "authority_without_client_authentication",
        "has an error in line 2: a client CA is set, but client_auth_type does not request client certificates",
        BOTH,
    ),
    (
        "authority_is_not_there",
        'names the client CA "*/nowhere.pem", which cannot be read: no such file or directory',
        BOTH,
    ),
    (
        "authority_is_no_pem",
        'names the client CA "*/text.txt", which is not a PEM file with a certificate',
        "ours: promtool takes a file without a certificate for an authority that signs nothing",
    ),
    (
        "client_authentication_without_authority",
        "has an error in line 4: client_auth_type RequireAndVerifyClientCert needs client_ca_file or client_ca",
        "ours: promtool leaves the choice to the authorities of the system, which sign for anybody",
    ),
    (
        "unknown_client_authentication",
        "has an error in line 4: client_auth_type has the unknown value 'Sometimes'; it can be NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert",
        BOTH,
    ),
    (
        "unverified_client_certificates",
        "has an error in line 4: client_auth_type RequireAnyClientCert takes any certificate without verifying it, which proves nothing and is not offered here; use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
        "ours: the TLS of Python has no such thing",
    ),
    (
        "names_without_client_authentication",
        "has an error in line 4: client_allowed_sans is set, but client_auth_type does not request client certificates",
        "ours: promtool does not look at them then",
    ),
    (
        "unknown_version",
        "has an error in line 4: min_version has the unknown value 'TLS14'; it can be TLS10, TLS11, TLS12, TLS13",
        BOTH,
    ),
    (
        "versions_in_the_wrong_order",
        "has an error in line 4: min_version is newer than max_version, so no client could connect",
        "ours: promtool does not compare them",
    ),
    (
        "unknown_cipher",
        "has an error in line 4: cipher_suites has the unknown value 'TLS_WITH_ROT13'; it can be *",
        BOTH,
    ),
    (
        "ciphers_that_no_version_has",
        "has an error in line 5: cipher_suites contains only those of TLS 1.3, but max_version is below that",
        "ours: promtool does not compare them",
    ),
    ("unknown_curve", "has an error in line 4: curve_preferences has the unknown value 'CurveP255'; it can be *", BOTH),
    ("preference_is_no_flag", "has an error in line 4: prefer_server_cipher_suites is neither true nor false", BOTH),
    ("ciphers_are_no_list", "has an error in line 5: cipher_suites is not a list of texts", BOTH),
    (
        "password_in_clear",
        "has an error in line 2: the password of 'prometheus' is not a bcrypt hash; create one with `htpasswd -nBC 10 prometheus`",
        BOTH,
    ),
    (
        "hash_too_short",
        "has an error in line 2: the password of 'prometheus' is not a bcrypt hash; *",
        "ours: promtool reads only the cost of a hash",
    ),
    (
        "user_with_a_colon",
        "has an error in line 2: a user name is empty or has a colon, which no client can send",
        "ours: promtool does not look at the name",
    ),
    ("unknown_header", "has an error in line 3: the header Server cannot be set; those that can are *", BOTH),
    ("header_value", "has an error in line 3: the header X-Frame-Options can be deny or sameorigin", BOTH),
    ("interval", "has an error in line 2: interval is not a duration; write it like 90s, 5m, 1h30m or 30d", BOTH),
    ("burst", "has an error in line 3: burst is not a whole number above 0", BOTH),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str, str], str]) -> Path:
    """A copy of the files, with certificates beside them."""
    made = tmp_path_factory.mktemp("web")
    for kind in ("good", "bad"):
        shutil.copytree(FILES / kind, made / kind)
        for name in ("server", "clients", "other"):
            subprocess.run(
                [
                    *(program("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                    *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
                    *("-keyout", str(made / kind / f"{name}.key"), "-out", str(made / kind / f"{name}.pem")),
                ],
                check=True,
                capture_output=True,
            )
    (made / "text.txt").write_text("no certificate\n")
    return made


@pytest.mark.parametrize("name", GOOD)
def test_files_that_can_be_used(name: str, folder: Path) -> None:
    path = folder / "good" / f"{name}.yaml"
    assert checked_web_config(path) == path


@pytest.mark.parametrize(("name", "sentence", "_"), BAD, ids=[name for name, _, _ in BAD])
def test_files_that_cannot_be_used_give_one_sentence_with_the_line(
    name: str, sentence: str, _: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=r"an error in line|names the|is not valid YAML") as raised:
        checked_web_config(folder / "bad" / f"{name}.yaml")
    assert fnmatchcase(str(raised.value), sentence.replace("[", "[[]")), str(raised.value)


def test_every_file_is_in_the_table() -> None:
    assert sorted(path.stem for path in (FILES / "bad").iterdir()) == sorted(name for name, _, _ in BAD)


def test_promtool_takes_and_refuses_the_same_files(folder: Path) -> None:
    judge = required("promtool3", NEWER_RULERS)

    def is_taken(path: Path) -> bool:
        return subprocess.run([judge, "check", "web-config", path], capture_output=True, check=False).returncode == 0

    assert [name for name in GOOD if not is_taken(folder / "good" / f"{name}.yaml")] == []
    found = {name: is_taken(folder / "bad" / f"{name}.yaml") for name, _, _ in BAD}
    assert found == {name: kind != BOTH for name, _, kind in BAD}


def test_what_a_file_says(folder: Path) -> None:
    tls = read_web_config(folder / "good" / "client_certificates.yaml").tls
    assert tls is not None
    assert tls.certificate.path == folder / "good" / "server.pem"
    assert (tls.client_authentication, tls.allowed_sans) == (ssl.CERT_REQUIRED, {"prometheus.example.com"})
    assert (tls.oldest, tls.newest) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    context = tls_context(tls)
    assert (context.verify_mode, context.minimum_version) == (ssl.CERT_REQUIRED, ssl.TLSVersion.TLSv1_2)
    assert context.cert_store_stats()["x509"] == 1
    limit = read_web_config(folder / "good" / "rate_limit.yaml").rate_limit
    assert limit is not None
    assert (limit.interval.total_seconds(), limit.burst) == (0.1, 5)
    assert read_web_config(folder / "good" / "headers.yaml").headers.keys() == HEADERS.keys()


def test_ciphers_of_the_file_are_those_that_are_offered(folder: Path) -> None:
    tls = read_web_config(folder / "good" / "ciphers_and_curve.yaml").tls
    assert tls is not None
    offered = {cipher["name"] for cipher in tls_context(tls).get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert offered == {"ECDHE-ECDSA-AES128-GCM-SHA256"}


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_certificates_can_stand_in_the_file(
    place: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_folder(*_: object, **__: object) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    if place == "memory":
        # As in a container whose disks cannot be written to.
        monkeypatch.setattr(tempfile, "NamedTemporaryFile", no_folder)
    else:
        monkeypatch.delattr(os, "memfd_create")
    before = len(list(Path("/proc/self/fd").iterdir()))

    def indented(name: str) -> str:
        return "".join(f"    {line}\n" for line in (folder / "good" / name).read_text().splitlines())

    path = tmp_path / "web.yaml"
    path.write_text(f"tls_server_config:\n  cert: |\n{indented('server.pem')}  key: |\n{indented('server.key')}")
    assert checked_web_config(path) == path
    tls = read_web_config(path).tls
    assert tls is not None
    assert "PRIVATE" not in repr(tls)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_empty_flag_is_no_file_as_in_every_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", "key_id:key_secret")
    assert load_settings({"web_config_file": ""}).web_config_file is None


def test_hashes_are_not_shown(folder: Path) -> None:
    config = read_web_config(folder / "good" / "users.yaml")
    assert list(config.users) == ["prometheus", "finops"]
    assert "$2b" not in repr(config)


def test_the_setting_names_the_file_and_what_is_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "bad" / "no_key.yaml"
    monkeypatch.setenv("FAL_KEY", "id:secret")
    monkeypatch.setenv("FAL_EXPORTER_WEB_CONFIG_FILE", str(path))
    with pytest.raises(ConfigurationError) as raised:
        load_settings({})
    setting, _, sentence = str(raised.value).partition("has an error")
    assert setting.startswith("FAL_EXPORTER_WEB_CONFIG_FILE: ")
    assert sentence == " in line 2: tls_server_config has neither key_file nor key"


@given(
    st.dictionaries(
        st.sampled_from(["tls_server_config", "basic_auth_users", "http_server_config", "rate_limit", "other"]),
        st.none()
        | st.text(max_size=5)
        | st.lists(st.text(max_size=3), max_size=2)
        | st.dictionaries(
            st.sampled_from(["cert_file", "key", "client_auth_type", "headers", "burst", "interval", "min_version"]),
            st.none() | st.sampled_from([*CLIENT_AUTHENTICATION, *VERSIONS, "x", "1s", "-1", "[]"]),
            max_size=3,
        ),
        max_size=3,
    )
)
def test_whatever_stands_in_a_file_it_is_taken_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]
) -> None:
    import yaml  # noqa: PLC0415  writes the example

    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(content))
    try:
        checked_web_config(path)
    except ValueError as error:
        assert re.match(r"has an error in line \d+: |names the |is not valid YAML", str(error))  # noqa: PT017
