"""What the operator decided: one frozen object, read once from the environment and checked at boot.

Every value is a variable of the environment, a line of `.env`, or, for secrets, a file that `NAME_FILE` points to.
Nothing else in the house reads the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)


class SettingsError(Exception):
    """Some settings are wrong; the message lists each of them with its variable."""


def _words(value: Any) -> Any:
    """`"a, b"` from the environment as `("a", "b")`."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _named(listed: str) -> list[tuple[str, str]]:
    """`"a=url, b=url"` as pairs."""
    pairs = (each.partition("=") for each in listed.split(",") if each.strip())
    return [(name.strip(), url.strip()) for name, _, url in pairs]


#: The name of DATA_DATABASE_URL among the business databases.
DATA = "data"
_OF_SENTINELS = re.compile(r"redis\+sentinel://([^/@]*@)?[\w.-]+(:\d+)?(,[\w.-]+(:\d+)?)*/[\w.-]+(/\d+)?")
_DATABASE_NAME = re.compile(r"[a-z][a-z0-9]{0,19}")

Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Network = IPv4Network | IPv6Network


def _range_of_ports(word: str) -> range:
    """`443`, or `8000-8999`."""
    first, _, last = word.partition("-")
    found = range(int(first), int(last or first) + 1)
    if not found or found[0] < 1 or found[-1] > 65_535:
        raise ValueError
    return found


class Settings(BaseSettings):
    """The names on the right are the variables; `.env.example` says what each is for."""

    model_config = SettingsConfigDict(
        frozen=True, env_file=".env", extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    ledger_database_url: SecretStr = Field(alias="LEDGER_DATABASE_URL")
    data_database_url: SecretStr = Field(alias="DATA_DATABASE_URL")
    #: Further business databases: `name=url, name=url`.
    data_databases: SecretStr = Field(SecretStr(""), alias="DATA_DATABASES")
    broker_url: SecretStr = Field(alias="CELERY_BROKER_URL")
    result_backend: SecretStr = Field(alias="CELERY_RESULT_BACKEND")
    #: RabbitMQ's management interface, with its login; only the operator's commands ask it.
    rabbitmq_management_url: SecretStr = Field(SecretStr(""), alias="RABBITMQ_MANAGEMENT_URL")

    smtp_url: SecretStr = Field(SecretStr("smtp://localhost:25"), alias="SMTP_URL")
    mail_from: str = Field("sluice@localhost", alias="MAIL_FROM")
    #: The domains that mails may go to; any without one.
    mail_domains: Words = Field((), alias="SLUICE_MAIL_DOMAINS")
    storage_dir: Path = Field(Path("storage"), alias="SLUICE_STORAGE_DIR")
    tables: Words = Field(("data",), alias="SLUICE_TABLES")
    task_modules: Words = Field((), alias="SLUICE_TASK_MODULES")

    #: Seconds an attempt may stay silent before others take its task over.
    lease_seconds: float = Field(15.0, alias="SLUICE_LEASE_SECONDS", ge=1, le=3600)
    #: Seconds a stopped task has to notice by itself before its database connections are killed.
    stop_grace_seconds: float = Field(1.0, alias="SLUICE_STOP_GRACE_SECONDS", ge=0.1, le=60)
    #: Seconds a worker that was told to end lets running tasks go on.
    shutdown_grace_seconds: float = Field(10.0, alias="SLUICE_SHUTDOWN_GRACE_SECONDS", ge=1, le=3600)
    #: Tasks one worker runs side by side.
    concurrency: int = Field(2, alias="SLUICE_CONCURRENCY", ge=1, le=256)
    result_ttl_seconds: int = Field(86_400, alias="SLUICE_RESULT_TTL_SECONDS", ge=60)

    #: Days for which the ledger keeps what is over, and what failed. 0 keeps it for ever.
    keep_days: float = Field(30.0, alias="SLUICE_KEEP_DAYS", ge=0, le=36_500)
    keep_failed_days: float = Field(90.0, alias="SLUICE_KEEP_FAILED_DAYS", ge=0, le=36_500)

    #: What a webhook's URL may begin with, its ports, and the networks besides the public ones that it may lie in.
    webhook_schemes: Words = Field(("https",), alias="SLUICE_WEBHOOK_SCHEMES")
    webhook_ports: Words = Field(("443", "80"), alias="SLUICE_WEBHOOK_PORTS")
    webhook_networks: Words = Field((), alias="SLUICE_WEBHOOK_NETWORKS")

    #: The names that requests may call this service by in `Host`; any without one.
    hosts: Words = Field((), alias="SLUICE_HOSTS")
    #: The networks of proxies, which are believed about whom a request comes from.
    proxies: Words = Field((), alias="SLUICE_PROXIES")
    #: GET routes that change something, for clients of old; POST and DELETE always work.
    legacy_get: bool = Field(False, alias="SLUICE_LEGACY_GET")
    body_bytes: int = Field(262_144, alias="SLUICE_BODY_BYTES", ge=1024)
    batch_bytes: int = Field(8 << 20, alias="SLUICE_BATCH_BYTES", ge=1024)
    upload_bytes: int = Field(1 << 28, alias="SLUICE_UPLOAD_BYTES", ge=1024)

    #: Where tests arm the places of `failpoints`; none of them does anything without it.
    failpoint_dir: Path | None = Field(None, alias="SLUICE_FAILPOINT_DIR")

    #: Where a worker, a monitor or the webhooks process tells its figures; each has a port of its own. 0: nowhere.
    metrics_address: str = Field("127.0.0.1", alias="SLUICE_METRICS_ADDRESS")
    metrics_port: int = Field(0, alias="SLUICE_METRICS_PORT", ge=0, le=65_535)

    #: Where traces go, and the headers that let them in: `name=value, name=value`. Nowhere without an address.
    otlp_endpoint: str = Field("", alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    otlp_headers: SecretStr = Field(SecretStr(""), alias="OTEL_EXPORTER_OTLP_HEADERS")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", alias="SLUICE_LOG_LEVEL")
    log_format: Literal["json", "text"] = Field("json", alias="SLUICE_LOG_FORMAT")

    @field_validator("ledger_database_url", "data_database_url")
    @classmethod
    def _speaks_mysql(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith("mysql+pymysql://"):
            raise ValueError("must start with mysql+pymysql://")
        return url

    @field_validator("data_databases")
    @classmethod
    def _names_databases(cls, listed: SecretStr) -> SecretStr:
        for name, url in _named(listed.get_secret_value()):
            if not _DATABASE_NAME.fullmatch(name) or name == DATA:
                raise ValueError(f"{name!r}: expected a lower-case word of up to 20 letters and digits, not 'data'")
            if not url.startswith("mysql+pymysql://"):
                raise ValueError(f"{name}: its URL must start with mysql+pymysql://; expected name=url, name=url")
        return listed

    @property
    def databases(self) -> dict[str, str]:
        """The URLs of all business databases by name."""
        return {
            DATA: self.data_database_url.get_secret_value(),
            **dict(_named(self.data_databases.get_secret_value())),
        }

    @field_validator("broker_url")
    @classmethod
    def _speaks_amqp(cls, url: SecretStr) -> SecretStr:
        if not all(each.startswith(("amqp://", "amqps://")) for each in url.get_secret_value().split(";")):
            raise ValueError(
                "must start with amqp:// or amqps://: the queues are RabbitMQ's; "
                "the nodes of a cluster are separated by semicolons"
            )
        return url

    @property
    def broker_urls(self) -> tuple[str, ...]:
        """The nodes of the broker, in the order in which they are tried."""
        return tuple(self.broker_url.get_secret_value().split(";"))

    @field_validator("smtp_url")
    @classmethod
    def _speaks_smtp(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("smtp://", "smtps://")):
            raise ValueError("must start with smtp:// or smtps://")
        return url

    @field_validator("mail_domains")
    @classmethod
    def _in_one_spelling(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(domain.lower() for domain in domains)

    @field_validator("webhook_schemes")
    @classmethod
    def _are_of_http(cls, schemes: tuple[str, ...]) -> tuple[str, ...]:
        if not schemes or not {*schemes} <= {"https", "http"}:
            raise ValueError("expected https, or https, http")
        return schemes

    @field_validator("webhook_ports")
    @classmethod
    def _are_ports(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            try:
                _range_of_ports(word)
            except ValueError:
                raise ValueError(f"{word!r}: expected ports such as 443, or 8000-8999") from None
        return words

    @field_validator("otlp_endpoint")
    @classmethod
    def _speaks_http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url

    @property
    def otlp_header_map(self) -> dict[str, str]:
        return dict(_named(self.otlp_headers.get_secret_value()))

    @property
    def webhook_port_ranges(self) -> list[range]:
        return [_range_of_ports(word) for word in self.webhook_ports]

    @field_validator("webhook_networks", "proxies")
    @classmethod
    def _are_networks(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            try:
                ip_network(word)
            except ValueError as error:
                raise ValueError(f"{error}; expected networks such as 10.1.0.0/16") from None
        return words

    @property
    def webhook_private_networks(self) -> list[Network]:
        return [ip_network(word) for word in self.webhook_networks]

    @property
    def proxy_networks(self) -> list[Network]:
        return [ip_network(word) for word in self.proxies]

    @field_validator("tables")
    @classmethod
    def _leaves_ours_alone(cls, tables: tuple[str, ...]) -> tuple[str, ...]:
        if ours := [name for name in tables if name.lower().startswith("sluice_")]:
            raise ValueError(f"{', '.join(ours)}: tables of the protocol are not for tasks")
        return tables

    @field_validator("result_backend")
    @classmethod
    def _speaks_redis(cls, url: SecretStr) -> SecretStr:
        spelt = url.get_secret_value()
        if not spelt.startswith(("redis://", "rediss://", "unix://", "redis+sentinel://")):
            raise ValueError("must start with redis://, rediss://, unix:// or redis+sentinel://")
        if spelt.startswith("redis+sentinel://") and not _OF_SENTINELS.fullmatch(spelt):
            raise ValueError("expected redis+sentinel://user:password@host:26379,host:26379/name/0")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _NamedFiles(settings_cls), dotenv_settings


class _NamedFiles(PydanticBaseSettingsSource):
    """`NAME_FILE=/run/secrets/x` stands for `NAME=<what that file holds>`, as container platforms do it."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        try:
            return _held_by_file(field.alias), field.alias, False
        except (OSError, UnicodeDecodeError):
            # `load` tells of it, together with whatever else is wrong.
            return None, field.alias, False

    def __call__(self) -> dict[str, Any]:
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {alias: value for value, alias, _ in found if value is not None}


def load(**overrides: Any) -> Settings:
    """Read and check the settings; raises SettingsError with every fault in one message."""
    faults = [*_misspelt(), *_unreadable()]
    try:
        found = Settings(**overrides)
    except ValidationError as error:
        faults[:0] = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False)]
    else:
        if not faults:
            return found
    raise SettingsError("these settings are wrong:\n" + "\n".join(f"  {fault}" for fault in faults))


def _misspelt() -> Iterator[str]:
    known = variables() | _STACK_VARIABLES
    for name in sorted(os.environ):
        if name.startswith("SLUICE_") and name.removesuffix("_FILE") not in known:
            yield f"{name}: there is no such setting; .env.example lists them all"


def _unreadable() -> Iterator[str]:
    for name in sorted(variables()):
        try:
            _held_by_file(name)
        except (OSError, UnicodeDecodeError) as error:
            yield f"{name}_FILE: {error}"


def _held_by_file(name: str) -> str | None:
    """What the file holds that `NAME_FILE` points to; None without one."""
    path = os.environ.get(f"{name}_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else None


#: Variables of the local stack and its scripts, which the service itself does not read.
_STACK_VARIABLES = frozenset(
    {
        "SLUICE_URL",
        "SLUICE_API_KEY",
        "SLUICE_METRICS_KEY",
        "SLUICE_RUN_DIR",
        "SLUICE_STATE_DIR",
        "SLUICE_MAIL_DIR",
        "SLUICE_API_PORT",
        "SLUICE_FLOWER_PORT",
        "SLUICE_RABBITMQ_UI_PORT",
        "SLUICE_MAIL_UI_PORT",
        "SLUICE_DOOR_NETWORK",
        "SLUICE_GRAFANA_PORT",
    }
)


def variables() -> frozenset[str]:
    """The names of all variables that `Settings` knows."""
    return frozenset(str(field.alias) for field in Settings.model_fields.values())


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process."""
    return load()
