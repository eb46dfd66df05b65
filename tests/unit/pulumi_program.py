"""Runs the Pulumi program of docs/deploy with mocks in AWS's place, and prints what it asks for, as JSON.

    python -m tests.unit.pulumi_program

In a process of its own: Pulumi keeps its state in the module, and its program's files have names of their own.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks

PROGRAM = Path(__file__).resolve().parents[2] / "docs" / "deploy" / "pulumi"
#: What may come out nowhere but where secrets are kept.
CREDENTIALS = {"mysql": "canary-mysql", "rabbitmq": "canary-rabbitmq", "redis": "canary-redis", "users": "u"}
CONFIGURATION = {
    "aws:region": "eu-central-1",
    "sluice:ami": "ami-12345678",
    "sluice:certificateArn": "arn:aws:acm:eu-central-1:111122223333:certificate/one",
    "sluice:host": "sluice.example.com",
    "sluice:repository": "https://git.example.com/sluice.git",
    "sluice:version": "v1",
    "sluice:credentials": json.dumps(CREDENTIALS),
    "sluice:smtpUrl": "smtps://canary-mail@mail.example.com",
    "sluice:mailFrom": "sluice@example.com",
    "sluice:zones": "3",
    "sluice:databaseClass": "db.m7g.large",
    "sluice:brokerClass": "mq.m7g.large",
    "sluice:redisClass": "cache.t4g.small",
    "sluice:instanceType": "m7i.large",
}


class Aws(mocks.Mocks):
    """Gives each resource an id, and the addresses that others are made of."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.asked.append({"type": args.typ, "name": args.name, "inputs": args.inputs})
        given = {
            "name": args.name,
            "arn": f"arn:of:{args.typ}:{args.name}",
            "address": "mysql.internal",
            "masterUserSecrets": [{"secretArn": "arn:of:master"}],
            "primaryEndpointAddress": "redis.internal",
            "instances": [{"endpoints": ["amqps://rabbitmq.internal:5671"]}],
            "latestRevision": 1,
            "latestVersion": 1,
            "dnsName": "balancer.example.com",
        }
        return f"id:{args.name}", {**given, **args.inputs}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        return {"names": ["eu-central-1a", "eu-central-1b", "eu-central-1c"]}, []


def main() -> None:
    aws = Aws()
    sys.path.insert(0, str(PROGRAM))
    secret = ["sluice:credentials", "sluice:smtpUrl"]
    pulumi.runtime.set_all_config(CONFIGURATION, secret)
    mocks.set_mocks(aws, project="sluice", stack="tests")

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def run() -> None:
        runpy.run_path(str(PROGRAM / "__main__.py"))

    run()
    json.dump(aws.asked, sys.stdout)


if __name__ == "__main__":
    main()
