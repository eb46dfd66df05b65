"""The secrets, in Secrets Manager: what each kind of instance logs in with, which it alone may read.

They are the files of `make secrets`, by their names, with the addresses of the servers here. What they are made from
comes out of the stack's configuration, where Pulumi keeps it encrypted, and goes nowhere else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pulumi
import pulumi_aws as aws

sys.path.append(str(Path(__file__).resolve().parents[3]))

from cli.containers import secrets
from cli.credentials import Credentials

#: RDS's certificates, which user data fetches.
RDS_CERTIFICATES = "/etc/ssl/certs/rds.pem"
_SHARED = ("tasks_data_url", "tasks_databases")
_WORKER = ("worker_ledger_url", "worker_broker_url", "worker_redis_url", *_SHARED)
#: What the units of each kind of instance name.
OF_KIND: Mapping[str, tuple[str, ...]] = {
    "api": ("api_ledger_url", "api_broker_url", "api_redis_url", *_SHARED),
    "data": _WORKER,
    "email": _WORKER,
    "file": _WORKER,
    "monitor": ("monitor_ledger_url", "monitor_broker_url", "monitor_redis_url", *_SHARED),
    "webhooks": ("webhooks_ledger_url",),
    "operator": (
        *("set_up_ledger_url", "set_up_data_url", "set_up_databases", "rabbitmq_page_url"),
        *("mysql_users.sql", "rabbitmq_definitions.json"),
    ),
}
#: The user of RabbitMQ that Amazon MQ makes; the others come with the definitions.
BROKER_ADMIN = "sluice_admin"


def kept(config: pulumi.Config) -> pulumi.Output[Credentials]:
    return config.require_secret("credentials").apply(lambda text: Credentials(**json.loads(text)))


def build(
    credentials: pulumi.Output[Credentials],
    *,
    mysql: pulumi.Input[str],
    rabbitmq: pulumi.Input[str],
    redis: pulumi.Input[str],
) -> dict[str, aws.secretsmanager.Secret]:
    """Each secret by the name of its file."""
    texts = pulumi.Output.all(credentials, mysql, rabbitmq, redis).apply(lambda given: _texts(*given))
    built = {}
    for name in sorted({name for names in OF_KIND.values() for name in names}):
        built[name] = aws.secretsmanager.Secret(name, name=f"sluice/{name}", recovery_window_in_days=7)
        aws.secretsmanager.SecretVersion(name, secret_id=built[name].id, secret_string=texts[name])
    return built


def _texts(credentials: Credentials, mysql: str, rabbitmq: str, redis: str) -> dict[str, str]:
    def moved(name: str, text: str) -> str:
        if name.endswith(("_ledger_url", "_data_url", "_databases")):
            return f"{text.replace('@mysql/', f'@{mysql}/')}?ssl_ca={RDS_CERTIFICATES}"
        return (
            text.replace("amqp://", "amqps://")
            .replace("@rabbitmq/", f"@{rabbitmq}:5671/")
            .replace("http://", "https://")
            .replace("@rabbitmq:15672", f"@{rabbitmq}")
            .replace("redis://", "rediss://")
            .replace("@redis/", f"@{redis}:6379/")
        )

    return {name: moved(name, text) for name, text in secrets.files(credentials).items()}
