"""The settings, each with its default and what it means; the documentation's table and the flags are made from here."""

import hashlib
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exporter.charges import nano
from exporter.settings.credentials import Account
from exporter.settings.entries import AccountEntry, AccountName, BudgetEntry, CreditFloor
from exporter.settings.fields import (
    BaseUrl,
    BookedColumn,
    BookedSource,
    CostServices,
    Duration,
    Endpoints,
    EventsUrl,
    ExtraLabels,
    HeaderFields,
    History,
    HostNames,
    Hours,
    Key,
    KeyPath,
    Labels,
    LedgerUrl,
    ListenAddress,
    ListenAddressOrOff,
    PushUrl,
    Secret,
    Size,
    Sources,
    Tags,
    TokensPath,
    WebConfigPath,
    WebOrigins,
    Zone,
    between,
    one_of,
)
from exporter.settings.parsing import DEFAULT_LABELS, PUSH_FORMATS, PUSH_VERSIONS, Listen

LogFormat = Literal["text", "json"]
Machines = Literal["auto", "true", "false"]
PushFormat = Literal["csv", "csv.gz", "csv.zst", "parquet"]
PushVersion = Literal["1.2", "1.3", "1.4"]
OtlpProtocol = Literal["http", "grpc"]
LogLevel = Literal["debug", "info", "warning", "error"]


OF_ONE_REPLICA = frozenset(
    {
        *("listen", "open", "allowed_hosts", "web_config_file", "metrics_tokens_file", "access_log"),
        *("rest_tokens_file", "rest_cors_origins", "mcp_listen", "mcp_allowed_hosts", "mcp_tokens_file"),
        *("log_format", "log_level", "config_file", "replicated"),
        *("platform_url", "reporting_url", "allow_http", "ledger_url", "ledger_read_url"),
        *("remote_write_ca_file", "remote_write_cert_file", "remote_write_key_file"),
    }
)
"""Settings that replicas need not have in common: of their own servers and logs, files, and ways to others."""

_OF_ACCOUNTS = frozenset({"key", "key_file", "account", "entries", "sources", "credit_floor"})


def _seconds(count: int) -> timedelta:
    return timedelta(seconds=count)


class SettingFields(BaseSettings):  # type: ignore[explicit-any]  # in the initialiser mypy derives from pydantic's base
    """Everything a user can set. Durations are `timedelta`, sizes bytes; an optional setting that is not given is None.

    Built by `exporter.settings.load_settings`, which names a problem's setting as the user wrote it. Built directly, as
    tests do, it takes its values from the arguments alone and never looks at the environment.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_ignore_empty=True,
        enable_decoding=False,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    entry_type: ClassVar[type[AccountEntry]] = AccountEntry

    key: Key | None = Field(default=None, description="API key of the fal account to poll, `key_id:key_secret`.")
    key_file: KeyPath | None = Field(
        default=None,
        description="File that contains the key, instead of `FAL_KEY`; reloaded when it changes.",
    )
    config_file: Path | None = Field(
        default=None,
        description="Configuration file in YAML (`.yaml`, `.yml`) or TOML (`.toml`). It can contain every other "
        "setting, and only it can list `accounts` and `budgets`.",
    )
    account: AccountName = Field(
        default="default",
        description="Name of the account that `FAL_KEY` or `FAL_KEY_FILE` belongs to: its `account` label.",
    )
    entries: tuple[AccountEntry, ...] = Field(
        default=(),
        validation_alias="accounts",
        description="Accounts to poll, if there are several: a list of `name`, exactly one of `key`, `key_file` and "
        "`key_env`, and optionally `sources` and `credit_floor`.",
    )
    budgets: tuple[BudgetEntry, ...] = Field(
        default=(),
        description="Spending limits: a list of `name`, `amount` and optionally `period`, `timezone`, `match` and "
        "`thresholds`; see Budgets and forecasts.",
    )
    sources: Sources = Field(
        default=None,
        description="Sources to poll: any of `models,serverless,compute`, or exactly one of `organization`, "
        "`reporting` and `focus` (the FOCUS report of enterprise accounts). `auto` selects everything that the key "
        "can read, except `focus`.",
    )
    credit_floor: CreditFloor = Field(
        default=Decimal(0),
        description="Balance in US dollars at which fal locks the account, which is not always 0. Runway and alerts "
        "count down to it. Each entry of `accounts` can have its own.",
    )
    platform_url: BaseUrl = Field(default="https://api.fal.ai/v1", description="Base URL of fal's platform API.")
    reporting_url: BaseUrl = Field(
        default="https://rest.alpha.fal.ai",
        description="Base URL of fal's reporting API. If the default cannot be reached or lacks a call, "
        "`https://rest.fal.ai` is tried as well.",
    )
    allow_http: bool = Field(
        default=False,
        description="Allow base URLs that begin with `http://` and lead to other machines. The key then travels "
        "unencrypted, so this is for simulators and proxies inside a trusted network only.",
    )
    listen: ListenAddress = Field(
        default=Listen("0.0.0.0", 8080),  # noqa: S104  an exporter is scraped from outside its container
        description="Address to listen on, `host:port`; an empty host means all IPv4 addresses.",
    )
    mcp_listen: ListenAddressOrOff = Field(
        default=Listen("0.0.0.0", 9090),  # noqa: S104  as above
        description="Address for MCP to listen on, `host:port`; `off` disables MCP. If the default port is in use, "
        "for example by a Prometheus on the same machine, `serve` logs a warning and continues without MCP.",
    )
    mcp_allowed_hosts: HostNames = Field(
        default=(),
        description="Host names under which agents may reach MCP, comma-separated, in addition to `localhost` and IP "
        "addresses: those of a Kubernetes service or a proxy, such as `fal-exporter.monitoring.svc`. `*.svc` allows "
        "every name that ends in `.svc`, `*` any name.",
    )
    rest_tokens_file: TokensPath | None = Field(
        default=None,
        description="File of hashed tokens, one per line (created by `fal-exporter token`), that give access to REST "
        "and the landing page. Reloaded when it changes. If unset, see `OPEN`.",
    )
    metrics_tokens_file: TokensPath | None = Field(
        default=None,
        description="File of hashed tokens that give access to `/metrics`, as for REST. If unset, none is required.",
    )
    mcp_tokens_file: TokensPath | None = Field(
        default=None,
        description="File of hashed tokens that give access to MCP, as for REST. If unset, see `OPEN`.",
    )
    web_config_file: WebConfigPath = Field(
        default=None,
        description="Web configuration in the format of Prometheus exporters: TLS, users with bcrypt hashes, headers "
        "and a rate limit for all that is served. Also `--web.config.file`. Reloaded when it changes.",
    )
    open: bool = Field(
        default=False,
        description="Answer REST, the landing page and MCP to every caller, without tokens or users. If unset, callers "
        "without credentials are answered only if they run on this machine; `/metrics` and probes are always open.",
    )
    allowed_hosts: HostNames = Field(
        default=(),
        description="Host names under which callers without credentials may reach REST and the landing page, "
        "comma-separated, in addition to `localhost` and IP addresses; `*.svc` and `*` as in `MCP_ALLOWED_HOSTS`.",
    )
    rest_cors_origins: WebOrigins = Field(
        default=(),
        description="Origins whose web pages may call REST from a browser, comma-separated, such as "
        "`https://finops.example.com`; `*` allows any. If unset, none may.",
    )
    ledger_url: LedgerUrl = Field(
        default="sqlite:///fal-exporter.sqlite",
        validate_default=True,
        description="Database of the ledger. For a SQLite file, three slashes precede a path relative to the working "
        "directory, four an absolute one; the container image sets `sqlite:////data/ledger.sqlite`. PostgreSQL is "
        "`postgresql://user:password@host/database` and needs the extra `postgresql`; `postgres://` means the same, "
        "and `?host=/var/run/postgresql` connects through a Unix socket. Several servers, of which the one that takes "
        "writes is used, are `postgresql://user:password@a,b:5433/database?target_session_attrs=read-write`.",
    )
    ledger_read_url: LedgerUrl | None = Field(
        default=None,
        description="Standby of the ledger's PostgreSQL that answers the questions of REST and MCP in its place, such "
        "as `postgresql://user:password@standby/database`. While it is gone, promoted, or more than a minute behind, "
        "the ledger itself answers.",
    )
    replicated: bool = Field(
        default=False,
        description="Share a ledger in PostgreSQL with other exporters of the same configuration: one of them "
        "collects, all serve its figures, and another takes its place within seconds when it ends; see Scale.",
    )
    divide_polling: bool = Field(
        default=False,
        description="Have every replica ask fal for its share of the accounts, and not the one that collects for all "
        "of them; needs `FAL_EXPORTER_REPLICATED`, see Scale.",
    )
    poll_interval: Annotated[Duration, between("10s", "1h")] = Field(
        default=_seconds(300), description="Interval between polls of the current hour and the previous one."
    )
    history: Annotated[History, between("1h", "90d")] = Field(
        default=None,
        description="How much history to load at the first start, at most 90d; `auto` loads it from the start of the "
        "previous month.",
    )
    timezone: Zone = Field(
        default=ZoneInfo("UTC"),
        description='IANA time zone of "today" and "month" in the gauges; the ledger itself is kept in UTC.',
    )
    labels: Labels = Field(
        default=DEFAULT_LABELS,
        description="Labels of the charge metrics, comma-separated; `environment`, `api_key`, `member` and `surge` "
        "can be added, and all but `account` can be left out.",
    )
    tags: Tags = Field(
        default=(),
        description="Keys of tags (`X-Fal-Tags`) by which to allocate spend, comma-separated, such as "
        "`customer,feature`: each becomes a label `tag_...` of `fal_tagged_spend_usd_total`, and `tag:...` in REST, "
        "MCP and budgets. If unset, fal is not asked for tags.",
    )
    max_series: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Maximum number of label combinations of charges; further ones are folded into `__other__`.",
    )
    series_birth_hold: Annotated[Duration, between("0s", "1h")] = Field(
        default=_seconds(120),
        description="How long a new series stays at 0 before it shows its value; at least two scrape intervals.",
    )
    openmetrics_created: bool = Field(
        default=True,
        description="Tell in OpenMetrics when each counter began (`_created` lines). Off: half the lines of counters; "
        "the text format has none, and protobuf tells it in the counter itself.",
    )
    settle_delay: Annotated[Hours, between("1h", "30d")] = Field(
        default=timedelta(hours=48), description="Age at which an hour counts as settled."
    )
    retention: Annotated[Hours, between("62d", "3650d")] = Field(
        default=timedelta(days=400),
        description="Age at which hourly charges are folded into totals; counters are not affected.",
    )
    events: bool = Field(
        default=False,
        description="Read every charged request of model endpoints (fal's billing events), keep them in a store of "
        "their own, and compare their sums with the ledger. Needs the extra `events`; see Requests.",
    )
    events_url: EventsUrl | None = Field(
        default=None,
        description="Store of requests: `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`, "
        "`az://container/prefix` or `clickhouse://user:password@host:8123/database`. If unset, the folder `requests` "
        "beside a ledger in SQLite.",
    )
    events_retention: Annotated[Hours, between("2d", "3650d")] = Field(
        default=timedelta(days=400), description="Age at which requests are deleted, by whole days."
    )
    booked_source: BookedSource | None = Field(
        default=None,
        description="What you booked for requests, to be compared with what fal charged: a file (`.csv`, `.parquet`, "
        "`.json`, `.jsonl`), LiteLLM's `https://` base (its key in `LITELLM_API_KEY`), or its database, "
        "`postgresql://...`. Needs `FAL_EXPORTER_EVENTS`; see Reconcile.",
    )
    booked_id: BookedColumn | None = Field(
        default=None, description="Column of the request id in what you booked; in JSON a path with dots."
    )
    booked_amount: BookedColumn | None = Field(default=None, description="Column of the amount in US dollars in it.")
    booked_time: BookedColumn | None = Field(default=None, description="Column of the time in it.")
    booked_interval: Annotated[Duration, between("15m", "7d")] = Field(
        default=timedelta(hours=6), description="Interval between comparisons with what you booked."
    )
    focus_push_url: PushUrl | None = Field(
        default=None,
        description="Where to write the current and the previous month as FOCUS files: `file:///folder`, "
        "`s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, with credentials from the environment. "
        "Object stores need the extra `events`. If unset, nothing is written; see FOCUS.",
    )
    focus_push_format: Annotated[PushFormat, one_of(*PUSH_FORMATS)] = Field(
        default="csv.gz",
        description="Format of these files: `csv`, `csv.gz`, `csv.zst` or `parquet` (extra `polars`).",
    )
    focus_push_version: Annotated[PushVersion, one_of(*PUSH_VERSIONS)] = Field(
        default="1.2", description="Version of FOCUS of these files: `1.2`, `1.3` or `1.4`."
    )
    focus_upload: CostServices = Field(
        default=(),
        description="Cost services to upload the current and the previous month to, comma-separated: `datadog` (keys "
        "in `DD_API_KEY`, `DD_APP_KEY`; `DD_SITE`), `vantage` (`VANTAGE_API_TOKEN`, `VANTAGE_INTEGRATION_TOKEN`).",
    )
    focus_push_interval: Annotated[Duration, between("15m", "7d")] = Field(
        default=timedelta(hours=6), description="Interval between pushes of FOCUS files, and between uploads."
    )
    remote_write_url: BaseUrl | None = Field(
        default=None,
        description="Prometheus remote write endpoint to send hourly samples to, each at its true hour, such as "
        "`https://mimir.example.com/api/v1/push`. Needs the extra `remote-write`. If unset, nothing is sent.",
    )
    remote_write_interval: Annotated[Duration, between("10s", "1d")] = Field(
        default=_seconds(60), description="Interval between remote writes; one that has nothing to send sends nothing."
    )
    remote_write_reach: Annotated[Hours, between("0s", "90d")] = Field(
        default=timedelta(days=31),
        description="How far back the endpoint takes samples (its `out_of_order_time_window`): how much history is "
        "sent at first, and how old an hour may be that is corrected in place; older ones are with the next hour.",
    )
    remote_write_user: str | None = Field(
        default=None, description="User name for basic authentication at the endpoint; needs `REMOTE_WRITE_PASSWORD`."
    )
    remote_write_password: Secret | None = Field(default=None, description="Password of that user.")
    remote_write_token: Secret | None = Field(
        default=None, description="Bearer token for the endpoint, instead of a user and a password."
    )
    remote_write_headers: HeaderFields | None = Field(
        default=None,
        description="Headers of these requests, `Name=value` separated by commas, such as `X-Scope-OrgID=team`.",
    )
    remote_write_labels: ExtraLabels = Field(
        default=(),
        description="Labels that every sample is given besides its own, `name=value` separated by commas, such as "
        "`cluster=prod`.",
    )
    remote_write_ca_file: Path | None = Field(
        default=None,
        description="Certificate authorities in PEM that the endpoint is trusted by, instead of the system's.",
    )
    remote_write_cert_file: Path | None = Field(
        default=None, description="Certificate in PEM that the exporter shows to the endpoint."
    )
    remote_write_key_file: Path | None = Field(
        default=None, description="Key of that certificate, where it is not in the same file."
    )
    otlp_url: BaseUrl | None = Field(
        default=None,
        description="OpenTelemetry receiver to send metrics to, with its path where the protocol is `http`, such as "
        "`http://collector:4318/v1/metrics`. Needs the extra `otlp`. If unset, nothing is sent; see OTLP.",
    )
    otlp_protocol: Annotated[OtlpProtocol, one_of("http", "grpc")] = Field(
        default="http", description="Protocol of that receiver: `http` (protobuf) or `grpc`."
    )
    otlp_interval: Annotated[Duration, between("10s", "1h")] = Field(
        default=_seconds(60), description="Interval at which metrics are sent to it."
    )
    balance_interval: Annotated[Duration, between("10s", "1d")] = Field(
        default=_seconds(60), description="Interval between polls of the credit balance and the lock state."
    )
    invoice_interval: Annotated[Duration, between("1m", "7d")] = Field(
        default=timedelta(hours=6),
        description="Interval between polls of the invoices, and between reconciliations with what fal bills.",
    )
    names_interval: Annotated[Duration, between("1m", "7d")] = Field(
        default=timedelta(hours=1), description="Interval between polls of the names of API keys and teams."
    )
    machines: Annotated[Machines, one_of("auto", "true", "false")] = Field(
        default="auto",
        description="Read settings, runners, queues and requests of your own apps, hourly, to tell what idle runners "
        "cost: `auto` if the key may read them, `true` to make a refusal a failed poll, `false` not at all.",
    )
    price_models: Endpoints = Field(
        default=(),
        description="Model endpoints whose list prices to poll every `INVOICE_INTERVAL`, comma-separated, such as "
        "`fal-ai/flux/dev,fal-ai/veo3`; for accounts whose sources do not report prices (`organization`, `reporting`, "
        "or none).",
    )
    recent_window: Annotated[Hours, between("2h", "31d")] = Field(
        default=timedelta(hours=48), description="Window that is read again every hour to pick up late charges."
    )
    deep_window: Annotated[Hours, between("1d", "90d")] = Field(
        default=timedelta(days=8),
        description="Window that is read again every day to pick up late charges and corrections.",
    )
    request_timeout: Annotated[Duration, between("1s", "10m")] = Field(
        default=_seconds(30),
        description="Maximum time to wait for a connection to fal, or for the next part of a response.",
    )
    request_concurrency: int = Field(
        default=4, ge=1, le=64, description="Maximum number of concurrent requests per account."
    )
    total_request_concurrency: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Maximum number of concurrent requests of all accounts together; those that wait take turns by "
        "account.",
    )
    request_rate: int = Field(
        default=50, ge=1, le=1000, description="Maximum number of requests a second per account, in the long run."
    )
    total_request_rate: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Maximum number of requests a second of all accounts together, in the long run; five seconds' "
        "worth may begin at once.",
    )
    request_attempts: int = Field(
        default=5, ge=1, le=20, description="Maximum number of attempts at a request before its poll fails."
    )
    poll_deadline: Annotated[Duration, between("1s", "1h")] = Field(
        default=_seconds(240), description="Maximum duration of a poll, including all its pages and retries."
    )
    page_size: int = Field(default=1000, ge=1, le=10_000, description="Number of rows to request per page.")
    max_answer_size: Size = Field(default=32 * 2**20, description="Maximum size of a response from fal, decompressed.")
    log_format: Annotated[LogFormat, one_of("text", "json")] = Field(
        default="text", description="Format of the log: `text` or `json`."
    )
    log_level: Annotated[LogLevel, one_of("debug", "info", "warning", "error")] = Field(
        default="info", description="Minimum level to log: `debug`, `info`, `warning` or `error`."
    )
    access_log: bool = Field(default=False, description="Log every HTTP request.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the names are pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the arguments alone: `load_settings` joins the layers and remembers each value's origin."""
        return (init_settings,)

    @property
    def remote_write_secrets(self) -> tuple[SecretStr, ...]:
        """Credentials for remote write, which are in no log."""
        found = (self.remote_write_password, self.remote_write_token)
        return tuple(secret for secret in found if secret is not None)

    @property
    def requests_url(self) -> str:
        """URL of the store of requests; empty where they are not read, or there is no place for them."""
        if not self.events:
            return ""
        if self.events_url is not None:
            return self.events_url.get_secret_value()
        address = self.ledger_url.get_secret_value()
        if not address.startswith("sqlite"):
            return ""
        folder = Path(address.partition(":///")[2]).absolute().parent / "requests"
        return folder.as_uri()

    @cached_property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts to poll: those of the file, or the one of `key` or `key_file`; at least one."""
        # Both have been checked; a key that is being rotated in this moment is a matter for its source.
        alone = self.entry_type.model_construct(name=self.account, key=self.key, key_file=self.key_file)
        entries = self.entries or (alone,)
        return tuple(
            Account(
                name=entry.name,
                sources=entry.sources if "sources" in entry.model_fields_set else self.sources,
                key=entry.key_source(),
                credit_floor=nano(self.credit_floor if entry.credit_floor is None else entry.credit_floor),
            )
            for entry in entries
        )

    @property
    def replica_digest(self) -> str:
        """A digest of what replicas must have in common, whichever of them collects; no secret is in it.

        Only what is not at its default counts, so that versions with more settings agree where nobody has set these.
        """
        found: dict[str, object] = {
            "accounts": [(account.name, account.sources, account.credit_floor) for account in self.accounts]
        }
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in OF_ONE_REPLICA | _OF_ACCOUNTS and value != field.default:
                # A secret is shown as one. Where a store of requests is must be the same, not how one gets in.
                found[name] = _place(value) if name == "events_url" else repr(value)
        return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16]


def _place(address: SecretStr) -> str:
    parts = urlsplit(address.get_secret_value())
    return f"{parts.scheme}://{parts.hostname}{parts.path}"
