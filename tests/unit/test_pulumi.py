"""The Pulumi program of docs/deploy asks AWS for what its page promises: who reaches what, and who knows what."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from cli.containers import secrets
from cli.credentials import Credentials
from tests.conftest import CHECKOUT

WORLD = "0.0.0.0/0"
PROGRAM = CHECKOUT / "docs" / "deploy" / "pulumi"
#: How Pulumi marks a secret on its way to the engine.
SIGNATURE = "4dabf18193072939515e22adb298388d"


@dataclass(frozen=True)
class Resource:
    type: str
    name: str
    inputs: dict[str, Any]


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    command = [sys.executable, "-m", "tests.unit.pulumi_program"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Resource(**each) for each in json.loads(done.stdout)]


def of(resources: list[Resource], kind: str) -> dict[str, dict[str, Any]]:
    """The inputs of each resource of a kind by its name: `ec2/subnet`."""
    found = {each.name: each.inputs for each in resources if each.type.startswith(f"aws:{kind}:")}
    assert found, kind
    return found


def in_clear(value: Any) -> str:
    """All of it but the secrets."""
    if isinstance(value, dict):
        return "" if SIGNATURE in value else " ".join(map(in_clear, value.values()))
    return " ".join(map(in_clear, value)) if isinstance(value, list) else str(value)


def user_data(resources: list[Resource], kind: str) -> str:
    return base64.b64decode(of(resources, "ec2/launchTemplate")[kind]["userData"]).decode()


def test_only_the_load_balancer_is_open_to_the_world(resources: list[Resource]) -> None:
    rules = of(resources, "vpc/securityGroupIngressRule").values()
    open_ones = [each for each in rules if "referencedSecurityGroupId" not in each]
    found = {(each["securityGroupId"], each["fromPort"], each["toPort"]) for each in open_ones}
    assert found == {("id:balancer", 443, 443), ("id:balancer", 80, 80)}
    assert all(each.get("cidrIpv4", WORLD) == WORLD for each in rules)
    assert not any("ingress" in each or "egress" in each for each in of(resources, "ec2/securityGroup").values())
    assert "ingress" not in of(resources, "ec2/defaultSecurityGroup")["nobody"]


def test_a_server_is_reached_by_those_who_need_it(resources: list[Resource]) -> None:
    reached: dict[str, set[str]] = {}
    for each in of(resources, "vpc/securityGroupIngressRule").values():
        if source := each.get("referencedSecurityGroupId"):
            reached.setdefault(each["securityGroupId"].removeprefix("id:"), set()).add(source.removeprefix("id:"))
    working = {"api", "data", "email", "file", "monitor"}
    assert reached == {
        "api": {"balancer"},
        "mysql": {*working, "webhooks", "operator"},
        "rabbitmq": {*working, "operator"},
        "redis": working,
        "storage": working,
    }


def test_the_world_comes_by_tls(resources: list[Resource]) -> None:
    listeners = of(resources, "lb/listener")
    assert (listeners["https"]["port"], listeners["https"]["protocol"]) == (443, "HTTPS")
    assert "TLS13" in listeners["https"]["sslPolicy"]
    [action] = listeners["http"]["defaultActions"]
    assert (listeners["http"]["port"], action["type"], action["redirect"]["protocol"]) == (80, "redirect", "HTTPS")
    [rule] = of(resources, "lb/listenerRule").values()
    assert rule["conditions"] == [{"pathPattern": {"values": ["/metrics"]}}]
    assert rule["actions"][0]["fixedResponse"]["statusCode"] == "404"


def test_only_the_load_balancer_is_in_public_subnets(resources: list[Resource]) -> None:
    public = {f"id:{name}" for name in of(resources, "ec2/subnet") if name.startswith("public")}
    assert {*of(resources, "lb/loadBalancer")["sluice"]["subnets"]} == public
    used = [
        *(group["vpcZoneIdentifiers"] for group in of(resources, "autoscaling/group").values()),
        of(resources, "rds/subnetGroup")["mysql"]["subnetIds"],
        of(resources, "elasticache/subnetGroup")["redis"]["subnetIds"],
        of(resources, "mq/broker")["rabbitmq"]["subnetIds"],
        [target["subnetId"] for target in of(resources, "efs/mountTarget").values()],
    ]
    assert not {subnet for subnets in used for subnet in subnets} & public
    assert not any("mapPublicIpOnLaunch" in subnet for subnet in of(resources, "ec2/subnet").values())


def test_private_subnets_have_no_way_in(resources: list[Resource]) -> None:
    for name, table in of(resources, "ec2/routeTable").items():
        assert ("gatewayId" in table["routes"][0]) == (name == "public")


def test_servers_are_private_encrypted_and_twofold(resources: list[Resource]) -> None:
    [mysql], [broker] = of(resources, "rds/instance").values(), of(resources, "mq/broker").values()
    [redis] = of(resources, "elasticache/replicationGroup").values()
    [storage] = of(resources, "efs/fileSystem").values()
    assert mysql["publiclyAccessible"] is broker["publiclyAccessible"] is False
    assert mysql["storageEncrypted"] and storage["encrypted"]
    assert redis["atRestEncryptionEnabled"] and redis["transitEncryptionEnabled"]
    assert mysql["multiAz"] and redis["automaticFailoverEnabled"] and broker["deploymentMode"] == "CLUSTER_MULTI_AZ"
    assert mysql["deletionProtection"] and not mysql["skipFinalSnapshot"] and mysql["backupRetentionPeriod"] >= 7
    assert (mysql["vpcSecurityGroupIds"], broker["securityGroups"], redis["securityGroupIds"]) == (
        *(["id:mysql"], ["id:rabbitmq"], ["id:redis"]),
    )


def test_mysql_keeps_what_it_has_committed(resources: list[Resource]) -> None:
    [instance], [group] = of(resources, "rds/instance").values(), of(resources, "rds/parameterGroup").values()
    told = {each["name"]: each["value"] for each in group["parameters"]}
    assert (told["innodb_flush_log_at_trx_commit"], told["sync_binlog"]) == ("1", "1")
    assert told["require_secure_transport"] == "1"
    # From 8.0.36 on the master may grant XA_RECOVER_ADMIN.
    assert (instance["engine"], instance["engineVersion"], group["family"]) == ("mysql", "8.4", "mysql8.4")


def test_rabbitmq_waits_for_long_tasks(resources: list[Resource]) -> None:
    [configuration] = of(resources, "mq/configuration").values()
    ours = (CHECKOUT / "containers" / "rabbitmq.conf").read_text(encoding="utf-8")
    assert configuration["data"].strip() in ours.splitlines()


def test_no_secret_is_in_the_clear(resources: list[Resource]) -> None:
    kept = Credentials(mysql="canary-mysql", rabbitmq="canary-rabbitmq", redis="canary-redis", users="u")
    words = {kept.of(server, user) for server in ("mysql", "rabbitmq", "redis") for user in ("sluice", *_users(kept))}
    for each in resources:
        clear = in_clear(each.inputs)
        assert not [word for word in {*words, "canary"} if word in clear], (each.type, each.name)
    assert words & {*re.findall(r"[\w-]+", json.dumps([each.inputs for each in resources]))}, "they are somewhere"
    assert "password" not in of(resources, "rds/instance")["mysql"]


def _users(kept: Credentials) -> set[str]:
    return {*re.findall(r"\bsluice_\w+", " ".join(secrets.files(kept).values()))}


def test_user_data_hold_no_secret_and_are_a_script(resources: list[Resource]) -> None:
    for kind in of(resources, "ec2/launchTemplate"):
        script = user_data(resources, kind)
        assert script.startswith("#!/bin/bash\n")
        assert not re.search(r"canary|://[^/\s]+:[^/\s]+@", script), kind
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0, kind


def test_an_instance_reads_the_secrets_of_its_units_only(resources: list[Resource]) -> None:
    for kind, policy in of(resources, "iam/rolePolicy").items():
        [statement] = json.loads(policy["policy"])["Statement"]
        allowed = {arn.rpartition(":")[2] for arn in statement["Resource"]}
        script = user_data(resources, kind)
        [names] = re.findall(r"^SECRETS='(.*)'$", script, re.MULTILINE)
        besides = {"email": {"smtp_url"}, "operator": {"master"}}
        assert allowed == {*names.split()} | besides.get(kind, set())
        assert statement["Action"] == "secretsmanager:GetSecretValue"
        units = CHECKOUT / "docs" / "deploy" / "systemd"
        [started] = re.findall(r"^UNITS='(.*)'$", script, re.MULTILINE)
        for unit in started.split():
            text = (units / f"{re.sub('@.*', '@', unit)}.service").read_text(encoding="utf-8")
            assert {*re.findall(r"/etc/sluice/secrets/([\w.]+)", text)} == {*names.split()}, unit


def test_secrets_are_those_of_the_units_with_the_addresses_of_aws(resources: list[Resource]) -> None:
    versions = of(resources, "secretsmanager/secretVersion")
    texts = {name: version["secretString"]["value"] for name, version in versions.items()}
    ca = "ssl_ca=/etc/ssl/certs/rds.pem"
    assert re.fullmatch(rf"mysql\+pymysql://sluice_api:\w+@mysql.internal/sluice_ledger\?{ca}", texts["api_ledger_url"])
    assert re.fullmatch(r"amqps://sluice_worker:\w+@rabbitmq.internal:5671/sluice", texts["worker_broker_url"])
    assert re.fullmatch(r"rediss://sluice_monitor:\w+@redis.internal:6379/0", texts["monitor_redis_url"])
    assert not [name for name, text in texts.items() if re.search(r"@(mysql|rabbitmq|redis)[:/]", text)]
    assert ca in user_data(resources, "api").replace("RDS_CERTIFICATES='", "ssl_ca=")


def test_there_are_two_of_everything_in_several_zones(resources: list[Resource]) -> None:
    zones = {name: subnet["availabilityZone"] for name, subnet in of(resources, "ec2/subnet").items()}
    for kind, group in of(resources, "autoscaling/group").items():
        assert len({zones[subnet.removeprefix("id:")] for subnet in group["vpcZoneIdentifiers"]}) >= 2
        assert group["minSize"] >= (0 if kind == "operator" else 2), kind
    assert of(resources, "autoscaling/group")["api"]["targetGroupArns"]


def test_instances_guard_their_credentials_and_disks(resources: list[Resource]) -> None:
    for template in of(resources, "ec2/launchTemplate").values():
        assert template["metadataOptions"]["httpTokens"] == "required"
        [disk] = template["blockDeviceMappings"]
        assert disk["ebs"]["encrypted"] == "true"
        assert "keyName" not in template


def test_connections_are_kept_longer_than_the_load_balancer_keeps_them(resources: list[Resource]) -> None:
    [balancer] = of(resources, "lb/loadBalancer").values()
    [kept] = re.findall(r"^API_KEEP_ALIVE='(\d+)'$", user_data(resources, "api"), re.MULTILINE)
    assert int(kept) > balancer["idleTimeout"] > 30
    [targets] = of(resources, "lb/targetGroup").values()
    assert targets["healthCheck"]["path"] == "/readyz" and targets["deregistrationDelay"] > 30


def test_the_load_balancer_is_believed_about_its_clients(resources: list[Resource]) -> None:
    [told] = re.findall(r"^BALANCERS='(.*)'$", user_data(resources, "api"), re.MULTILINE)
    public = {net["cidrBlock"] for name, net in of(resources, "ec2/subnet").items() if name.startswith("public")}
    assert {*told.split(",")} == public


def test_every_value_of_the_configuration_is_asked_for_and_described() -> None:
    project = (PROGRAM / "Pulumi.yaml").read_text(encoding="utf-8")
    described = set(re.findall(r"^  sluice:(\w+):", project, re.MULTILINE))
    asked: set[str] = set()
    for path in PROGRAM.glob("*.py"):
        asked |= set(re.findall(r"config\.require\w*\(\"(\w+)\"\)", path.read_text(encoding="utf-8")))
    assert asked == described
