from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import ConfigurationError
from exporter.settings import Listen, Settings, listening_address, load_settings
from exporter.settings.loading import read_file

MARKUP = "ab:-[]{}'=#&*!|>%@,\\\n\t \x00" + '"'


def test_an_empty_file_holds_no_settings(tmp_path: Path) -> None:
    for name in ("empty.yaml", "empty.yml", "empty.toml", "EMPTY.YAML"):
        path = tmp_path / name
        path.write_text("")
        assert read_file(path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1, b: 2}",
        "a: [{b: 1}, {c: 1, c: 2}]",
        "a: 1\na: 2",
    ],
)
def test_a_key_given_twice_is_refused_at_any_depth(text: str, tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^has a duplicate key at line \d, column \d+$"):
        read_file(path)


@pytest.mark.parametrize("number", ["010", "-07", "0x10", "0b11", "1:30", "190:20:30", "1:30.5", "0_10"])
def test_a_number_that_yaml_does_not_read_as_it_looks_is_refused(number: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"budgets:\n  - amount: {number}\n")
    with pytest.raises(ValueError, match=r"^has a number at line 2, column 13 that .*put it in quotes$") as caught:
        read_file(path)
    assert number not in str(caught.value).replace("010 is 8, 0x10 is 16, 1:30 is 90", "")
    path.write_text(f'budgets:\n  - amount: "{number}"\n')
    assert read_file(path) == {"budgets": [{"amount": number}]}


def test_a_number_whose_last_digits_would_be_lost_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("amount: 123456789012.123456789")
    with pytest.raises(ValueError, match=r"^has a number at line 1, column 9 that has more digits than can be kept"):
        read_file(path)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("10", 10),
        ("-7", -7),
        ("1_000", 1000),
        ("0.10", 0.1),
        ("1500.50", 1500.5),
        ("1_0.5", 10.5),
        ("1.5e+3", 1500),
    ],
)
def test_plain_numbers_are_read_as_they_look(text: str, number: float, tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(f"\ufeffvalue: {text}\n", encoding="utf-8")
    assert read_file(path) == {"value": number}


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []", "? {a: 1}\n: b", "a: *id:secret", "[" * 1500])
def test_yaml_that_is_more_than_data_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^is not valid YAML") as caught:
        read_file(path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".yaml", ".toml"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), st.text(MARKUP, max_size=40).map(str.encode)))
def test_any_content_is_settings_or_one_sentence(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        found = read_file(path)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017  some content is settings
    else:
        assert all(isinstance(name, str) for name in found)


TESTDATA = Path(__file__).parent / "testdata"
KEY = "key-id:key-secret-value"
NO_DURATION = "is not a duration; write it like 90s, 5m, 1h30m or 30d"


def problems(**flags: object) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(flags)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "bad-unknown-setting.yaml",
            ["poll_intervall is not a setting of the configuration file; did you mean poll_interval?"],
        ),
        (
            "bad-environment-name.yaml",
            ["FAL_EXPORTER_LISTEN is not a setting of the configuration file; did you mean listen?"],
        ),
        (
            "bad-config-file-in-file.yaml",
            ["config_file is not a setting of the configuration file; see docs/configuration.md"],
        ),
        (
            "bad-values.yaml",
            [
                'platform_url: "api.fal.ai/v1" is not an http or https URL; write it like https://api.fal.ai/v1',
                'listen: "8080" is not an address to listen on; write it like 0.0.0.0:8080, :8080 or [::]:8080',
                'poll_interval: "300" has no unit; write it like 90s, 5m, 1h30m or 30d',
                'timezone: "Berlin" is not an IANA time zone; did you mean Europe/Berlin?',
                'labels: "model,app" leaves out account, which distinguishes the accounts; add it',
                'max_series: "many" is not a whole number',
                'settle_delay: "90m" is not a whole number of hours; fal\'s charges are hourly',
                'max_answer_size: "64" is not between 1KiB and 4GiB',
                'log_level: "loud" is not one of debug, info, warning, error',
                'access_log: "perhaps" is neither true nor false',
            ],
        ),
        (
            "bad-contradiction.yaml",
            [
                (
                    "recent_window (10d) is longer than FAL_EXPORTER_DEEP_WINDOW (8d); "
                    "shorten the first or lengthen the second"
                )
            ],
        ),
        (
            "bad-overlap.yaml",
            [
                (
                    'sources: "organization,models" combines organization with models, serverless or compute; '
                    "organization contains what they report, so charges would be counted twice: keep either "
                    "organization or the others"
                )
            ],
        ),
    ],
)
@pytest.mark.usefixtures("in_testdata")
def test_every_bad_value_in_a_file_is_named_by_file_and_key(
    file: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    assert problems(config_file=file) == [f"{file}: {line}" for line in expected]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("bad-syntax.yaml", "is not valid YAML at line 4, column 1"),
        ("bad-syntax.toml", "is not valid TOML at line 2, column 7"),
        ("bad-twice.yaml", "has a duplicate key at line 3, column 1"),
        ("bad-list.yaml", "is not a mapping of settings; write it like poll_interval: 5m"),
        ("bad-suffix.json", "has an unknown file name extension; use .yaml, .yml or .toml"),
        ("bad-encoding.yaml", "is not UTF-8 text"),
        ("absent.yaml", "cannot be read: no such file or directory"),
    ],
)
@pytest.mark.usefixtures("in_testdata")
def test_a_file_that_cannot_be_read_is_named_with_the_setting_that_names_it(
    file: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert problems(config_file=file) == [f'--config-file: "{file}" {expected}']
    monkeypatch.setenv("FAL_EXPORTER_CONFIG_FILE", file)
    assert problems() == [f'FAL_EXPORTER_CONFIG_FILE: "{file}" {expected}']


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "bad-accounts.yaml",
            [
                "accounts[0].name: is empty; an account's name becomes the value of the account label",
                "accounts[1]: has no key; give exactly one of key, key_file and key_env",
                "accounts[2]: has key and key_file; give exactly one of key, key_file and key_env",
                "accounts[3].kye: is not a setting of an account; did you mean key?",
                "accounts[4].name: is missing; add it",
                (
                    'accounts[5].key: starts with an authorization scheme such as "Key"; give only the key, '
                    "key_id:key_secret"
                ),
                'accounts[6].key_file: "absent.key" cannot be read: no such file or directory',
                (
                    'accounts[7].key_file: "quoted.key" is a file whose content has quotes around the key; '
                    "give the key without them"
                ),
                'accounts[8].key_env: "NO_SUCH_VARIABLE" names an environment variable that is not set',
                (
                    'accounts[9].sources: "reporting,models" combines reporting with another source; each reports the '
                    "same spend, so charges would be counted twice: keep either reporting or the others"
                ),
                "accounts[10]: is not an account; an account has a name and one of key, key_file and key_env",
            ],
        ),
        (
            "bad-accounts-mapping.yaml",
            ["accounts: is not a list; each of its entries has a name and one of key, key_file and key_env"],
        ),
        (
            "bad-same-name.yaml",
            ['accounts: the name "studio {1}" is given to 2 accounts; give each account its own name'],
        ),
    ],
)
@pytest.mark.usefixtures("in_testdata")
def test_every_bad_account_is_named_by_its_place(file: str, expected: list[str]) -> None:
    assert problems(config_file=file) == [f"{file}: {line}" for line in expected]


@pytest.mark.parametrize("file", ["good-single.yaml", "good-single.toml"])
@pytest.mark.usefixtures("in_testdata")
def test_yaml_and_toml_say_the_same(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    settings = load_settings({"config_file": file})
    assert settings.accounts[0].name == "production"
    assert settings.accounts[0].sources == ("models", "serverless")
    assert settings.poll_interval.total_seconds() == 60
    assert settings.history is not None
    assert settings.history.days == 30
    assert settings.timezone.key == "Europe/Berlin"
    assert settings.labels == ("account", "model", "app", "gpu_class")
    assert settings.listen == Listen("::1", 9000)
    assert settings.max_answer_size == 16 * 2**20
    assert settings.access_log is True


@pytest.mark.usefixtures("in_testdata")
def test_accounts_of_a_file_have_their_own_keys_and_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEGACY_FAL_KEY", "legacy-id:legacy-secret-value")
    accounts = load_settings({"config_file": "good-accounts.yaml"}).accounts
    assert [(account.name, account.sources, account.key().get_secret_value()) for account in accounts] == [
        ("studio", ("organization",), "studio-id:studio-secret-value"),
        ("research", ("models", "serverless"), "research-id:research-secret-value"),
        ("legacy", None, "legacy-id:legacy-secret-value"),
    ]


def test_a_command_without_keys_needs_none_of_what_a_file_names(tmp_path: Path) -> None:
    file = tmp_path / "good-accounts.yaml"
    file.write_text((TESTDATA / file.name).read_text(encoding="utf-8"), encoding="utf-8")
    accounts = load_settings({"config_file": file}, needs_keys=False).accounts
    assert [(account.name, account.sources) for account in accounts] == [
        ("studio", ("organization",)),
        ("research", ("models", "serverless")),
        ("legacy", None),
    ]


def test_a_command_without_keys_has_the_account_that_serve_would_poll() -> None:
    (account,) = load_settings({"account": "studio"}, needs_keys=False).accounts
    assert account.name == "studio"


@pytest.mark.usefixtures("in_testdata")
def test_an_empty_file_leaves_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    settings = load_settings({"config_file": "good-empty.yaml"})
    assert settings.listen == Listen("0.0.0.0", 8080)  # noqa: S104  named, not bound
    assert settings.history is None


def test_flags_go_before_the_environment_before_the_file_before_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("poll_interval: 1m\nrequest_timeout: 11s\nbalance_interval: 2m\n")
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv("FAL_EXPORTER_CONFIG_FILE", str(file))
    monkeypatch.setenv("FAL_EXPORTER_POLL_INTERVAL", "2m")
    monkeypatch.setenv("FAL_EXPORTER_REQUEST_TIMEOUT", "12s")
    settings = load_settings({"poll_interval": "3m"})
    durations = (
        settings.poll_interval,
        settings.request_timeout,
        settings.balance_interval,
        settings.poll_deadline,
    )
    assert [duration.total_seconds() for duration in durations] == [180, 12, 120, 240]


def test_a_problem_is_named_as_the_layer_that_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("poll_interval: soon\n")
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv("FAL_EXPORTER_CONFIG_FILE", str(file))
    assert problems() == [f'{file}: poll_interval: "soon" {NO_DURATION}']
    monkeypatch.setenv("FAL_EXPORTER_POLL_INTERVAL", "later")
    assert problems() == [f'FAL_EXPORTER_POLL_INTERVAL: "later" {NO_DURATION}']
    assert problems(poll_interval="now") == [f'--poll-interval: "now" {NO_DURATION}']


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("FAL_EXPORTER_POL_INTERVAL", "; did you mean FAL_EXPORTER_POLL_INTERVAL?"),
        ("FAL_EXPORTER_KEY", "; did you mean FAL_KEY?"),
        ("FAL_EXPORTER_KEY_FILE", "; did you mean FAL_KEY_FILE?"),
        ("FAL_EXPORTER_QWXZ", "; see docs/configuration.md"),
        ("FAL_EXPORTER_ACCOUNTS", "; list accounts in a file named by FAL_EXPORTER_CONFIG_FILE"),
        ("FAL_EXPORTER_PORT", "; "),
    ],
)
def test_an_unknown_variable_is_an_error_that_suggests_the_nearest(
    variable: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv(variable, "8080")
    (problem,) = problems()
    assert problem.startswith(f"{variable} is not a setting{meant}")


def test_the_service_links_of_kubernetes_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    for name, value in {
        "FAL_EXPORTER_SERVICE_HOST": "10.0.0.7",
        "FAL_EXPORTER_SERVICE_PORT": "8080",
        "FAL_EXPORTER_SERVICE_PORT_HTTP": "8080",
        "FAL_EXPORTER_PORT": "tcp://10.0.0.7:8080",
        "FAL_EXPORTER_PORT_8080_TCP": "tcp://10.0.0.7:8080",
        "FAL_EXPORTER_PORT_8080_TCP_PROTO": "tcp",
        "FAL_EXPORTER_PORT_8080_TCP_ADDR": "10.0.0.7",
        "FAL_EXPORTER_METRICS_SERVICE_HOST": "10.0.0.8",
    }.items():
        monkeypatch.setenv(name, value)
    assert load_settings({}).accounts[0].name == "default"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv("FAL_EXPORTER_POLL_INTERVAL", "")
    assert load_settings({}).poll_interval.total_seconds() == 300


def test_a_variable_without_prefix_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    for name in ("ACCOUNTS", "LISTEN", "KEY"):
        monkeypatch.setenv(name, "not ours")
    assert load_settings({}).listen == Listen("0.0.0.0", 8080)  # noqa: S104  named, not bound


def test_no_key_at_all_says_where_one_is_given() -> None:
    assert problems() == [
        "no key is set; set FAL_KEY or FAL_KEY_FILE, or list accounts in the file that FAL_EXPORTER_CONFIG_FILE names"
    ]


@pytest.mark.usefixtures("in_testdata")
def test_two_ways_to_one_key_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    assert problems(key_file="research.key") == ["FAL_KEY and --key-file are both set; keep only one of them"]
    monkeypatch.setenv("LEGACY_FAL_KEY", "legacy-id:legacy-secret-value")
    assert problems(config_file="good-accounts.yaml") == [
        "FAL_KEY and good-accounts.yaml: accounts are both set; keep only one of them"
    ]


def test_several_problems_are_told_at_once_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_EXPORTER_POL_INTERVAL", "1m")
    monkeypatch.setenv("FAL_EXPORTER_RETENTION", "30d")
    assert problems(history="91d") == [
        "FAL_EXPORTER_POL_INTERVAL is not a setting; did you mean FAL_EXPORTER_POLL_INTERVAL?",
        '--history: "91d" is not between 1h and 90d',
        'FAL_EXPORTER_RETENTION: "30d" is not between 62d and 3650d',
    ]


MISPLACED = "misplaced-id:misplaced-secret-value"


@pytest.mark.parametrize("field", [name for name in Settings.model_fields if name != "entries"])
def test_a_key_in_the_wrong_place_is_never_repeated(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    for value in (
        MISPLACED,
        f"Key {MISPLACED}",
        f'"{MISPLACED}"',
        f"{MISPLACED},models",
        f"https://{MISPLACED}@fal.ai",
    ):
        for flags in ({field: value}, {"config_file": _file(tmp_path, field, value)}):
            try:
                settings = load_settings(flags)
            except ConfigurationError as error:
                assert "misplaced-secret-value" not in f"{error} {error!r}"  # noqa: PT017  not every field refuses it
            else:
                assert field == "account" or "misplaced-secret-value" not in repr(settings)


def _file(folder: Path, field: str, value: str) -> str:
    path = folder / "settings.toml"
    path.write_text(f"{field} = '{value}'\n")
    return str(path)


@pytest.mark.usefixtures("in_testdata")
def test_no_key_of_a_good_or_bad_file_is_ever_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEGACY_FAL_KEY", "legacy-id:legacy-secret-value")
    shown = ""
    for file in sorted(path.name for path in TESTDATA.iterdir()):
        try:
            settings = load_settings({"config_file": file})
        except ConfigurationError as error:
            shown += f"{error}{error!r}"
        else:
            shown += f"{settings!r}{settings.accounts!r}{settings.model_dump_json(exclude={'timezone'})}"
    assert len(shown) > 2000
    assert "secret-value" not in shown


def test_the_listening_address_is_known_even_when_other_settings_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_EXPORTER_POLL_INTERVAL", "wrong")
    assert listening_address() == Listen("0.0.0.0", 8080)  # noqa: S104  named, not bound
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", "[::]:81")
    assert listening_address() == Listen("::", 81)
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", "wrong")
    with pytest.raises(ConfigurationError, match=r"^FAL_EXPORTER_LISTEN: is not an address"):
        listening_address()
